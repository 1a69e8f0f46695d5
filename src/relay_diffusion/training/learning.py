"""Which networks learn, and the mode that they do it in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def learns(module: nn.Module) -> bool:
    """Whether anything in a network does; all of it may be kept as it is (scale 0)."""
    return any(parameter.requires_grad for parameter in module.parameters())


def into_training(trained: Mapping[str, nn.Module]) -> None:
    """Put into training mode what learns; a module that is kept as it is stays as in use: it drops
    nothing out, and has no activations to checkpoint."""
    for module in trained.values():
        module.train(learns(module))
