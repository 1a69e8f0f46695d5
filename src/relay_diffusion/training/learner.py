"""What a run changes: networks, their average, the optimiser, the number of steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.training import distributed
from relay_diffusion.training.ema import Ema
from relay_diffusion.training.learning import into_training
from relay_diffusion.training.optimizer import MuonAndAdamW, build_optimizer, set_rate
from relay_diffusion.training.recipe import Recipe

Optimizer = torch.optim.Optimizer | MuonAndAdamW


class Learner:
    """The networks that learn, with what makes them.

    Attributes:
        modules: by name, on ``device``, sharded if they are to be.
        optimizer: of what learns in them.
        ema: the average of that.
        done_steps: (1,) int64, how many steps they have learned for.
        state: what a checkpoint holds, tensors by name: weights that learn, buffers, average,
            optimiser, steps. They are the live ones (each process has its part of those that are
            sharded), so loading into them is resuming. What stays as it was is no part of it.
    """

    def __init__(
        self, recipe: Recipe, modules: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        self.modules = modules
        self.optimizer: Optimizer = build_optimizer(modules, recipe.optimizer)
        self.ema = Ema(modules, recipe.ema)
        self.done_steps = torch.zeros(1, dtype=torch.int64)
        self.state = _state(modules, self.ema, self.optimizer, self.done_steps)
        self._recipe, self._device = recipe, device

    def count(self, step: int) -> None:
        """Note that ``step`` = 1, 2, ... is done, and take the weights into the average."""
        self.done_steps.fill_(step)
        self.ema.update(step)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Averaged weights, no gradients, the precision of the run; all as before afterwards."""
        for module in self.modules.values():
            module.eval()
        try:
            with (
                torch.no_grad(),
                self.ema.applied(),
                autocast(self._recipe, self._device),
                # Batches have sizes here that training has not: each would be compiled for.
                torch.compiler.set_stance("force_eager"),
            ):
                yield
        finally:
            distributed.forget_gathered(self.modules)
            into_training(self.modules)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The precision that a run computes in."""
    dtype = torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=recipe.run.dtype == "bfloat16")


def _state(
    modules: Mapping[str, nn.Module], ema: Ema, optimizer: Optimizer, done_steps: Tensor
) -> dict[str, Tensor]:
    state = {"step": done_steps}
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
