"""The released checkpoints as one cascade folder."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers

from relay_diffusion.errors import RelayError
from relay_diffusion.models.cards import converted_card
from relay_diffusion.models.checkpoint import find_checkpoint
from relay_diffusion.models.new_folder import complete_or_absent
from relay_diffusion.models.official import unet_from_official
from relay_diffusion.models.official_text import text_encoder_from_folder, tokenizer_from_folder
from relay_diffusion.models.official_vae import vae_from_official
from relay_diffusion.models.scheduler import cascade_scheduler

logger = logging.getLogger(__name__)

MAX_TOKENS = 225
SHARD = "1GB"
"""Largest weight file written: older safetensors copies a file's tensors before it writes them."""

UNDISTILLED = {"base": 50, "relay": 10, "start": 500}
DISTILLED = {"base": 4, "relay": 1, "start": 200}


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

    All weights keep their precision. All parts are checked before any is written; ``out`` appears
    when it is complete, or not at all. Memory stays near the size of the largest part: weights are
    mapped from their files and let go one network after another.

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
    out = Path(out)
    if base_size < 8:
        raise RelayError(f"base size {base_size}; it is a side in pixels, 512 for CogView3")
    if not 0 <= guidance_scale < float("inf"):
        raise RelayError(f"guidance {guidance_scale}; give a number of 0 or more")
    with complete_or_absent(out) as folder:
        # Opening maps the files and reads next to nothing, so all is checked before any is written.
        networks = {
            "vae": vae_from_official(vae),
            "text_encoder": text_encoder_from_folder(text_encoder),
            "base_unet": unet_from_official(base, head_dim),
            "relay_unet": unet_from_official(relay, head_dim),
        }
        _check_match(networks)
        others = {
            "scheduler": cascade_scheduler(),
            "tokenizer": _find_tokenizer(Path(text_encoder), tokenizer),
        }
        settings = _settings(
            {stage: networks[f"{stage}_unet"].config for stage in ("base", "relay")},
            {"base": find_checkpoint(base), "relay": find_checkpoint(relay)},
            {"base": base_steps, "relay": relay_steps},
            relay_start,
        )
        index = {
            "_class_name": "RelayPipeline",
            "_diffusers_version": diffusers.__version__,
            **{name: _class_of(part) for name, part in sorted({**networks, **others}.items())},
            **settings,
            "base_size": base_size,
            "guidance_scale": guidance_scale,
            "guidance_range": None,
            "max_tokens": MAX_TOKENS,
            "solver": "euler",
            "fast_sibling": None,
        }
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        (folder / "README.md").write_text(converted_card(out.name, index), encoding="utf-8")
        for name, part in others.items():
            if part is not None:
                part.save_pretrained(folder / name)
        while networks:
            # Nothing may hold on to a network that is written: its pages count while it is mapped.
            name, network = networks.popitem()
            network.save_pretrained(folder / name, max_shard_size=SHARD)
            del network
    return index


def _settings(
    configs: Mapping[str, Any],
    files: Mapping[str, Path],
    steps: Mapping[str, int | None],
    relay_start: int | None,
) -> dict[str, Any]:
    """Steps and start level of the stages "base" and "relay", where None is left open."""
    settings: dict[str, Any] = {}
    for stage, name in (("base", "num_inference_steps"), ("relay", "num_relay_steps")):
        chosen, distilled = steps[stage], configs[stage].time_cond_proj_dim is not None
        if chosen is None and distilled:
            chosen = _steps_in_path(files[stage])
        if chosen is None:
            chosen = (DISTILLED if distilled else UNDISTILLED)[stage]
        if not 1 <= chosen <= 1000:
            raise RelayError(f"{chosen} {stage} steps; allowed is 1 to 1000")
        settings[name] = chosen
        settings[f"trained_{stage}_steps"] = [chosen] if distilled else None
    if relay_start is None:
        relay_start = (DISTILLED if settings["trained_relay_steps"] else UNDISTILLED)["start"]
    if not settings["num_relay_steps"] <= relay_start <= 1000:
        raise RelayError(
            f"relay start {relay_start}; allowed is {settings['num_relay_steps']} (relay steps) to "
            "1000; CogView3 uses 500"
        )
    return {**settings, "relay_start": [relay_start]}


def _check_match(networks: Mapping[str, Any]) -> None:
    """Raise RelayError unless the UNets take what the VAE and the T5 give."""
    latent_channels = networks["vae"].config.latent_channels
    text_width = networks["text_encoder"].config.d_model
    for name in ("base_unet", "relay_unet"):
        config = networks[name].config
        if config.in_channels != latent_channels:
            raise RelayError(
                f"{name} takes {config.in_channels} latent channels, the VAE has "
                f"{latent_channels}: they do not belong together"
            )
        if config.cross_attention_dim != text_width:
            raise RelayError(
                f"{name} takes text of width {config.cross_attention_dim}, the text encoder gives "
                f"{text_width}: they do not belong together"
            )


def _class_of(part: Any | None) -> list[str | None]:
    """How model_index.json names a class: its library and itself."""
    if part is None:
        return [None, None]
    return [type(part).__module__.split(".")[0], type(part).__name__]


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


def _steps_in_path(file: Path) -> int | None:
    """The N of the nearest "Nstep" in a path: cogview3-base-distill-4step/1/mp_rank_00_..."""
    for part in reversed(file.resolve().parts):
        named = re.search(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", part.lower())
        if named and int(named[1]) > 0:
            return int(named[1])
    return None
