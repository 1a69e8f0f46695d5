"""UNets of the CogView3 kind, as configurations of diffusers' ``UNet2DConditionModel``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from relay_diffusion.errors import RelayError


def cogview3_unet_config(
    *,
    latent_channels: int = 4,
    widths: Sequence[int] = (320, 640, 1280),
    layers_per_level: int | Sequence[int] = 2,
    transformer_depths: Sequence[int | None] = (None, 2, 10),
    middle_depth: int = 10,
    head_dim: int = 64,
    context_width: int = 4096,
    vector_width: int = 1536,
    guidance_width: int | None = None,
    linear_projection: bool = True,
) -> dict[str, Any]:
    """Arguments of ``UNet2DConditionModel``; the defaults are the released networks (math.md).

    Args:
        widths: channels of each level, finest first.
        layers_per_level: residual blocks of each level on the way down; one more on the way up.
        transformer_depths: blocks in each transformer of a level, None for no transformer.
        middle_depth: the same for the middle; diffusers wants that of the deepest level here,
            where that level has transformers.
        head_dim: channels of an attention head, the same everywhere.
        context_width: of the text embeddings.
        vector_width: of the size conditioning, six sinusoids of a sixth of it each.
        guidance_width: of the guidance embedding, for distilled networks.
        linear_projection: whether transformers project by linear maps or by 1x1 convolutions.
    Raises: RelayError for sizes that do not go together.
    """
    num_levels = len(widths)
    layers = (
        [layers_per_level] * num_levels if isinstance(layers_per_level, int) else layers_per_level
    )
    depths = list(transformer_depths)
    if not num_levels or not len(layers) == len(depths) == num_levels:
        raise RelayError(
            f"{num_levels} widths, {len(layers)} numbers of layers and {len(depths)} transformer "
            "depths; give one of each for every level"
        )
    if depths[-1] not in (None, middle_depth):
        raise RelayError(
            f"transformers of depth {depths[-1]} at the deepest level and {middle_depth} in the "
            "middle: diffusers' UNet2DConditionModel has one depth for both"
        )
    attending = [width for width, depth in zip(widths, depths, strict=True) if depth is not None]
    odd = next((width for width in [*attending, widths[-1]] if width % head_dim), None)
    if odd is not None:
        raise RelayError(
            f"head_dim {head_dim} does not divide {odd} channels; give the network's own"
        )
    if vector_width % 12:
        raise RelayError(f"vector width {vector_width}; it is six sinusoids: give a multiple of 12")

    def blocks(way: str) -> list[str]:
        names = ["CrossAttn" if depth is not None else "" for depth in depths]
        return [f"{name}{way}Block2D" for name in names]

    return {
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "block_out_channels": tuple(widths),
        "layers_per_block": tuple(layers),
        "down_block_types": tuple(blocks("Down")),
        "up_block_types": tuple(reversed(blocks("Up"))),
        # The last entry is also the middle's, and nobody else's where the level has no transformer.
        "transformer_layers_per_block": (*(depth or 0 for depth in depths[:-1]), middle_depth),
        # Number of heads, in spite of its name.
        "attention_head_dim": tuple(max(1, width // head_dim) for width in widths),
        "cross_attention_dim": context_width,
        "use_linear_projection": linear_projection,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": vector_width // 6,
        "projection_class_embeddings_input_dim": vector_width,
        "time_cond_proj_dim": guidance_width,
    }


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """A UNet with random weights; with shapes only under ``torch.device("meta")``.

    Raises: RelayError for arguments that diffusers refuses.
    """
    try:
        return UNet2DConditionModel(**config)
    except (TypeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise RelayError(f"diffusers cannot build this UNet: {error}") from error


def full_size_unet() -> UNet2DConditionModel:
    """The released network's shapes, 2.907 billion parameters, on the meta device."""
    with torch.device("meta"):
        return build_unet(cogview3_unet_config())
