"""Which optimiser moves which weights, and how far."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relay_diffusion.training.optimizer import OptimizerSettings, build_optimizer


def after_a_step(memory_format: torch.memory_format) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Changes of a small network's weights in a step of Muon at 0.1, and their gradients."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.SiLU(), nn.Conv2d(8, 6, 3)).to(
        memory_format=memory_format  # type: ignore[call-overload]
    )
    settings = OptimizerSettings(kind="muon", lr=0.1, weight_decay=0.0)
    optimizer = build_optimizer({"network": network}, settings)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network(torch.randn(2, 4, 9, 9)).square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
    optimizer.step()
    optimizer.zero_grad()
    assert all(p.grad is None for p in network.parameters())
    changes = {name: p.detach() - before[name] for name, p in network.named_parameters()}
    return changes, gradients


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_kernels_move_along_orthogonal_directions(memory_format: torch.memory_format) -> None:
    changes, gradients = after_a_step(memory_format)
    for name in ("0.weight", "2.weight"):
        change = changes[name].flatten(1)
        # Newton-Schulz leaves singular values between about 0.7 and 1.2, here times
        # lr 0.2 sqrt(columns): the gradient itself has them two decades apart.
        scale = 0.1 * 0.2 * max(change.shape) ** 0.5
        values = torch.linalg.svdvals(change) / scale
        assert values.min() > 0.5 and values.max() < 1.4, name
        assert (change * gradients[name].flatten(1)).sum() < 0


def test_the_layout_in_memory_makes_no_difference() -> None:
    one, _ = after_a_step(torch.contiguous_format)
    other, _ = after_a_step(torch.channels_last)
    for name, change in one.items():
        torch.testing.assert_close(other[name], change, rtol=0.05, atol=0.01)  # bfloat16 inside


def test_gains_and_biases_move_as_with_adamw() -> None:
    changes, gradients = after_a_step(torch.contiguous_format)
    expected = -0.1 * gradients["0.bias"].sign()
    torch.testing.assert_close(changes["0.bias"], expected, rtol=1e-3, atol=1e-4)
