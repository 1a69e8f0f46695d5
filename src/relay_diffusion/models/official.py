"""The released CogView3 UNets: their sizes read off the tensors, their names turned into ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.models.checkpoint import find_checkpoint, read_tensors, with_prefix
from relay_diffusion.models.fitting import fit
from relay_diffusion.models.unet import build_unet, cogview3_unet_config

PREFIX = "model.diffusion_model."

_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "w_proj",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_from_official(path: str | Path, head_dim: int = 64) -> UNet2DConditionModel:
    """Open a released UNet, base or relay, distilled or not, as a network of diffusers.

    Every size but one is read off the tensors. The weights keep their dtype and stay mapped from
    the file until they are used. Prefixes other than ``model.diffusion_model.`` are logged.

    Args:
        path: ``mp_rank_00_model_states.pt`` (or its tensors as .safetensors), the folder of a step,
            or the folder with the file ``latest``.
        head_dim: channels of an attention head, the one size that leaves no trace in the tensors;
            64 in all released networks.
    Raises: RelayError for a file that is missing, damaged or holds pickled code, and for tensors
        that are missing, left over or misshapen; they are named.
    """
    file = find_checkpoint(path)
    return unet_from_tensors(with_prefix(read_tensors(file), PREFIX, file), file, head_dim)


def unet_from_tensors(
    tensors: Mapping[str, Any], file: Path, head_dim: int
) -> UNet2DConditionModel:
    """As ``unet_from_official``, from tensors named without the prefix."""
    config = read_config(_Sizes(tensors, file), head_dim)
    with torch.device("meta"):
        unet = build_unet(config)
    names = official_names(config, unet.state_dict())
    fit(
        unet,
        {PREFIX + name: tensor for name, tensor in tensors.items()},
        {own: PREFIX + name for own, name in names.items()},
        file,
    )
    return unet


def read_config(sizes: _Sizes, head_dim: int) -> dict[str, Any]:
    """The arguments of ``UNet2DConditionModel`` that fit the tensors.

    Where several tensors tell a size, most votes win: a misshapen one is then found by ``fit``,
    which names it, rather than believed.
    """
    levels = list(_levels(sizes))
    latent_channels = sizes.of("input_blocks.0.0.weight", 1)
    out_channels = sizes.of("out.2.weight", 0)
    if latent_channels != out_channels:
        sizes.fail(
            f"takes {latent_channels} channels (input_blocks.0.0.weight) and gives {out_channels} "
            "(out.2.weight); a CogView3 network has the same of both"
        )
    down = [[f"input_blocks.{index}" for index in level] for level in levels]
    both = [[*names, *_way_up(levels, level)] for level, names in enumerate(down)]
    return cogview3_unet_config(
        latent_channels=latent_channels,
        widths=[_width(sizes, blocks) for blocks in both],
        layers_per_level=[len(level) for level in levels],
        transformer_depths=[_depth(sizes, [f"{block}.1" for block in blocks]) for blocks in both],
        middle_depth=_depth(sizes, ["middle_block.1"]) or 0,
        head_dim=head_dim,
        context_width=sizes.most(r".*\.attn2\.to_k\.weight$", 1, "cross-attention (attn2.to_k)"),
        vector_width=sizes.of("label_emb.0.0.weight", 1),
        guidance_width=sizes.of("w_proj.weight", 1) if "w_proj.weight" in sizes.tensors else None,
        linear_projection=sizes.num_dims("middle_block.1.proj_in.weight") == 2,
    )


def official_names(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Released name, without the prefix, of each tensor of the diffusers network."""
    modules = {**_OUTER, **_block_names(config)}
    return {key: _translate(key, modules) for key in keys}


def _block_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Where the blocks of each level stand in the released numbering, which counts straight on."""
    layers = config["layers_per_block"]
    attends = [name.startswith("CrossAttn") for name in config["down_block_types"]]
    names: dict[str, str] = {}
    index = 1
    for level, num_layers in enumerate(layers):
        for layer in range(num_layers):
            names[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{index}.0"
            names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{index}.1"
            index += 1
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        index += 1
    index = 0
    for block, level in enumerate(reversed(range(len(layers)))):
        for layer in range(layers[level] + 1):
            names[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{index}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{index}.1"
            index += 1
        upsampler = f"output_blocks.{index - 1}.{2 if attends[level] else 1}.conv"
        names[f"up_blocks.{block}.upsamplers.0.conv"] = upsampler
    return names


def _translate(key: str, modules: Mapping[str, str]) -> str:
    parts = key.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = modules.get(".".join(parts[:end]))
        if module is not None:
            rest = parts[end:]
            if "resnets" in parts[:end]:
                rest[0] = _RESIDUAL[rest[0]]
            return ".".join([module, *rest])
    raise AssertionError(f"{key} of the diffusers UNet has no released name")


def _levels(sizes: _Sizes) -> Iterator[list[int]]:
    """Indices of the residual blocks among ``input_blocks``, level by level."""
    found = sizes.indices(r"input_blocks\.(\d+)\.")
    last = max(found, default=0)
    gap = next((index for index in range(last) if index not in found), None)
    if gap is not None:
        sizes.fail(f"has tensors of input_blocks.{last}, and none of input_blocks.{gap}")
    level: list[int] = []
    for index in range(1, last + 1):
        if sizes.any(rf"input_blocks\.{index}\.0\.op\."):
            yield level
            level = []
        else:
            level.append(index)
    if not level:
        sizes.fail(f"has no residual block after input_blocks.{last}")
    yield level


def _way_up(levels: list[list[int]], level: int) -> list[str]:
    """Names of the residual blocks of a level on the way up: one more than on the way down."""
    first = sum(len(deeper) + 1 for deeper in levels[level + 1 :])
    return [f"output_blocks.{first + layer}" for layer in range(len(levels[level]) + 1)]


def _width(sizes: _Sizes, blocks: list[str]) -> int:
    names = "|".join(map(re.escape, blocks))
    layers = r"(in_layers\.2|emb_layers\.1|out_layers\.0|out_layers\.3)"
    pattern = rf"({names})\.0\.{layers}\.weight$"
    return sizes.most(pattern, 0, f"residual block in {', '.join(blocks)}")


def _depth(sizes: _Sizes, transformers: list[str]) -> int | None:
    """Blocks of each of these transformers, None if there are no such transformers."""
    names = [re.escape(name) for name in transformers]
    if not sizes.any(rf"({'|'.join(names)})\.(norm|proj|transformer_blocks)"):
        return None
    depths = [len(sizes.indices(rf"{name}\.transformer_blocks\.(\d+)\.")) for name in names]
    return _most_common(depths)


class _Sizes:
    """Questions about the names and shapes of tensors, with errors that say what is missing."""

    def __init__(self, tensors: Mapping[str, Any], file: Path) -> None:
        self.tensors, self._file = tensors, file

    def fail(self, problem: str) -> NoReturn:
        raise RelayError(f"{self._file} is no CogView3 UNet: it {problem}")

    def of(self, name: str, dim: int) -> int:
        tensor = self.tensors.get(name)
        if not isinstance(tensor, Tensor) or tensor.ndim <= dim:
            self.fail(f"has no tensor {PREFIX}{name} with {dim + 1} or more dimensions")
        return tensor.shape[dim]

    def num_dims(self, name: str) -> int:
        self.of(name, 0)
        return self.tensors[name].ndim

    def most(self, pattern: str, dim: int, what: str) -> int:
        found = [self.of(name, dim) for name in self.tensors if re.match(pattern, name)]
        if not found:
            self.fail(f"has no {what}")
        return _most_common(found)

    def any(self, pattern: str) -> bool:
        return any(re.match(pattern, name) for name in self.tensors)

    def indices(self, pattern: str) -> set[int]:
        return {int(m[1]) for m in (re.match(pattern, name) for name in self.tensors) if m}


def _most_common(values: Iterable[int]) -> int:
    return Counter(values).most_common(1)[0][0]
