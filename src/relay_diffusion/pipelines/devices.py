"""Which device and precision a run uses where the user leaves them open."""

from __future__ import annotations

from typing import Any

import torch

from relay_diffusion.errors import RelayError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU if there is one, else Apple's, else the CPU.

    Raises: RelayError for a device that this machine does not have.
    """
    at_hand = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in at_hand.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RelayError(f"device {name!r}; allowed is auto, cpu, cuda, cuda:1, mps") from None
    if not at_hand.get(device.type, True):
        raise RelayError(f"device {name}: this machine has none that torch can use; try cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RelayError(f"device {name}: there are {torch.cuda.device_count()}, counted from 0")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name for the UNets and the text encoder; "auto" is bfloat16 on an
    accelerator, but float16 on a CUDA GPU that only emulates it (those before Ampere: T4, V100),
    and float32 on the CPU.

    Raises: RelayError for any other name.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float16
    full = _SHORT.get(name, name)
    if full not in DTYPES:
        raise RelayError(f"dtype {name!r}; allowed is auto, {', '.join(DTYPES)}")
    return DTYPES[full]


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


Dtype = torch.dtype | str | None
Precision = Dtype | dict[str, Dtype]
"""What ``from_pretrained`` takes for a dtype: itself, its name, a table of them by part."""


def dtypes_of_parts(dtype: Precision, device_map: Any = None) -> dict[str, torch.dtype]:
    """The dtype that each part of a cascade is opened in, as diffusers' ``from_pretrained`` reads.

    Args:
        dtype: of the UNets and the text encoder, the VAE staying in float32 (that of SDXL overflows
            in float16), or its name; None and "auto": as ``pick_dtype`` for where it is opened; a
            table ({"default": ..., "vae": ...}) says it for each.
        device_map: of ``from_pretrained``: "balanced" or a device; None opens on the CPU.
    Raises: RelayError for what is no dtype, or a device that this machine does not have.
    """

    def picked(one: Dtype) -> torch.dtype:
        if isinstance(one, torch.dtype):
            return one
        where = device_map if isinstance(device_map, str) else "cpu"
        device = pick_device("auto" if where == "balanced" else where)
        return pick_dtype("auto" if one is None else str(one), device)

    table = dtype if isinstance(dtype, dict) else {"default": dtype}
    return {"vae": torch.float32, **{part: picked(one) for part, one in table.items()}}
