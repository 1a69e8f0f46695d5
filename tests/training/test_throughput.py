"""Operations are counted as on paper, and as PyTorch counts a whole pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import UNET, pass_of
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from relay_diffusion.training.networks import build_unet
from relay_diffusion.training.throughput import peak_flops, training_flops


def test_a_product_costs_its_forward_once_more_for_each_operand_with_a_gradient() -> None:
    learns, fixed = nn.Linear(5, 7), nn.Linear(3, 5).requires_grad_(False)
    x, first, second = torch.ones(2, 3), 2 * 2 * 3 * 5, 2 * 2 * 5 * 7

    def counted() -> int:
        return training_flops(lambda: learns(fixed(x)), {"learns": learns})

    assert counted() == first + 2 * second  # what comes in is data
    x.requires_grad_()
    assert counted() == 2 * first + 3 * second
    x.requires_grad_(False)
    learns.requires_grad_(False)
    assert counted() == first + second


def test_nothing_is_left_behind() -> None:
    learns = nn.Linear(2, 2)
    training_flops(lambda: learns(torch.ones(1, 2)), {"learns": learns})
    assert learns.training and learns.weight.grad is None


@pytest.mark.parametrize("frozen", [(), ("attn", "resnets")])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_unet_is_counted_as_a_whole_pass_is(frozen: tuple[str, ...], checkpointing: bool) -> None:
    unet: Any = build_unet(UNET, 4, 16)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))

    # As two products of matrices; fused kernels do one of them again.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            pass_of(unet).sum().backward()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        assert training_flops(lambda: pass_of(unet), {"unet": unet}) == counter.get_total_flops()


def test_networks_that_are_called_in_parts_are_counted_and_left_in_training() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.norm = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.encoder(x))

    parts = Parts()
    assert training_flops(lambda: parts.encode(torch.ones(2, 4)), {"parts": parts}) == 2 * 64
    assert parts.training and parts.norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA T1000", None),
    ],
)
def test_the_peak_is_that_of_the_model(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == peak
