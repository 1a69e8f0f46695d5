"""The released checkpoints as one cascade folder."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError

from relay_diffusion.errors import RelayError
from relay_diffusion.models.cards import converted_card
from relay_diffusion.models.checkpoint import find_checkpoint
from relay_diffusion.models.official import unet_from_official
from relay_diffusion.models.official_text import text_encoder_from_folder, tokenizer_from_folder
from relay_diffusion.models.official_vae import vae_from_official
from relay_diffusion.models.scheduler import cascade_scheduler

logger = logging.getLogger(__name__)

MAX_TOKENS = 225
SHARD = "1GB"
"""Largest weight file written: older safetensors copies a file's tensors before it writes them."""

UNDISTILLED = {"base_steps": 50, "relay_steps": 10, "relay_start": 500}
DISTILLED = {"base_steps": 4, "relay_steps": 1, "relay_start": 200}


def convert_cascade(
    base: str | Path,
    relay: str | Path,
    vae: str | Path,
    text_encoder: str | Path,
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    head_dim: int = 64,
    base_size: int = 512,
    base_steps: int | None = None,
    relay_steps: int | None = None,
    relay_start: int | None = None,
    guidance_scale: float = 7.5,
) -> dict[str, Any]:
    """Write a cascade that ``RelayPipeline.from_pretrained(out)`` opens.

    All weights keep their precision. ``out`` appears when it is complete, or not at all. One UNet
    at a time is mapped from its file, so memory stays near the size of the largest part.

    Args:
        base, relay: released UNets, see ``unet_from_official``.
        vae: SDXL's autoencoder as a single file.
        text_encoder: folder of T5 v1.1 XXL in the layout of transformers.
        out: folder to be made; it may exist if it is empty.
        tokenizer: its folder; None looks in ``text_encoder``, then in ``tokenizer`` beside it.
            Without any the cascade takes ``prompt_embeds`` only, which is logged.
        head_dim: of both UNets.
        base_size: side of the base stage's square, in pixels.
        base_steps, relay_steps: defaults of a call, and for distilled networks what they were
            trained for. None: 50 and 10; for distilled ones the N of "Nstep" in the path, as the
            release names its folders, else 4 and 1.
        relay_start: start level T_r; None: 500, or 200 for a distilled relay network.
        guidance_scale: default of a call.
    Returns: what stands in model_index.json.
    Raises: RelayError for parts that are missing, damaged or do not go together, and if ``out``
        cannot be written.
    """
    out, text_encoder = Path(out), Path(text_encoder)
    files = {"base": find_checkpoint(base), "relay": find_checkpoint(relay)}
    steps = {"base": base_steps, "relay": relay_steps}
    _check_settings(base_size, steps, relay_start, guidance_scale)
    with _complete_or_absent(out) as folder:
        index = _write_small_parts(folder, vae, text_encoder, tokenizer)
        widths = _read(folder, "vae", "latent_channels"), _read(folder, "text_encoder", "d_model")
        distilled = {
            stage: _write_unet(folder / f"{stage}_unet", file, head_dim, *widths)
            for stage, file in files.items()
        }
        start = (DISTILLED if distilled["relay"] else UNDISTILLED)["relay_start"]
        for stage, file in files.items():
            default = (DISTILLED if distilled[stage] else UNDISTILLED)[f"{stage}_steps"]
            named = _steps_in_path(file) if distilled[stage] else None
            steps[stage] = steps[stage] or named or default
        index |= {
            "base_size": base_size,
            "num_inference_steps": steps["base"],
            "num_relay_steps": steps["relay"],
            "relay_start": [start if relay_start is None else relay_start],
            "guidance_scale": guidance_scale,
            "guidance_range": None,
            "trained_base_steps": [steps["base"]] if distilled["base"] else None,
            "trained_relay_steps": [steps["relay"]] if distilled["relay"] else None,
            "max_tokens": MAX_TOKENS,
            "solver": "euler",
            "fast_sibling": None,
        }
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        card = converted_card(out.name, index, any(distilled.values()))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return index


def _check_settings(
    base_size: int, steps: dict[str, int | None], relay_start: int | None, guidance_scale: float
) -> None:
    if base_size < 8:
        raise RelayError(f"base size {base_size}; it is the base stage's side in pixels, 512")
    wrong = next((n for n in steps.values() if n is not None and not 1 <= n <= 1000), None)
    if wrong is not None:
        raise RelayError(f"{wrong} steps; allowed is 1 to 1000")
    if relay_start is not None and not 1 <= relay_start <= 1000:
        raise RelayError(f"relay start {relay_start}; allowed is 1 to 1000, CogView3 uses 500")
    if relay_start is not None and (steps["relay"] or 1) > relay_start:
        raise RelayError(f"{steps['relay']} relay steps from start {relay_start}; give fewer")
    if not 0 <= guidance_scale < float("inf"):
        raise RelayError(f"guidance {guidance_scale}; give a number of 0 or more")


def _write_small_parts(
    folder: Path, vae: str | Path, text_encoder: Path, tokenizer: str | Path | None
) -> dict[str, Any]:
    """Write all but the UNets; returns the part of model_index.json that names the classes."""
    words = _find_tokenizer(text_encoder, tokenizer)
    if words is not None:
        words.save_pretrained(folder / "tokenizer")
    autoencoder = vae_from_official(vae)
    autoencoder.save_pretrained(folder / "vae", max_shard_size=SHARD)
    encoder = text_encoder_from_folder(text_encoder)
    encoder.save_pretrained(folder / "text_encoder", max_shard_size=SHARD)
    scheduler = cascade_scheduler()
    scheduler.save_pretrained(folder / "scheduler")
    unet = ["diffusers", UNet2DConditionModel.__name__]
    return {
        "_class_name": "RelayPipeline",
        "_diffusers_version": diffusers.__version__,
        "base_unet": unet,
        "relay_unet": unet,
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", type(encoder).__name__],
        "tokenizer": [None, None] if words is None else ["transformers", type(words).__name__],
        "vae": ["diffusers", type(autoencoder).__name__],
    }


def _find_tokenizer(text_encoder: Path, tokenizer: str | Path | None) -> Any | None:
    if tokenizer is not None:
        found = tokenizer_from_folder(tokenizer)
        if found is None:
            raise RelayError(f"{tokenizer} holds no tokenizer: tokenizer.json or spiece.model")
        return found
    for folder in (text_encoder, text_encoder.parent / "tokenizer"):
        found = tokenizer_from_folder(folder)
        if found is not None:
            return found
    logger.warning(
        "%s holds no tokenizer.json or spiece.model: the cascade will take prompt_embeds and no "
        "prompts; name the tokenizer's folder to have it in",
        text_encoder,
    )
    return None


def _write_unet(
    folder: Path, file: Path, head_dim: int, latent_channels: int, context_width: int
) -> bool:
    """Write one UNet; returns whether it is distilled, that is, has guidance embedded."""
    unet = unet_from_official(file, head_dim)
    for name, own, other, where in (
        ("in_channels", unet.config.in_channels, latent_channels, "latent channels of the VAE"),
        ("text width", unet.config.cross_attention_dim, context_width, "width of the T5"),
    ):
        if own != other:
            raise RelayError(f"{file} has {name} {own}, the {where} is {other}: they do not match")
    unet.save_pretrained(folder, max_shard_size=SHARD)
    return unet.config.time_cond_proj_dim is not None


def _steps_in_path(file: Path) -> int | None:
    """The N of the nearest "Nstep" in a path: cogview3-base-distill-4step/1/mp_rank_00_..."""
    for part in reversed(file.resolve().parts):
        named = re.search(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", part.lower())
        if named and int(named[1]) > 0:
            return int(named[1])
    return None


def _read(folder: Path, part: str, key: str) -> Any:
    return json.loads((folder / part / "config.json").read_text())[key]


@contextmanager
def _complete_or_absent(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, renamed to ``out`` at the end, or else removed."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RelayError(f"{out} exists already: give a new folder, or remove it")
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, out)
    except (OSError, SafetensorError) as error:
        raise RelayError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
