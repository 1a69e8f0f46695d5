"""The noise schedule, one per cascade: losses, samplers and denoisers all derive from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Noise level of every training index, in variance-exploding form.

        sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t)

    Attributes:
        sigmas: (num_train_steps,) float32 on the CPU, strictly ascending, all above 0.
    """

    sigmas: Tensor

    def __post_init__(self) -> None:
        sigmas = self.sigmas
        if sigmas.ndim != 1 or len(sigmas) < 2:
            raise ValueError(f"sigmas has shape {tuple(sigmas.shape)}; give (num_train_steps,)")
        if not (sigmas[0] > 0 and (sigmas.diff() > 0).all() and sigmas[-1] < float("inf")):
            raise ValueError("sigmas must be finite, above 0 and strictly ascending")

    @classmethod
    def scaled_linear(
        cls, beta_start: float = 0.00085, beta_end: float = 0.012, num_train_steps: int = 1000
    ) -> NoiseSchedule:
        """The schedule of latent diffusion, SDXL and CogView3: sqrt(beta) is a linear ramp.

            beta_t = (sqrt(beta_start) + t / (T - 1) (sqrt(beta_end) - sqrt(beta_start)))^2
            alpha_bar_t = prod_{s <= t} (1 - beta_s)

        Computed in float64, kept as float32. With the defaults sigma runs from 0.0292 to 14.61.

        Raises: ValueError unless 0 < beta_start <= beta_end < 1 and num_train_steps >= 2.
        """
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(
                f"beta_start {beta_start} and beta_end {beta_end} must satisfy "
                "0 < beta_start <= beta_end < 1"
            )
        if num_train_steps < 2:
            raise ValueError(f"num_train_steps is {num_train_steps}; give 2 or more")
        roots = torch.linspace(
            beta_start**0.5, beta_end**0.5, num_train_steps, dtype=torch.float64, device="cpu"
        )
        alpha_bar = (1 - roots**2).cumprod(0)
        return cls(((1 - alpha_bar) / alpha_bar).sqrt().float())

    @property
    def num_train_steps(self) -> int:
        return len(self.sigmas)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level of training indices ``t`` (int64, any shape), on the device of ``t``.

        Raises: ValueError for what is no index, or one outside 0..num_train_steps-1. That is looked
            for on the CPU only: on a GPU the check would cost a synchronisation, and indexing there
            asserts.
        """
        if t.dtype not in (torch.int64, torch.int32):  # bytes and bools would choose, not index
            raise ValueError(f"training indices of {t.dtype}; give int64")
        if t.device.type == "cpu" and t.numel():
            low, high = int(t.min()), int(t.max())
            if low < 0 or high >= self.num_train_steps:
                raise ValueError(
                    f"training indices from {low} to {high}; "
                    f"allowed is 0 to {self.num_train_steps - 1}"
                )
        return self.sigmas.to(t.device)[t]

    def sample_sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of a base run.

            t = floor(linspace(999, 0, num_steps, end excluded)), then sigma = 0

        The released sampler's spacing. A shorter tail of it starts the base stage part-way.

        Returns: (num_steps + 1,) float32, strictly descending to 0.
        Raises: ValueError unless 1 <= num_steps <= num_train_steps.
        """
        if not 1 <= num_steps <= self.num_train_steps:
            raise ValueError(f"{num_steps} steps; allowed is 1 to {self.num_train_steps}")
        return self._descend(self.num_train_steps - 1, num_steps)

    def relay_sigmas(self, num_steps: int, start: float = 500) -> Tensor:
        """Noise levels of a relay run that starts at level ``start`` of the training indices.

            t = floor(linspace(0.999 start, 0, num_steps, end excluded)), then sigma = 0

        The released code writes the same as "the last P of N steps", start = 1000 P / N
        (12 of 24 and 4 of 8 are 500, 1 of 5 is 200).

        Args:
            num_steps: P, at most ``start`` so that no index comes twice.
            start: T_r, above 0, at most num_train_steps; CogView3 uses 500.
        Returns: (num_steps + 1,) float32, strictly descending to 0.
        Raises: ValueError for values outside these ranges.
        """
        if not 1 <= start <= self.num_train_steps:
            raise ValueError(f"relay start {start}; allowed is 1 to {self.num_train_steps}")
        if not 1 <= num_steps <= start:
            raise ValueError(f"{num_steps} relay steps from start {start}; allowed is 1 to {start}")
        # 0.999 start is rarely a float: the nudge keeps an index that is whole from being rounded
        # down to the one below.
        top = start * (self.num_train_steps - 1) / self.num_train_steps
        return self._descend(top * (1 + 1e-12), num_steps)

    def nearest(self, sigma: Tensor | float) -> Tensor:
        """Training index whose noise level is nearest to ``sigma``, the lower one in a tie.

        Args:
            sigma: any shape, on any device.
        Returns: int64, same shape and device.
        """
        sigma = torch.as_tensor(sigma)
        sigmas = self.sigmas.to(device=sigma.device)
        midpoints = (sigmas[1:] + sigmas[:-1]) / 2
        # An expanded scalar, which is how a sigma (B,) often comes, is not contiguous.
        return torch.searchsorted(midpoints, sigma.to(sigmas.dtype).contiguous())

    def _descend(self, top: float, num_steps: int) -> Tensor:
        """sigma at floor(top - i top / num_steps), then 0; rounds as numpy.linspace does."""
        indices = [int(i * (-top / num_steps) + top) for i in range(num_steps)]
        return torch.cat([self.sigmas[indices], self.sigmas.new_zeros(1)])
