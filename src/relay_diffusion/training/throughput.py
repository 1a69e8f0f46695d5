"""How much arithmetic a step is, and what share of the device's peak a run makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PEAKS = {
    # Dense bfloat16, in FLOP/s, from the makers' data sheets.
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
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


def training_flops(forward: Callable[[], Any], trained: Mapping[str, nn.Module]) -> int:
    """Operations of a training pass, a multiplication and an addition counting as two.

        3 F_trained + F_rest

    of the forward pass: the backward pass through a network that learns costs twice its forward
    one (arXiv:2001.08361, section 2.1), the others have none. What activation checkpointing does
    again is not counted, so the share of the peak is of useful work (MFU, arXiv:2204.02311).

    Args: forward, run once, without gradients.
    """
    inside = depth = before = 0

    def enter(*_: Any) -> None:
        nonlocal depth, before
        if depth == 0:
            before = counter.get_total_flops()
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth, inside
        depth -= 1
        if depth == 0:
            inside += counter.get_total_flops() - before

    # On all parts: an autoencoder is not called as a whole.
    learning = [
        part
        for module in trained.values()
        if any(p.requires_grad for p in module.parameters())
        for part in module.modules()
    ]
    hooks = [part.register_forward_pre_hook(enter) for part in learning]
    hooks += [part.register_forward_hook(leave) for part in learning]
    for module in trained.values():
        module.eval()  # which leaves buffers as they are
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            forward()
    finally:
        into_training(trained)
        for hook in hooks:
            hook.remove()
    return int(counter.get_total_flops() + 2 * inside)


def into_training(trained: Mapping[str, nn.Module]) -> None:
    """Put into training mode what learns; a module that is kept as it is (scale 0) stays as in use:
    it drops nothing out, and has no activations to checkpoint."""
    for module in trained.values():
        module.train(any(p.requires_grad for p in module.parameters()))
