"""Exponential moving average of the trained weights, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from relay_diffusion.errors import RelayError

WIDEST = 0.28
"""Above some 0.29 (gamma = 0) no power profile that forgets has so large a width."""


@dataclass(frozen=True)
class EmaSettings:
    """The exponential moving average of what learns, which is what is validated and exported.

    Attributes:
        kind: "power" is beta_t = (1 - 1/t)^(gamma+1), whose memory is a fraction of the run so far
            (EDM2, arXiv:2312.02696, eq. 121-127); "fixed" is min(decay, (1 + t) / (10 + t)).
        width: of "power": that fraction, as a relative standard deviation.
        decay: of "fixed".
    """

    kind: Literal["power", "fixed"] = "power"
    width: float = 0.05
    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.width <= WIDEST:
            raise RelayError(f"width is {self.width:g}, must be above 0, at most {WIDEST}")
        if not 0 <= self.decay < 1:
            raise RelayError(f"decay is {self.decay:g}, must be at least 0 and below 1")

    def beta(self, step: int) -> float:
        """Weight of the old average after optimiser step ``step`` = 1, 2, ..."""
        if self.kind == "power":
            return float((1 - 1 / step) ** (power_exponent(self.width) + 1))
        return min(self.decay, (1 + step) / (10 + step))


def power_exponent(width: float) -> float:
    """gamma of the power profile of relative width sigma_rel (EDM2, algorithm 2):
    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())


class Ema:
    """Average of what learns in ``modules``, sharded as it is; of buffers the newest ones count."""

    def __init__(self, modules: Mapping[str, nn.Module], settings: EmaSettings) -> None:
        self.settings = settings
        self.live = {
            f"{name}.{key}": parameter
            for name, module in modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.average = {key: p.detach().float().clone() for key, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step ``step`` = 1, 2, ..."""
        weight = 1 - self.settings.beta(step)
        live = [p.detach().float() for p in self.live.values()]
        torch._foreach_lerp_(list(self.average.values()), live, weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The modules hold the average while inside, and their own weights, unchanged, after."""
        kept = {key: p.detach().clone() for key, p in self.live.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for key, parameter in self.live.items():
            parameter.copy_(values[key])

    def state_dict(self) -> dict[str, Tensor]:
        """The average itself, not a copy."""
        return self.average
