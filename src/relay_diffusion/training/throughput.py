"""How much arithmetic a step is, and what share of the device's peak a run makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from relay_diffusion.training.learning import into_training

PEAKS = {
    # Dense bfloat16, in FLOP/s, from the makers' data sheets. The first that is in a name counts.
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "4090": 165e12,
    "3090": 71e12,
    "MI300X": 1307e12,
}


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 operations a second of a GPU whose name is known; None for any other."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def training_flops(forward: Callable[[], Tensor], trained: Mapping[str, nn.Module]) -> int:
    """Operations of a training pass, a multiplication and an addition counting as two.

        F (1 + number of operands with a gradient)

    of each product with F operations in the forward pass, its operands being a weight and an input,
    or two inputs: thrice the forward pass for most (arXiv:2001.08361, section 2.1), twice for what
    reads data or a frozen text encoder, or passes a gradient through frozen weights; attention as
    the two products that it is. What activation checkpointing or a fused kernel does again is not
    counted, so the share of the peak is of useful work (MFU, arXiv:2204.02311).

    Args:
        forward: is run once. If its result has a gradient, so is its backward pass, which FSDP
            waits for; gradients are dropped.
        trained: modules that are in training mode, if they learn, afterwards.
    """
    for module in trained.values():
        module.eval()  # which leaves buffers as they are
    try:
        with torch.enable_grad():
            with FlopCounterMode(display=False) as counter, _BackwardFlops(counter) as backward:
                result = forward()
            if result.requires_grad:
                result.sum().backward()
    finally:
        into_training(trained)
        for module in trained.values():
            module.zero_grad(set_to_none=True)
    return int(counter.get_total_flops() + backward.flops)


class _BackwardFlops(TorchFunctionMode):
    """What the backward pass of functions, while this is entered, will cost."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter
        self.flops = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        flops = self.counter.get_total_flops() - before
        if flops and torch.is_grad_enabled():
            operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            # Biases have none of the products; of attention, two of three operands make both.
            learning = sum(x.requires_grad for x in operands if x.ndim > 1)
            self.flops += flops * min(learning, 2)
        return result
