"""LoRA and DoRA adapters of a cascade's UNets, as files and as parts of a network.

One file holds those of either UNet or of both, in the layout of diffusers: its keys start with
``base_unet.`` or ``relay_unet.``, its metadata has peft's configuration under the same prefixes, so
that a UNet of plain diffusers opens it too: ``unet.load_lora_adapter(folder, prefix="base_unet",
weight_name="pytorch_lora_weights.safetensors")``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.files import put, sha256_of
from relay_diffusion.models.checkpoint import read_safetensors

LORA_FILE = "pytorch_lora_weights.safetensors"
UNETS = ("base_unet", "relay_unet")
_CONFIG = "lora_adapter_metadata"  # the key that diffusers reads
_TOLD = ("r", "lora_alpha", "target_modules", "use_dora")


@dataclass(frozen=True)
class Adapter:
    """What a file holds.

    Attributes:
        path: as the user named it.
        sha256: of the file's content, hexadecimal.
        cascade: that it was trained on, "" if the file does not say.
        tensors: by UNet, then by name in that network.
        configs: by UNet, arguments of ``peft.LoraConfig``; {} if the file does not say.
    """

    path: str
    sha256: str
    cascade: str
    tensors: dict[str, dict[str, Tensor]]
    configs: dict[str, dict[str, Any]]


def import_peft() -> Any:
    """The module. Raises: RelayError if it is not installed."""
    try:
        import peft
    except ModuleNotFoundError as error:
        raise RelayError(
            "adapters (LoRA, DoRA) need peft: pip install 'relay-diffusion[train]'"
        ) from error
    return peft


def read_adapter(path: str | Path) -> Adapter:
    """An adapter's file, or its folder.

    Raises: RelayError if there is none, it is damaged, or a key is for neither UNet.
    """
    file = Path(path).expanduser()
    file = file / LORA_FILE if file.is_dir() else file
    if not file.is_file():
        raise RelayError(f"there is no adapter {path}: give a folder that holds {LORA_FILE}")
    stored, metadata = read_safetensors(file)
    try:
        configs = json.loads(metadata.get(_CONFIG, "{}"))
        if not isinstance(configs, dict):
            raise ValueError("its configuration is no table")
    except ValueError as error:
        raise RelayError(f"{file} is no adapter, or it is damaged: {error}") from error
    tensors = {part: _of_part(part, stored) for part in UNETS}
    strange = [key for key in stored if not key.startswith(tuple(f"{part}." for part in UNETS))]
    if strange or not stored:
        what = f"key {strange[0]} is for neither UNet" if strange else "it holds nothing"
        raise RelayError(
            f"{file} is no adapter of a cascade: {what}; keys start with base_unet. or relay_unet."
        )
    return Adapter(
        str(path),
        sha256_of(file),
        metadata.get("cascade", ""),
        {part: held for part, held in tensors.items() if held},
        {part: _of_part(part, configs) for part in UNETS},
    )


def write_adapter(
    folder: Path,
    unets: Mapping[str, Any],
    cascade: str,
    adapter_name: str = "default",
    dtype: torch.dtype | None = None,
    whole: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    writes: bool = True,
) -> Path:
    """Write the adapter of that name in ``unets``, and nothing else of them.

    Args:
        folder: is made if need be; an adapter in it is replaced, whole or not at all.
        unets: by ``UNETS``, each with that adapter.
        cascade: to be named in the file.
        dtype: None keeps that of the adapter.
        whole: makes one tensor of what several processes have parts of; all of them call it.
        writes: whether this process is the one that writes.
    Returns: the file. Raises: OSError if it cannot be written.
    """
    peft = import_peft()
    blank = peft.LoraConfig().to_dict()
    tensors, configs = {}, {}
    for part, unet in unets.items():
        state = peft.get_peft_model_state_dict(unet, adapter_name=adapter_name)
        for key, tensor in state.items():
            tensors[f"{part}.{key}"] = whole(tensor.detach()).to("cpu", dtype).contiguous()
        for key, value in unet.peft_config[adapter_name].to_dict().items():
            if key in _TOLD or value != blank[key]:
                configs[f"{part}.{key}"] = sorted(value) if isinstance(value, set) else value
    metadata = {"format": "pt", "cascade": cascade, _CONFIG: json.dumps(configs, sort_keys=True)}
    file = folder / LORA_FILE
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        with put(file) as new:
            new.write_bytes(save(tensors, metadata))
    return file


@torch.no_grad()
def attach_adapter(
    unet: Any, part: str, adapter: Adapter, scale: float, adapter_name: str, pipe: Any = None
) -> None:
    """Put what an adapter has for ``part`` into its UNet, beside those that are there already.

    The weights that act are W + scale (W' - W), W' being those that were trained, whether LoRA or
    DoRA. Several LoRAs add up; a DoRA acts on the output of those before it. Scale 0 attaches
    nothing.

    Args:
        pipe: that the UNet belongs to, where it may be offloaded.
    Raises: RelayError if it does not fit the network, or one of that name is there.
    """
    peft = import_peft()
    tensors, config = adapter.tensors[part], adapter.configs.get(part)
    if adapter_name in getattr(unet, "peft_config", {}):
        raise RelayError(
            f"{part} has an adapter named {adapter_name!r} already: give this one another "
            "adapter_name"
        )
    _check_fit(unet, part, adapter)
    if scale == 0:
        return
    try:
        with warnings.catch_warnings():  # peft's, of a second adapter
            warnings.simplefilter("ignore", UserWarning)
            unet.load_lora_adapter(
                dict(sorted(tensors.items())),
                prefix=None,
                adapter_name=adapter_name,
                metadata=config or None,
                _pipeline=pipe,
            )
    except (TypeError, ValueError, RuntimeError) as error:
        first = first_line(error)
        raise RelayError(f"{adapter.path} cannot be put into {part}: {first}") from error
    for module in unet.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer) and adapter_name in module.lora_B:
            _scale(module, adapter_name, scale)
    unet.set_adapters(list(unet.peft_config))


def _scale(layer: Any, adapter_name: str, scale: float) -> None:
    """Make W' of a layer's adapter W + scale (W' - W).

    LoRA: W' = W + s B A, so B becomes scale B. DoRA (arXiv:2402.09353): W' = f (W + s B A) with
    f = m / ||W + s B A|| by output, so W + scale (W' - W) = g (W + (scale f / g) s B A) with
    g = 1 + scale (f - 1).
    """
    if scale == 1:
        return
    up = layer.lora_B[adapter_name].weight
    if adapter_name not in layer.lora_magnitude_vector:
        up.mul_(scale)
        return
    dora, weight = layer.lora_magnitude_vector[adapter_name], layer.get_base_layer().weight

    def norm() -> Tensor:
        length: Tensor = dora.get_weight_norm(weight, layer.get_delta_weight(adapter_name), 1.0)
        return length

    f = dora.weight / norm()
    g = 1 + scale * (f - 1)
    up.mul_((scale * f / g).reshape(-1, *[1] * (up.ndim - 1)))
    dora.weight.copy_(g * norm())


def _check_fit(unet: Any, part: str, adapter: Adapter) -> None:
    """Raise RelayError, naming the first, for tensors that have no place in the network."""
    layers: dict[str, nn.Module] = dict(unet.named_modules())
    origin = f", which was trained on {adapter.cascade}," if adapter.cascade else ""
    refusal = f"{adapter.path}{origin} does not fit the {part} of this cascade"
    held: dict[str, dict[str, Tensor]] = {}
    for key, tensor in adapter.tensors[part].items():
        name, _, kind = key.removesuffix(".weight").rpartition(".lora_")
        held.setdefault(name or key, {})[kind] = tensor
    has_dora = any("magnitude_vector" in kinds for kinds in held.values())
    dora = adapter.configs.get(part, {}).get("use_dora", has_dora)
    for name, kinds in held.items():
        layer = layers.get(name)
        weight = getattr(getattr(layer, "base_layer", layer), "weight", None)
        if weight is None:
            raise RelayError(f"{refusal}, which has no {name}")
        if kinds.keys() != ({"A", "B", "magnitude_vector"} if dora else {"A", "B"}):
            raise RelayError(f"{refusal}: {name} has {', '.join(sorted(kinds))} in it")
        num_out, *others = weight.shape
        rank = len(kinds["A"])
        shapes = {"A": (rank, *others), "B": (num_out, rank, *[1] * len(others[1:]))}
        for kind, wanted in shapes.items():
            if kinds[kind].shape != wanted:
                shape = f"{_shape(kinds[kind].shape)} where {_shape(wanted)} is wanted"
                raise RelayError(f"{refusal}: {name}.lora_{kind} is {shape}")
        if dora and kinds["magnitude_vector"].numel() != num_out:
            raise RelayError(f"{refusal}: {name} has {num_out} outputs, its magnitudes are others")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _of_part(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix(f"{part}."): value
        for key, value in values.items()
        if key.startswith(f"{part}.")
    }
