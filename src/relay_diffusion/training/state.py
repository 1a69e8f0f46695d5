"""What a checkpoint holds: tensors by name, as the run has them, to be saved or loaded in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.training.ema import Ema
from relay_diffusion.training.optimizer import MuonAndAdamW, set_rate

Optimizer = torch.optim.Optimizer | MuonAndAdamW


def training_state(
    modules: Mapping[str, nn.Module], ema: Ema, optimizer: Optimizer, step: Tensor
) -> dict[str, Tensor]:
    """Everything that a run changes: weights that learn, buffers, average, optimiser, step.

    The tensors are the live ones (each process has its part of those that are sharded), so loading
    into them is resuming. What stays as it was loaded is no part of it.

    Args: step, (1,) int64.
    """
    state = {"step": step}
    names: dict[int, str] = {}
    for module_name, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                names[id(parameter)] = f"{module_name}.{name}"
                state[f"weights.{module_name}.{name}"] = parameter.detach()
        for name, buffer in module.named_buffers():
            state[f"buffers.{module_name}.{name}"] = buffer
    state.update({f"ema.{name}": value for name, value in ema.state_dict().items()})
    _allocate(optimizer)
    for learnt, values in _states(optimizer):
        for kind, value in _tensors(values):
            state[f"optimizer.{names[id(learnt)]}.{kind}"] = value
    # Scalars, of which the storage keeps no slices.
    return {name: value if value.ndim else value.view(1) for name, value in state.items()}


def _states(optimizer: Optimizer) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    if isinstance(optimizer, MuonAndAdamW):
        yield from optimizer.states()
    else:
        yield from optimizer.state.items()


def _allocate(optimizer: Optimizer) -> None:
    """Make an optimiser that has not stepped yet allocate its state: by a step at rate 0 along
    gradients of 0, which changes no weight, and is then forgotten."""
    set_rate(optimizer, 0.0)
    for parameter in _parameters(optimizer):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for _, values in _states(optimizer):
        for _, value in _tensors(values):
            value.zero_()


def _tensors(values: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """What an optimiser keeps of a parameter, as plain tensors."""
    for kind, value in values.items():
        if hasattr(
            value, "codes"
        ):  # moments of eight bits a number, and the scales of their blocks
            yield f"{kind}.codes", value.codes
            yield f"{kind}.scale", value.scale
        elif isinstance(value, Tensor):
            yield kind, value


def _parameters(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    if isinstance(optimizer, MuonAndAdamW):
        yield from (parameter for parameter, _ in optimizer.pairs)
        optimizer = optimizer.adamw
    for group in optimizer.param_groups:
        yield from group["params"]
