"""What a denoising loss is made of: its weight, the noise, and which captions are dropped."""

from __future__ import annotations

import pytest
import torch

from relay_diffusion.training.denoising import draw_kept, draw_noise, loss_weight
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.objective_settings import BaseObjective

SIGMA = torch.tensor([0.1, 0.5, 1.0, 10.0])


@pytest.mark.parametrize(
    ("weighting", "gamma", "expected"),
    [
        ("epsilon", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("epsilon", 5.0, [0.05, 1.0, 1.0, 1.0]),
        ("v", 0.0, [1.01, 1.25, 2.0, 101.0]),
        ("v", 1.5, [0.015, 0.375, 1.5, 101.0]),
    ],
)
def test_the_weight_is_of_the_prediction_and_bounded(
    weighting: str, gamma: float, expected: list[float]
) -> None:
    settings = BaseObjective(weighting=weighting, min_snr_gamma=gamma)  # type: ignore[arg-type]
    torch.testing.assert_close(loss_weight(SIGMA, settings), torch.tensor(expected))


def test_so_many_captions_are_dropped() -> None:
    draws = Draws.of_batch(0, "train", 0, 20_000)
    for dropout in (0.0, 0.1, 1.0):
        kept = draw_kept(draws, dropout)
        assert set(kept.unique().tolist()) <= {0.0, 1.0}
        assert 1 - float(kept.mean()) == pytest.approx(dropout, abs=0.01)


def test_offset_noise_is_one_normal_for_all_of_a_sample() -> None:
    draws, z = Draws.of_batch(0, "train", 0, 5_000), torch.zeros(5_000, 2, 3, 3)
    plain = draw_noise(draws, z, 0.0)
    added = draw_noise(draws, z, 0.3) - plain
    assert float(plain.std()) == pytest.approx(1.0, abs=0.01)
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(added))
    assert float(added[:, 0, 0, 0].std()) == pytest.approx(0.3, abs=0.01)
