"""The autoencoder of SDXL in its single-file layout, as diffusers' ``AutoencoderKL``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.models.checkpoint import logger, prefixes, read_tensors, with_prefix
from relay_diffusion.models.fitting import fit

SDXL_SCALE = 0.13025
"""What its latents are multiplied by, which no tensor tells."""

PREFIX = "first_stage_model."
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")

_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae_from_official(path: str | Path) -> AutoencoderKL:
    """Open SDXL's autoencoder, or one of that layout in other sizes.

    The sizes are read off the tensors; the weights keep their dtype and stay mapped. Latents are
    scaled as SDXL's: ``register_to_config(scaling_factor=...)`` says otherwise.

    Args:
        path: .safetensors or torch file; its names may stand under ``first_stage_model.``, as in
            whole SDXL checkpoints. Other prefixes are logged.
    Raises: RelayError as ``unet_from_official``.
    """
    file = Path(path)
    tensors = read_tensors(file)
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    if prefix:
        tensors = with_prefix(tensors, prefix, file)
    others = prefixes(name for name in tensors if not name.startswith(PARTS))
    if others:
        logger.warning("%s: left aside %s", file, others)
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(PARTS)}
    config = _read_config(tensors, file)
    try:
        with torch.device("meta"):
            vae = AutoencoderKL(**config, scaling_factor=SDXL_SCALE)
    except ValueError as error:
        raise RelayError(f"{file}: diffusers cannot build this autoencoder: {error}") from error
    names = official_names(vae.state_dict(), len(config["block_out_channels"]))
    as_linear = {name: _as_linear(name, tensor) for name, tensor in tensors.items()}
    fit(
        vae,
        {prefix + name: tensor for name, tensor in as_linear.items()},
        {key: prefix + name for key, name in names.items()},
        file,
    )
    return vae


def official_names(keys: Iterable[str], num_levels: int) -> dict[str, str]:
    """Name in the file of each tensor of ``AutoencoderKL``."""
    return {key: _official_name(key, num_levels) for key in keys}


def _read_config(tensors: Mapping[str, Any], file: Path) -> dict[str, Any]:
    def size(name: str, dim: int) -> int:
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor) or tensor.ndim <= dim:
            raise RelayError(f"{file} is no autoencoder like SDXL's: it has no tensor {name}")
        return tensor.shape[dim]

    def count(pattern: str) -> int:
        return len({m[1] for m in (re.match(pattern, name) for name in tensors) if m})

    num_levels = count(r"encoder\.down\.(\d+)\.")
    widths = [size(f"encoder.down.{i}.block.0.conv1.weight", 0) for i in range(num_levels)]
    return {
        "in_channels": size("encoder.conv_in.weight", 1),
        "out_channels": size("decoder.conv_out.weight", 0),
        "latent_channels": size("decoder.conv_in.weight", 1),
        "block_out_channels": widths or [size("encoder.down.0.block.0.conv1.weight", 0)],
        "layers_per_block": count(r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * num_levels,
        "up_block_types": ["UpDecoderBlock2D"] * num_levels,
        # SDXL's own: it leaves no trace in the tensors and sets the size of tiles.
        "sample_size": 1024,
    }


def _official_name(key: str, num_levels: int) -> str:
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", key)
    # The file counts the decoder's levels from the finest, diffusers in the order they run.
    up = re.match(r"decoder\.up_blocks\.(\d+)\.(.*)", key)
    if up:
        rest = up[2].replace("resnets.", "block.").replace("upsamplers.0.", "upsample.")
        key = f"decoder.up.{num_levels - 1 - int(up[1])}.{rest}"
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    attention = re.match(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", key)
    if attention:
        key = f"{attention[1]}mid.attn_1.{_ATTENTION[attention[2]]}.{attention[3]}"
    return key


def _as_linear(name: str, tensor: Any) -> Any:
    """The file has the middle's attention as 1x1 convolutions, diffusers as linear maps."""
    is_attention = re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight$", name)
    if is_attention and isinstance(tensor, Tensor) and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor
