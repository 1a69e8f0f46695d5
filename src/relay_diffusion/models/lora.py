"""LoRA and DoRA adapters of a cascade's UNets, as files.

One file holds those of either UNet or of both, in the layout of diffusers: its keys start with
``base_unet.`` or ``relay_unet.``, its metadata has peft's configuration under the same prefixes, so
that a UNet of plain diffusers opens it too: ``unet.load_lora_adapter(folder, prefix="base_unet",
weight_name="pytorch_lora_weights.safetensors")``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from relay_diffusion.errors import RelayError
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
    if not isinstance(path, str | Path):
        raise RelayError(f"an adapter of type {type(path).__name__}; give its folder, or its file")
    file = Path(path).expanduser()
    if (file / LORA_FILE).is_file():
        file = file / LORA_FILE
    if not file.is_file():
        below = sorted([*file.glob(f"*/{LORA_FILE}"), *file.glob(f"*/*/{LORA_FILE}")])
        way = f"the folder {below[0].parent} has one" if below else f"give one with {LORA_FILE}"
        raise RelayError(f"there is no adapter {path}: {way}")
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
    """Write the adapter of that name in ``unets``, as it acts, and nothing else of them.

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
        state |= _weighted(unet, adapter_name, state)
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


def _weighted(unet: Any, adapter_name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an adapter that are others by the weight that it was given beside others."""
    changed = {}
    for name, layer in unet.named_modules():
        if adapter_name not in getattr(layer, "scaling", {}):
            continue
        acting = layer.scaling[adapter_name]
        # peft tells the layer's own scale, alpha / rank, in no other way.
        layer.set_scale(adapter_name, 1)
        own, layer.scaling[adapter_name] = layer.scaling[adapter_name], acting
        if acting != own:
            key = f"{name}.lora_B.weight"
            changed[key] = state[key] * (acting / own)
    return changed


def _of_part(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix(f"{part}."): value
        for key, value in values.items()
        if key.startswith(f"{part}.")
    }
