"""The distillation objective: a few steps of a cascade's stage instead of many.

By halving, it is a series of runs, one for each round, each with its own folder and checkpoints.
The teacher of the first is the cascade's own network under classifier-free guidance, at a scale
drawn for every sample; the student is told that scale (arXiv:2210.03142), and teaches the next.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from relay_diffusion.diffusion import Denoise, NoiseSchedule, guided
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import STUDENT_NOTE, max_tokens_of, part_folder
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import check_prepared
from relay_diffusion.training.cascade import LENT, read_cascade
from relay_diffusion.training.denoising import freeze
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source, as_in_training
from relay_diffusion.training.latents import context_of, prepared
from relay_diffusion.training.low_rank import constrain, write_rank
from relay_diffusion.training.matching import matching
from relay_diffusion.training.networks import (
    Networks,
    build_text_encoder,
    build_unet,
    build_vae,
    load_tokenizer,
    place,
    save_half,
)
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.preview import in_parts, side_by_side
from relay_diffusion.training.recipe import Model
from relay_diffusion.training.redrawing import Redrawing
from relay_diffusion.training.regression import regression
from relay_diffusion.training.rounds import DistillRecipe
from relay_diffusion.training.upscaling import prepared_with_low_resolution
from relay_diffusion.training.validation import HeldOutLoss


def distill(recipe: DistillRecipe, source: Source, device: torch.device) -> Objective:
    """The objective of a recipe with one round, as ``rounds_of`` makes them."""
    settings = recipe.objective
    torch.manual_seed(recipe.run.seed)
    folder = resolve(settings.teacher)
    index, scheduler = read_cascade(folder, "objective.teacher")
    prediction_type = scheduler.get("prediction_type", "epsilon")
    num_tokens = max_tokens_of(index)
    parts = {part: str(part_folder(folder, part)) for part in LENT}
    vae, text_encoder = build_vae(parts["vae"]), build_text_encoder(parts["text_encoder"], 0)
    tokenizer = load_tokenizer(parts["tokenizer"])
    first = str(part_folder(folder, f"{settings.stage}_unet"))
    path = str(recipe.model.unet) or first
    first_hash = network_hash(Path(first))
    (one,) = settings.rounds
    before = build_unet(path, 0, 0, "objective.teacher")
    own = before if path == first else build_unet(first, 0, 0, "objective.teacher")
    # Whose steps are learned, or, to match, whose distribution.
    teacher = own if one.matches else before
    told = teacher.config.time_cond_proj_dim is not None
    trained = {"unet": _told_guidance(before, settings.guidance_width)}
    if one.matches:
        trained["critic"] = _told_guidance(own, settings.guidance_width)
    if settings.rank:
        for learner in trained.values():
            constrain(learner, own.state_dict(), settings.rank)
    if recipe.run.dtype == "bfloat16":
        nn.Module.to(teacher, torch.bfloat16)  # only ever computed with; half the memory
    networks = Networks(vae, text_encoder, teacher, tokenizer)
    for part in networks.modules().values():
        place(part, recipe.run, device, sharded=part is text_encoder)
        freeze(part)
    for learner in trained.values():
        place(learner, recipe.run, device, sharded=True)
    model = Model(vae=parts["vae"], text_encoder=parts["text_encoder"], max_tokens=num_tokens)
    relays = settings.stage == "relay"
    check_prepared(recipe.data, model, tokenizer, fixed_text=True, low_resolution=relays)

    schedule = NoiseSchedule(NoiseSchedule.scaled_linear().sigmas.to(device))
    num_steps = one.num_steps
    of_student = Denoiser(trained["unet"], schedule, prediction_type)
    of_teacher = Denoiser(teacher, schedule, prediction_type)

    redraw = settings.redraw
    redrawing = Redrawing(redraw, model, recipe, device) if redraw else None

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        if not relays:
            return prepared(networks, num_tokens, pictures, device)
        share = settings.through_vae
        return prepared_with_low_resolution(
            networks, num_tokens, share, pictures, draws, device, redrawing
        )

    def taught(context: Tensor, vector: Tensor, scale: Tensor) -> Denoise:
        if told:
            return of_teacher(context, vector, guidance=scale)
        both = torch.cat([torch.zeros_like(context), context])
        return guided(of_teacher(both, torch.cat([vector, vector])), scale)

    if one.matches:
        of_critic = Denoiser(trained["critic"], schedule, prediction_type)
        learned, validated = matching(
            settings, schedule, of_student, of_critic, taught, text_encoder
        )
    else:
        learned = validated = regression(settings, schedule, of_student, taught, text_encoder)

    validate = HeldOutLoss(recipe, source, prepare, device, validated, num_steps, name="loss_step")

    def preview() -> tuple[Tensor, int]:
        low, high = settings.guidance
        view, num = recipe.data.views[0], recipe.preview.num_pictures
        with as_in_training(device):
            pictures = source("held-out", (view,)).batch(0, num)
        draws = Draws.of_batch(0, "preview", 0, num, device)
        batch = prepare(pictures, draws)
        context, vector = context_of(text_encoder, batch), batch["time_ids"]
        scale = torch.full((num,), min(max(recipe.preview.guidance, low), high), device=device)
        each = settings.teacher_steps_each
        sigmas, _ = settings.levels(schedule, each * num_steps)
        eps = draws.normal("eps", *batch["z_0"].shape[1:])

        def made(rows: slice) -> Tensor:
            given = context[rows], vector[rows]
            runs = [
                (taught(*given, scale[rows]), slice(None)),
                (of_student(*given, guidance=scale[rows]), slice(None, None, each)),
            ]
            z_lr = batch["z_lr"][rows] if relays else None
            return side_by_side(networks.vae, runs, eps[rows], sigmas, z_lr)

        return in_parts(recipe, num, made), 6 if relays else 8

    def export(out: Path) -> None:
        save_half(trained["unet"], out / f"{settings.stage}_unet")
        if distributed.is_main():
            # What a cascade of it has to know (pipelines/assemble.py).
            made = {
                "num_steps": num_steps,
                "guidance": settings.guidance,
                "teacher": first_hash,
                "prediction_type": prediction_type,
            }
            if relays:
                made["start"] = settings.start
            (out / STUDENT_NOTE).write_text(json.dumps(made, indent=2) + "\n")
            if settings.rank:
                write_rank(out, settings.rank, first_hash)

    return Objective(
        trained=trained,
        feed=Feed(
            source("train", recipe.data.views), prepare, recipe.data, recipe.run.seed, device
        ),
        loss=lambda batch, draws: learned(batch, draws)[0],
        export=export,
        validate=validate,
        preview=preview,
        frozen={"text_encoder": text_encoder},
        own_losses=one.matches,
    )


def _told_guidance(teacher: Any, width: int) -> Any:
    """A copy of ``teacher`` that is told the guidance scale: by an embedding that adds nothing yet,
    if the teacher has none."""
    config = dict(teacher.config)
    if config["time_cond_proj_dim"] is None:
        config["time_cond_proj_dim"] = width
    student = UNet2DConditionModel.from_config(config)
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    if unexpected or set(missing) - {"time_embedding.cond_proj.weight"}:
        raise RelayError(f"the teacher's weights do not fit its configuration: {missing[:3]}")
    if missing:
        torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student
