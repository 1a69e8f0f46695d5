"""The networks of one round of distillation: who teaches, who learns, and what both are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from relay_diffusion.diffusion import Denoise, NoiseSchedule, guided
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import max_tokens_of, part_folder
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.registry import resolve
from relay_diffusion.training.cascade import LENT, read_cascade
from relay_diffusion.training.denoising import freeze
from relay_diffusion.training.low_rank import constrain
from relay_diffusion.training.networks import (
    Networks,
    build_text_encoder,
    build_unet,
    build_vae,
    load_tokenizer,
    place,
)
from relay_diffusion.training.recipe import Model
from relay_diffusion.training.rounds import DistillRecipe


@dataclass(frozen=True)
class RoundNetworks:
    """On the device, in the precision that they are kept in.

    Attributes:
        fixed: the cascade's VAE and text encoder, and the teacher as the UNet.
        learners: "unet" is the student, "critic", in a round that matches, the network that knows
            the student's distribution.
        model: what of the recipe's model table the cascade has settled.
        schedule: noise levels.
        prediction_type: of all three UNets.
        first_hash: of the cascade's own stage, which the first round begins with.
    """

    fixed: Networks
    learners: dict[str, nn.Module]
    model: Model
    schedule: NoiseSchedule
    prediction_type: str
    first_hash: str

    def learner(self, name: str) -> Denoiser:
        return Denoiser(self.learners[name], self.schedule, self.prediction_type)

    def taught(self, context: Tensor, vector: Tensor, scale: Tensor) -> Denoise:
        """What is learned from: the teacher under guidance, which it is told if it is a student
        itself, and has by two passes if not."""
        teacher = Denoiser(self.fixed.unet, self.schedule, self.prediction_type)
        if self.fixed.unet.config.time_cond_proj_dim is not None:
            return teacher(context, vector, guidance=scale)
        both = torch.cat([torch.zeros_like(context), context])
        return guided(teacher(both, torch.cat([vector, vector])), scale)


def open_round(recipe: DistillRecipe, device: torch.device) -> RoundNetworks:
    """Those of a recipe with one round, as ``rounds_of`` makes them: of its teacher's cascade, and
    in ``model.unet`` the student of the round before."""
    settings = recipe.objective
    folder = resolve(settings.teacher)
    index, scheduler = read_cascade(folder, "objective.teacher")
    parts = {part: str(part_folder(folder, part)) for part in LENT}
    vae, text_encoder = build_vae(parts["vae"]), build_text_encoder(parts["text_encoder"], 0)
    first = str(part_folder(folder, f"{settings.stage}_unet"))
    path = str(recipe.model.unet) or first
    first_hash = network_hash(Path(first))
    before = build_unet(path, 0, 0, "objective.teacher")
    own = before if path == first else build_unet(first, 0, 0, "objective.teacher")
    (one,) = settings.rounds
    # Whose steps are learned, or, to match, whose distribution.
    teacher = own if one.matches else before
    learners = {"unet": _told_guidance(before, settings.guidance_width)}
    if one.matches:
        learners["critic"] = _told_guidance(own, settings.guidance_width)
    if settings.rank:
        for learner in learners.values():
            constrain(learner, own.state_dict(), settings.rank)
    if recipe.run.dtype == "bfloat16":
        nn.Module.to(teacher, torch.bfloat16)  # only ever computed with; half the memory
    fixed = Networks(vae, text_encoder, teacher, load_tokenizer(parts["tokenizer"]))
    for part in fixed.modules().values():
        place(part, recipe.run, device, sharded=part is text_encoder)
        freeze(part)
    for learner in learners.values():
        place(learner, recipe.run, device, sharded=True)
    return RoundNetworks(
        fixed,
        learners,
        Model(
            vae=parts["vae"], text_encoder=parts["text_encoder"], max_tokens=max_tokens_of(index)
        ),
        NoiseSchedule(NoiseSchedule.scaled_linear().sigmas.to(device)),
        scheduler.get("prediction_type", "epsilon"),
        first_hash,
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
