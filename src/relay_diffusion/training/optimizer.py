"""AdamW and the course of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (arXiv:1711.05101) with linear warm-up and a decay.

    ``schedule`` falls from ``lr`` to ``final * lr`` over the last ``decay_steps`` steps of the run
    (0: all steps after the warm-up). ``clip`` bounds the norm of the whole gradient (0: never).
    ``scales`` multiplies the rate of a module by its name; 0 keeps the module as it is.
    ``accumulate`` splits each batch into that many parts, to save memory; the result is the same.
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 500
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay_steps: int = 0
    final: float = 0.0
    scales: dict[str, float] = field(default_factory=dict)
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}, must be at least 1")

    def lr_at(self, step: int, num_steps: int) -> float:
        """Learning rate of step 0, 1, ..., num_steps - 1."""
        lr = self.lr * min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return lr
        length = self.decay_steps or num_steps - self.warmup
        progress = min(1.0, max(0.0, (step + 1 - num_steps + length) / max(length, 1)))
        fall = progress if self.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return lr * (1 - (1 - self.final) * fall)


def build_optimizer(
    modules: Mapping[str, nn.Module], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """AdamW over all that learns; weight decay on matrices and kernels, not on gains and biases.

    Each group has its module's ``scale``, and parameters whose scale is 0 no longer ask for
    gradients. Raises: RelayError if a scale is for no module, or nothing is left to learn.
    """
    unknown = settings.scales.keys() - modules.keys()
    if unknown:
        raise RelayError(
            f"optimizer.scales.{min(unknown)}: what learns here is {', '.join(modules)}"
        )
    groups = []
    for name, module in modules.items():
        scale = settings.scales.get(name, 1.0)
        if scale == 0:
            module.requires_grad_(False)
        learning = [p for p in module.parameters() if p.requires_grad]
        for matrices, decay in ((True, settings.weight_decay), (False, 0.0)):
            params = [p for p in learning if (p.ndim >= 2) == matrices]
            if params:
                groups.append({"params": params, "weight_decay": decay, "scale": scale})
    if not groups:
        raise RelayError("optimizer.scales leaves nothing to learn")
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
