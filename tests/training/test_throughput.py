"""Operations are counted as on paper, and memory as it is."""

from __future__ import annotations

import torch
from torch import nn

from relay_diffusion.training.throughput import training_flops


def test_a_pass_costs_thrice_the_forward_of_what_learns_and_once_of_the_rest() -> None:
    learns, fixed = nn.Linear(5, 7), nn.Linear(3, 5)
    x = torch.ones(2, 3)
    counted = training_flops(lambda: learns(fixed(x)), {"learns": learns})
    assert counted == 3 * (2 * 2 * 5 * 7) + 2 * 2 * 3 * 5
    learns.requires_grad_(False)
    assert training_flops(lambda: learns(fixed(x)), {"learns": learns}) == 2 * 2 * (35 + 15)


def test_networks_that_are_called_in_parts_are_counted_and_left_in_training() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.norm = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.encoder(x))

    parts = Parts()
    assert training_flops(lambda: parts.encode(torch.ones(2, 4)), {"parts": parts}) == 3 * 64
    assert parts.training and parts.norm.num_batches_tracked == 0
