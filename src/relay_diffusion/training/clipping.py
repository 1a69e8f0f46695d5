"""Bounds the norm of gradients, of all that learns from one loss together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from relay_diffusion.training import distributed
from relay_diffusion.training.objective import Objective


def clipped_together(objective: Objective) -> dict[str, list[nn.Parameter]]:
    """What learns, by the name that the norm of its gradient has in the log: all of it together, or
    module by module where each has a loss of its own, as DMD2 (arXiv:2405.14867) does it: the
    critic's large gradients would otherwise scale down the student's."""
    learning = {
        name: [p for p in module.parameters() if p.requires_grad]
        for name, module in objective.trained.items()
    }
    if objective.own_losses:
        return {f"grad_norm_{name}": parameters for name, parameters in learning.items()}
    return {"grad_norm": [p for parameters in learning.values() for p in parameters]}


def clip_gradients(groups: Mapping[str, Sequence[nn.Parameter]], clip: float) -> dict[str, Tensor]:
    """Scale the gradients of each group down to a norm of ``clip``, 0 for no bound; the norms that
    they had."""
    bound = clip or float("inf")
    return {
        name: distributed.whole(torch.nn.utils.clip_grad_norm_(parameters, bound, foreach=True))
        for name, parameters in groups.items()
    }
