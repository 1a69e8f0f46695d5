"""Activation checkpointing: less memory for a third more arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from relay_diffusion.errors import RelayError
from relay_diffusion.training.learning import learns


def checkpoint_activations(modules: Mapping[str, nn.Module]) -> None:
    """Have the blocks of ``modules`` keep their inputs only, and compute the rest once more in the
    backward pass; results are the same.

    Raises: RelayError for a class that its library has not taught to.
    """
    for name, module in modules.items():
        if not learns(module):
            continue
        plain: Any = module
        try:
            if hasattr(plain, "enable_gradient_checkpointing"):  # diffusers
                plain.enable_gradient_checkpointing()
            else:  # transformers, by its name of today or of before
                enable = getattr(plain, "activation_checkpointing_enable", None)
                (enable or plain.gradient_checkpointing_enable)()
        except (AttributeError, ValueError) as error:
            raise RelayError(
                f"{name}, a {type(module).__name__}, has no activation checkpointing: "
                "set run.activation_checkpointing to false"
            ) from error
