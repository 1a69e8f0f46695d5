"""Training a network within a low-rank difference from another (``models/low_rank.py``).

The forward pass runs with W + B A as one matrix, not with the adapter beside the layer: on small
batches that costs a product of two thin matrices, where an adapter would cost another pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from relay_diffusion.models.folder import LOW_RANK_NOTE
from relay_diffusion.models.low_rank import factors, pays
from relay_diffusion.training import distributed

_FROZEN = ".parametrizations.weight.original"
_PART = ".parametrizations.weight.0."

_CONSTRAINED: dict[type[nn.Module], type[nn.Module]] = {}
"""The class of layers whose weight is constrained, of each class of layers."""


class LowRank(nn.Module):
    """W + B A, of which A and B learn. At first it is the nearest to a given weight."""

    def __init__(self, weight: Tensor, wanted: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        down = torch.empty(rank, columns, device=weight.device)
        nn.init.kaiming_uniform_(down, a=5**0.5)
        up = torch.zeros(rows, rank, device=weight.device)
        if not weight.is_meta:
            difference = wanted - weight
            if difference.any():
                nearest, up = factors(difference, rank)
                # A pair of which both are zero would never get a gradient.
                down = torch.where(up.any(0)[:, None], nearest, down)
            # What a decomposition leaves open, signs for one, each machine may choose in its way.
            down, up = distributed.of_main(down), distributed.of_main(up)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def constrain(module: nn.Module, of: Mapping[str, Tensor], rank: int) -> None:
    """Let ``module`` learn only in what a low-rank difference from the weights ``of`` can store:
    B A where it pays, and whole the weights that it does not pay for, or ``of`` does not have."""
    for name, layer in list(module.named_modules()):
        weight, own = getattr(layer, "weight", None), of.get(f"{name}.weight")
        if not isinstance(weight, nn.Parameter) or own is None or not pays(weight, rank):
            continue
        own = own.to(weight)
        difference = LowRank(own, weight.detach(), rank)
        layer.weight = nn.Parameter(own.clone(), requires_grad=False)
        before = type(layer)
        parametrize.register_parametrization(layer, "weight", difference)
        # Each layer has got a class of its own by now, all alike but for the layer that
        # ``parametrize.cached`` and ``remove_parametrizations`` would find, which must not be used
        # here. Layers of one class are what a compiler takes for the same, so that alike blocks are
        # compiled once.
        layer.__class__ = _CONSTRAINED.setdefault(before, type(layer))


def write_rank(export: Path, rank: int, of: str) -> None:
    """Say in an export folder what ``relay assemble`` may store it as.

    Args: of: hash of the network that it is the difference from.
    """
    (export / LOW_RANK_NOTE).write_text(json.dumps({"rank": rank, "of": of}) + "\n")


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with its products multiplied out, under the names that the network has for them; of
    a network without any, the same."""
    merged: dict[str, Any] = {}
    for name, tensor in state.items():
        layer = name.removesuffix(_FROZEN)
        if layer != name:
            added = state[f"{layer}{_PART}up"] @ state[f"{layer}{_PART}down"]
            merged[f"{layer}.weight"] = tensor + added.view_as(tensor)
        elif _PART not in name:
            merged[name] = tensor
    return merged
