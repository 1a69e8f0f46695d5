"""The parts that a cascade's folder does not hold, or not whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from relay_diffusion.models.folder import PARTS, shared_parts
from relay_diffusion.models.low_rank import differences, open_low_rank
from relay_diffusion.pipelines.notices import warn_once


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
    told = {name: given[name] for name in ("quantization_config",) if name in given}
    lent: dict[str, Any] = {}
    for owner, shared in shared_parts(folder).items():
        wanted = set(shared) - given.keys()
        if wanted:
            unwanted = dict.fromkeys(set(PARTS) - {"scheduler", *wanted})
            lender = open_cascade(owner, dtype=dtypes, **told, **unwanted)
            lent |= {part: getattr(lender, part) for part in wanted}
    return lent


def parts_of_differences(
    folder: Path, dtypes: Mapping[str, torch.dtype], given: Collection[str], quantised: bool
) -> dict[str, Any]:
    """The UNets that the cascade in ``folder`` stores as differences, but for those that are given.

    Args: quantised: whether the cascade shall be, which these cannot: a warning says so.
    """
    low_rank = {part: of for part, of in differences(folder).items() if part not in given}
    if low_rank and quantised:
        warn_once(
            f"{', '.join(low_rank)} of {folder} are stored as differences and not quantised: "
            "save the cascade whole with save_pretrained, and open that"
        )
    return {
        part: open_low_rank(
            folder / part, of, dtypes.get(part, dtypes.get("default", torch.float32))
        )
        for part, of in low_rank.items()
    }
