"""A cascade folder from the parts that training wrote."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL
from transformers import AutoTokenizer, T5EncoderModel

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import (
    LOW_RANK_NOTE,
    STAGE_NOTE,
    STUDENT_NOTE,
    max_tokens_of,
    part_folder,
    read_json,
    read_note,
    related,
)
from relay_diffusion.models.hashes import network_hash, weight_files
from relay_diffusion.models.lora import UNETS
from relay_diffusion.models.low_rank import open_unet, origin, write_low_rank
from relay_diffusion.models.new_folder import complete_or_absent, insist_on_new
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.settings import resolve_settings

log = logging.getLogger(__name__)

VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}


def assemble(
    out: Path,
    *,
    base_unet: Path,
    relay_unet: Path,
    vae: Path | None = None,
    text_encoder: Path | None = None,
    tokenizer: Path | None = None,
    shares: str | None = None,
    prediction_type: str = "epsilon",
    model_card: str = "",
    dtype: torch.dtype = torch.float16,
    rank: int = 0,
    **config: Any,
) -> RelayPipeline:
    """Write a cascade that ``RelayPipeline.from_pretrained(out)`` opens.

    Args:
        out: folder to be made, which appears when it is complete, or not at all; it may exist if
            it is empty.
        base_unet, relay_unet, vae, text_encoder, tokenizer: folders in the layout of diffusers and
            transformers. The last three may be None where another cascade has them.
        shares: that cascade: a registered name, or a folder as seen from ``out``.
        prediction_type: "epsilon" or "v_prediction", of both UNets.
        model_card: text of README.md.
        dtype: of the stored weights.
        rank: above 0, UNets are stored as differences of that rank (``models/low_rank.py``): both
            from those of ``shares``, as students of that cascade should be, or, without it, the
            relay stage from the base stage, which it should have begun as. One that learned within
            a lower rank is stored at that.
        config: as ``RelayPipeline.__init__`` takes it: base_size, relay_start, ...
    Returns: the cascade, in ``dtype``, its UNets as they were given.
    Raises: RelayError if ``out`` holds something already, a part is missing, a stage was trained
        for another prediction type or length of prompts, a network that would be stored as a
        difference was made of another one, the defaults in ``config`` are none that a call would
        take, or ``out`` cannot be written.
    """
    insist_on_new(out)
    parts = {"vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer}
    lent = [part for part, folder in parts.items() if folder is None]
    if lent and shares is None:
        raise RelayError(f"{lent[0]} is missing: give its folder, or a cascade to share it with")
    owner = related(out, shares) if shares else out
    folders = {part: folder or part_folder(owner, part) for part, folder in parts.items()}
    folders |= {"base_unet": base_unet, "relay_unet": relay_unet}
    for part, folder in folders.items():
        if not folder.is_dir():
            raise RelayError(f"there is no folder {folder} to take the {part} from")
        name = "tokenizer_config.json" if part == "tokenizer" else "config.json"
        described = read_json(folder, folder / name)
        if part == "vae" and described.get("_class_name") not in VAES:
            raise RelayError(f"{folder} holds no {' or '.join(VAES)}")
    for folder in (base_unet, relay_unet):
        _insist_on_conditions(folder, prediction_type, max_tokens_of(config))
        _warn_of_other_latents(folder, folders["vae"])
    differ = (UNETS if shares else UNETS[1:]) if rank else ()
    for part in differ:
        _insist_on_origin(folders[part], part_folder(owner, part) if shares else base_unet)
    vae_class = VAES[read_json(folders["vae"], folders["vae"] / "config.json")["_class_name"]]
    pipe = RelayPipeline(
        text_encoder=T5EncoderModel.from_pretrained(folders["text_encoder"], dtype=dtype),
        tokenizer=AutoTokenizer.from_pretrained(folders["tokenizer"]),
        vae=vae_class.from_pretrained(folders["vae"], dtype=dtype),
        base_unet=open_unet(base_unet, dtype),
        relay_unet=open_unet(relay_unet, dtype),
        scheduler=cascade_scheduler(prediction_type),
        shares=shares if lent or rank else None,
        **config,
    )
    resolve_settings(pipe.config, pipe.distilled)
    ranks = {
        part: min(rank, read_note(folders[part].parent, LOW_RANK_NOTE).get("rank", rank))
        for part in differ
    }
    with complete_or_absent(out) as folder:
        _write(pipe, folder, lent, ranks)
        if model_card:
            (folder / "README.md").write_text(model_card, encoding="utf-8")
    return pipe


def _write(
    pipe: RelayPipeline, folder: Path, lent: Sequence[str], ranks: Mapping[str, int]
) -> None:
    """Save a cascade without the parts that are ``lent``, and as differences those UNets whose
    ``ranks`` are given."""
    pipe.save_pretrained(folder)
    for part in lent:
        shutil.rmtree(folder / part)
    for part, rank in ranks.items():
        kept = write_low_rank(folder / part, getattr(pipe, part), origin(folder / part), rank)
        if kept < 0.95:
            log.warning("%s: rank %d keeps %.0f%% of the difference", part, rank, 100 * kept)
        for file in (folder / part).glob("diffusion_pytorch_model*"):
            file.unlink()
    for config_file in folder.glob("*/config.json"):
        # Where a part lay on this machine is nobody's business.
        described = json.loads(config_file.read_text(encoding="utf-8"))
        described.pop("_name_or_path", None)
        config_file.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _insist_on_conditions(unet: Path, prediction_type: str, max_tokens: int) -> None:
    """Raise RelayError for a network that was trained for another kind of cascade."""
    # The first stages were not told.
    told = read_note(unet.parent, STUDENT_NOTE) | read_note(unet.parent, STAGE_NOTE)
    for name, value in (("prediction_type", prediction_type), ("max_tokens", max_tokens)):
        if told.get(name, value) != value:
            raise RelayError(
                f"{unet} was trained with {name} {told[name]}, and the cascade would have {value}: "
                "both stages, and a cascade that they share with, have to be of one"
            )


def _warn_of_other_latents(unet: Path, vae: Path) -> None:
    """Say so where a stage learned the latents of another autoencoder. It may be right: a decoder
    that has learned on (``objective.decoder_only``) makes another one with the same latents."""
    told = read_note(unet.parent, STAGE_NOTE).get("vae")
    if told is not None and weight_files(vae) and told != network_hash(vae):
        log.warning(
            "%s was trained on the latents of another autoencoder than %s: unless only the decoder "
            "of that has learned since, its pictures will be wrong",
            unet,
            vae,
        )


def _insist_on_origin(unet: Path, of: Path) -> None:
    """Raise RelayError for a network that was not, or cannot have been, made of another."""
    told = read_note(unet.parent, LOW_RANK_NOTE).get("of")
    told = told or read_note(unet.parent, STUDENT_NOTE).get("teacher")
    widths = [read_json(f, f / "config.json").get("block_out_channels") for f in (unet, of)]
    if told not in (None, network_hash(of)) or widths[0] != widths[1]:
        raise RelayError(
            f"{unet} was made of another network than {of}, so that their difference is of no low "
            "rank: name the cascade that has that one (--shares), or, of a relay stage, that base "
            "stage (--base), or leave the rank out"
        )


def distilled_defaults(
    base: Path, relay: Path, guidance_scale: float, relay_guidance_scale: float | None = None
) -> dict[str, Any]:
    """The defaults that go with students, from what distillation wrote beside them: their steps,
    the relay's start level, the solver that they were taught the steps of, and the range of
    guidance that each knows.

    Args:
        base, relay: export folders of the two runs; one that is of no student says nothing.
        guidance_scale, relay_guidance_scale: defaults of the teachers, brought into those ranges.
            A relay without one, None, goes by the base stage's, and gets its own where that would
            not do: the base stage's is outside its range, or has moved and it is no student.
    """
    notes = {
        stage: read_note(run, STUDENT_NOTE) for stage, run in (("base", base), ("relay", relay))
    }
    told = {stage: note for stage, note in notes.items() if note}
    if not told:
        return {}
    defaults: dict[str, Any] = {"solver": "euler"}
    for stage, name in (("base", "num_inference_steps"), ("relay", "num_relay_steps")):
        if stage in told:
            steps = told[stage]["num_steps"]
            defaults |= {name: steps, f"trained_{stage}_steps": steps}
    in_force = guidance_scale
    if "base" in told:
        known = told["base"]["guidance"]
        in_force = _within(known, guidance_scale)
        defaults |= {"guidance_range": known, "guidance_scale": in_force}
    wanted = guidance_scale if relay_guidance_scale is None else relay_guidance_scale
    if "relay" in told:
        known = told["relay"]["guidance"]
        defaults |= {"relay_start": [told["relay"]["start"]], "relay_guidance_range": known}
        if relay_guidance_scale is None:
            wanted = in_force
        wanted = _within(known, wanted)
    if relay_guidance_scale is not None or wanted != in_force:
        defaults["relay_guidance_scale"] = wanted
    return defaults


def _within(known: Sequence[float], scale: float) -> float:
    low, high = known
    return min(max(scale, low), high)
