"""The parts that a cascade's folder does not hold, or not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import PARTS, shared_parts
from relay_diffusion.models.low_rank import differences, open_low_rank
from relay_diffusion.pipelines.devices import pick_device
from relay_diffusion.pipelines.notices import warn_once

LOADER_SETTINGS = (
    "device_map",
    "disable_mmap",
    "low_cpu_mem_usage",
    "quantization_config",
    "variant",
)
"""What ``from_pretrained`` may be told that holds for the parts of other cascades, too."""


def lent_parts(
    open_cascade: Callable[..., Any],
    folder: Path,
    dtypes: Mapping[str, torch.dtype],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The parts that the cascade in ``folder`` has from others, but for those that are given.

    Args:
        open_cascade: as ``RelayPipeline.from_pretrained``.
        given: what that was told, parts among it, None for one that is not wanted.
    """
    told = {name: given[name] for name in LOADER_SETTINGS if name in given}
    lent: dict[str, Any] = {}
    for owner, shared in shared_parts(folder).items():
        wanted = set(shared) - given.keys()
        if wanted:
            _insist_on_one_device(folder, wanted, given)
            unwanted = dict.fromkeys(set(PARTS) - {"scheduler", *wanted})
            lender = open_cascade(owner, dtype=dtypes, **told, **unwanted)
            lent |= {part: getattr(lender, part) for part in wanted}
    return lent


def parts_of_differences(
    folder: Path, dtypes: Mapping[str, torch.dtype], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The UNets that the cascade in ``folder`` stores as differences, but for those that are given.
    They are not quantised: where others shall be, a warning says so.

    Args: given: as :func:`lent_parts` takes it.
    """
    low_rank = {part: of for part, of in differences(folder).items() if part not in given}
    if not low_rank:
        return {}
    _insist_on_one_device(folder, low_rank, given)
    if given.get("quantization_config"):
        warn_once(
            f"{', '.join(low_rank)} of {folder} are stored as differences and not quantised: "
            "save the cascade whole with save_pretrained, and open that"
        )
    device = pick_device(given.get("device_map") or "cpu")
    return {
        part: open_low_rank(
            folder / part, of, dtypes.get(part, dtypes.get("default", torch.float32))
        ).to(device)
        for part, of in low_rank.items()
    }


def _insist_on_one_device(folder: Path, parts: Iterable[str], given: Mapping[str, Any]) -> None:
    if given.get("device_map") == "balanced":
        raise RelayError(
            f"{', '.join(sorted(parts))} of {folder} are shared or stored as differences, which "
            "diffusers cannot balance: give a device_map of one device, or save the cascade whole "
            "with save_pretrained, and open that"
        )
