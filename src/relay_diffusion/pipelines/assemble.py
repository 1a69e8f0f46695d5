"""A cascade folder from the parts that training wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from transformers import AutoTokenizer, T5EncoderModel

from relay_diffusion.errors import RelayError
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.folder import read_json

VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderDC": AutoencoderDC}


def assemble(
    out: Path,
    *,
    vae: Path,
    text_encoder: Path,
    tokenizer: Path,
    base_unet: Path,
    relay_unet: Path,
    prediction_type: str = "epsilon",
    model_card: str = "",
    dtype: torch.dtype = torch.float16,
    **config: Any,
) -> RelayPipeline:
    """Write a cascade that ``RelayPipeline.from_pretrained(out)`` opens.

    Args:
        out: folder to be made; it may exist if it is empty.
        vae, text_encoder, tokenizer, base_unet, relay_unet: folders in the layout of diffusers and
            transformers.
        prediction_type: "epsilon" or "v_prediction", of both UNets.
        model_card: text of README.md.
        dtype: of the stored weights.
        config: as ``RelayPipeline.__init__`` takes it: base_size, relay_start, ...
    Returns: the cascade, in ``dtype``.
    Raises: RelayError if ``out`` holds something already, or a part is missing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RelayError(f"{out} exists already: give a new folder, or remove it")
    vae_class = VAES.get(read_json(vae, vae / "config.json").get("_class_name", ""))
    if vae_class is None:
        raise RelayError(f"{vae} holds no {' or '.join(VAES)}")
    read_json(tokenizer, tokenizer / "tokenizer_config.json")
    for part in (text_encoder, base_unet, relay_unet):
        read_json(part, part / "config.json")
    pipe = RelayPipeline(
        text_encoder=T5EncoderModel.from_pretrained(text_encoder, dtype=dtype),
        tokenizer=AutoTokenizer.from_pretrained(tokenizer),
        vae=vae_class.from_pretrained(vae, dtype=dtype),
        base_unet=UNet2DConditionModel.from_pretrained(base_unet, dtype=dtype),
        relay_unet=UNet2DConditionModel.from_pretrained(relay_unet, dtype=dtype),
        scheduler=cascade_scheduler(prediction_type),
        **config,
    )
    pipe.save_pretrained(out)
    if model_card:
        (out / "README.md").write_text(model_card, encoding="utf-8")
    return pipe
