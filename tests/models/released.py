"""Networks written in the released layouts, and the golden files of the released code.

The key maps here are written from the released layout's side, as lists of its modules in order;
those under test go the other way, by the names of diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FIXTURES = Path(__file__).parents[1] / "fixtures"
BASE = FIXTURES / "official-base-tiny"
DISTILLED = FIXTURES / "official-distill-tiny"
CASCADE = FIXTURES / "official-cascade-tiny"
HEAD_DIM = 16


def golden(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "golden.safetensors")


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return float((found - expected).norm() / expected.norm())


def told_vector(unet: UNet2DConditionModel, vector: Tensor) -> None:
    """Have the network see ``vector`` (B, V) in place of the sinusoids of its size conditioning."""
    width = unet.config.addition_time_embed_dim

    def replace(_: nn.Module, given: tuple[Tensor], __: Tensor) -> Tensor:
        copies = len(given[0]) // (6 * len(vector))
        return vector.repeat(copies, 1).reshape(-1, width)

    unet.add_time_proj.register_forward_hook(replace)


@dataclass(frozen=True)
class Shape:
    """Sizes of a random UNet; one entry per level, finest first."""

    widths: tuple[int, ...]
    layers: tuple[int, ...]
    depths: tuple[int | None, ...]
    middle: int
    head_dim: int = 16
    context: int = 24
    vector: int = 96
    guidance: int | None = None
    linear: bool = True
    latents: int = 4
    whole_text: bool = False


def random_unet(shape: Shape) -> UNet2DConditionModel:
    """Built from diffusers' own arguments, without the code under test; no weight is zero."""

    def blocks(way: str) -> list[str]:
        return [f"{'' if d is None else 'CrossAttn'}{way}Block2D" for d in shape.depths]

    unet = UNet2DConditionModel(
        in_channels=shape.latents,
        out_channels=shape.latents,
        block_out_channels=shape.widths,
        layers_per_block=shape.layers,
        down_block_types=blocks("Down"),
        up_block_types=blocks("Up")[::-1],
        transformer_layers_per_block=[*(d or 0 for d in shape.depths[:-1]), shape.middle],
        attention_head_dim=[width // shape.head_dim for width in shape.widths],
        cross_attention_dim=shape.context,
        use_linear_projection=shape.linear,
        addition_embed_type="text_time",
        addition_time_embed_dim=shape.vector // 6,
        projection_class_embeddings_input_dim=shape.vector + shape.whole_text * shape.context,
        time_cond_proj_dim=shape.guidance,
    )
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return unet.eval()


def released_unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Its weights by their released names."""
    tensors: dict[str, Tensor] = {}

    def put(name: str, module: nn.Module) -> None:
        for key, tensor in module.state_dict().items():
            tensors[f"model.diffusion_model.{name}.{key}"] = tensor.clone()

    def put_residual(name: str, block: Any) -> None:
        put(f"{name}.in_layers.0", block.norm1)
        put(f"{name}.in_layers.2", block.conv1)
        put(f"{name}.emb_layers.1", block.time_emb_proj)
        put(f"{name}.out_layers.0", block.norm2)
        put(f"{name}.out_layers.3", block.conv2)
        if block.conv_shortcut is not None:
            put(f"{name}.skip_connection", block.conv_shortcut)

    put("time_embed.0", unet.time_embedding.linear_1)
    put("time_embed.2", unet.time_embedding.linear_2)
    if unet.time_embedding.cond_proj is not None:
        put("w_proj", unet.time_embedding.cond_proj)
    put("label_emb.0.0", unet.add_embedding.linear_1)
    put("label_emb.0.2", unet.add_embedding.linear_2)
    put("input_blocks.0.0", unet.conv_in)
    number = 1
    for level in unet.down_blocks:
        for index, block in enumerate(level.resnets):
            put_residual(f"input_blocks.{number}.0", block)
            if hasattr(level, "attentions"):
                put(f"input_blocks.{number}.1", level.attentions[index])
            number += 1
        if level.downsamplers:
            put(f"input_blocks.{number}.0.op", level.downsamplers[0].conv)
            number += 1
    put_residual("middle_block.0", unet.mid_block.resnets[0])
    put("middle_block.1", unet.mid_block.attentions[0])
    put_residual("middle_block.2", unet.mid_block.resnets[1])
    number = 0
    for level in unet.up_blocks:
        for index, block in enumerate(level.resnets):
            put_residual(f"output_blocks.{number}.0", block)
            place = 1
            if hasattr(level, "attentions"):
                put(f"output_blocks.{number}.1", level.attentions[index])
                place = 2
            if index + 1 == len(level.resnets) and level.upsamplers:
                put(f"output_blocks.{number}.{place}.conv", level.upsamplers[0].conv)
            number += 1
    put("out.0", unet.conv_norm_out)
    put("out.2", unet.conv_out)
    assert len(tensors) == len(unet.state_dict())
    return tensors


def write_released(tensors: dict[str, Any], folder: Path) -> Path:
    """A DeepSpeed file as it is released; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mp_rank_00_model_states.pt"
    torch.save({"module": tensors}, file)
    return file


def read_released(folder: Path) -> dict[str, Tensor]:
    module: dict[str, Tensor] = torch.load(folder / "mp_rank_00_model_states.pt")["module"]
    return module


def random_vae(widths: tuple[int, ...], layers: int, latents: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=layers,
        latent_channels=latents,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        scaling_factor=0.13025,
    ).eval()


def write_released_vae(vae: AutoencoderKL, file: Path, prefix: str = "") -> None:
    tensors: dict[str, Tensor] = {}

    def put(name: str, module: nn.Module) -> None:
        for key, tensor in module.state_dict().items():
            tensors[f"{prefix}{name}.{key}"] = tensor.clone()

    def put_residual(name: str, block: Any) -> None:
        for part in ("norm1", "conv1", "norm2", "conv2"):
            put(f"{name}.{part}", getattr(block, part))
        if block.conv_shortcut is not None:
            put(f"{name}.nin_shortcut", block.conv_shortcut)

    levels = len(vae.encoder.down_blocks)
    for half in ("encoder", "decoder"):
        part = getattr(vae, half)
        put(f"{half}.conv_in", part.conv_in)
        put(f"{half}.norm_out", part.conv_norm_out)
        put(f"{half}.conv_out", part.conv_out)
        put_residual(f"{half}.mid.block_1", part.mid_block.resnets[0])
        put_residual(f"{half}.mid.block_2", part.mid_block.resnets[1])
        attention = part.mid_block.attentions[0]
        put(f"{half}.mid.attn_1.norm", attention.group_norm)
        for letter in "qkv":
            put(f"{half}.mid.attn_1.{letter}", getattr(attention, f"to_{letter}"))
        put(f"{half}.mid.attn_1.proj_out", attention.to_out[0])
        for name in ("q", "k", "v", "proj_out"):
            key = f"{prefix}{half}.mid.attn_1.{name}.weight"
            tensors[key] = tensors[key][:, :, None, None]
    for number, level in enumerate(vae.encoder.down_blocks):
        for index, block in enumerate(level.resnets):
            put_residual(f"encoder.down.{number}.block.{index}", block)
        if level.downsamplers:
            put(f"encoder.down.{number}.downsample.conv", level.downsamplers[0].conv)
    for number, level in enumerate(vae.decoder.up_blocks):
        number = levels - 1 - number
        for index, block in enumerate(level.resnets):
            put_residual(f"decoder.up.{number}.block.{index}", block)
        if level.upsamplers:
            put(f"decoder.up.{number}.upsample.conv", level.upsamplers[0].conv)
    put("quant_conv", vae.quant_conv)
    put("post_quant_conv", vae.post_quant_conv)
    assert len(tensors) == len(vae.state_dict())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
