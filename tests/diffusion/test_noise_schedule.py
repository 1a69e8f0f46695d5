from __future__ import annotations

import numpy as np
import pytest
import torch

from relay_diffusion.diffusion import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()


def test_sigmas_are_those_of_the_released_schedule():
    assert SCHEDULE.sigmas.shape == (1000,) and SCHEDULE.sigmas.dtype == torch.float32
    known = {0: 0.0292, 199: 0.569285, 499: 1.612886, 999: 14.614641}
    for t, sigma in known.items():
        assert SCHEDULE.sigmas[t].item() == pytest.approx(sigma, rel=2e-3 if t == 0 else 1e-6)


def test_sigmas_agree_with_an_independent_float64_computation():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)
    expected = np.sqrt((1 - alpha_bar) / alpha_bar)
    assert np.abs(SCHEDULE.sigmas.numpy() / expected - 1).max() < 1e-7


@pytest.mark.parametrize("num_steps", [1, 4, 10, 25, 50, 99, 999, 1000])
def test_base_levels_are_the_released_spacing(num_steps):
    indices = np.linspace(999, 0, num_steps, endpoint=False).astype(int)
    expected = torch.cat([SCHEDULE.sigmas[indices], torch.zeros(1)])
    assert torch.equal(SCHEDULE.sample_sigmas(num_steps), expected)


@pytest.mark.parametrize(
    "part, whole", [(12, 24), (4, 8), (2, 8), (1, 5), (9, 45), (7, 24), (49, 60)]
)
def test_relay_levels_are_the_released_last_steps_of_a_longer_run(part, whole):
    released = SCHEDULE.sample_sigmas(whole)[whole - part :]
    assert torch.equal(SCHEDULE.relay_sigmas(part, start=1000 * part / whole), released)


def test_relay_levels_of_12_steps_from_500_are_the_golden_ones():
    golden = [1.6128861904144287, 1.4035773277282715, 1.2270628213882446]
    assert SCHEDULE.relay_sigmas(12)[:3].tolist() == pytest.approx(golden, rel=1e-6)
    golden = [0.5692849159240723, 0.0]
    assert SCHEDULE.relay_sigmas(1, start=200).tolist() == pytest.approx(golden, rel=1e-6)


@pytest.mark.parametrize("start, num_steps", [(200, 9), (350, 63), (500, 99), (720, 54)])
def test_a_whole_index_is_not_lost_to_rounding(start, num_steps):
    """Against whole-number arithmetic; plain floating point loses an index in the last three."""
    indices = [999 * start * (num_steps - i) // (1000 * num_steps) for i in range(num_steps)]
    assert torch.equal(SCHEDULE.relay_sigmas(num_steps, start)[:-1], SCHEDULE.sigmas[indices])


def test_levels_always_fall_strictly_to_zero():
    runs = [SCHEDULE.relay_sigmas(p, p) for p in (1, 7, 500, 1000)]
    for sigmas in [*runs, SCHEDULE.sample_sigmas(1000)]:
        assert (sigmas.diff() < 0).all() and sigmas[-1] == 0


def test_nearest_finds_every_level_and_rounds_to_the_nearer_neighbour():
    assert torch.equal(SCHEDULE.nearest(SCHEDULE.sigmas), torch.arange(1000))
    sigma = torch.linspace(0, 20, 977)
    brute = (sigma[:, None] - SCHEDULE.sigmas).abs().argmin(1)
    assert torch.equal(SCHEDULE.nearest(sigma), brute)
    assert SCHEDULE.nearest(1.613).item() == 499 and SCHEDULE.nearest(1.613).shape == ()
    assert SCHEDULE.nearest(torch.tensor(1.613).expand(3)).tolist() == [499] * 3


def test_sigma_refuses_indices_outside_the_schedule():
    assert torch.equal(SCHEDULE.sigma(torch.tensor([0, 999])), SCHEDULE.sigmas[[0, 999]])
    for t in (-1, 1000):
        with pytest.raises(ValueError, match="allowed is 0 to 999"):
            SCHEDULE.sigma(torch.tensor([5, t]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
def test_what_would_choose_levels_in_place_of_naming_them_is_no_index(dtype):
    with pytest.raises(ValueError, match=r"of torch\..*; give int64"):
        SCHEDULE.sigma(torch.ones(1000, dtype=dtype))


@pytest.mark.parametrize(
    "call",
    [
        lambda: SCHEDULE.sample_sigmas(0),
        lambda: SCHEDULE.sample_sigmas(1001),
        lambda: SCHEDULE.relay_sigmas(0),
        lambda: SCHEDULE.relay_sigmas(10, start=0),
        lambda: SCHEDULE.relay_sigmas(10, start=1001),
        lambda: SCHEDULE.relay_sigmas(11, start=10),
        lambda: NoiseSchedule.scaled_linear(beta_start=0.0),
        lambda: NoiseSchedule.scaled_linear(beta_start=0.1, beta_end=0.01),
        lambda: NoiseSchedule.scaled_linear(num_train_steps=1),
        lambda: NoiseSchedule(torch.tensor([2.0, 1.0])),
        lambda: NoiseSchedule(torch.ones(2, 2)),
    ],
)
def test_what_cannot_be_made_is_refused(call):
    with pytest.raises(ValueError):
        call()
