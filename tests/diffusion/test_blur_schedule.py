"""Blur schedules: the same tau(u) in training and in sampling; any of them ends at the truth."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor

from relay_diffusion.diffusion import (
    Blur,
    NoiseSchedule,
    Solver,
    relay_loss,
    relay_mean,
    relay_tau,
    relay_taus,
    sample_relay,
)

SCHEDULE = NoiseSchedule.scaled_linear()
BLURS: tuple[Blur, ...] = get_args(Blur)


def draw(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 3, 4, 3, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("blur", BLURS)
def test_a_schedule_rises_from_0_to_1(blur: Blur) -> None:
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    tau = relay_tau(u, blur)
    assert tau[0] == 0 and tau[-1] == 1 and bool((tau.diff() > 0).all())
    numbers = [relay_tau(value, blur) for value in u.tolist()]
    torch.testing.assert_close(tau, torch.tensor(numbers, dtype=torch.float64))
    assert relay_tau(u.float(), blur).dtype == torch.float32


def test_by_hand() -> None:
    assert relay_tau(0.25) == 0.25
    assert relay_tau(0.25, "quadratic") == 0.0625
    assert relay_tau(0.25, "cosine") == pytest.approx(0.14644660940672624)
    assert relay_taus(4, "quadratic") == [1, 0.5625, 0.25, 0.0625, 0]
    with pytest.raises(ValueError, match="blur 'sine'; allowed is linear or cosine or quadratic"):
        relay_tau(0.5, "sine")  # type: ignore[arg-type]


@pytest.mark.parametrize("blur", BLURS)
def test_the_loss_noises_the_mean_of_its_schedule(blur: Blur) -> None:
    z_0, z_lr, eps = draw(3)
    t = torch.tensor([0, 120, 299])
    seen: list[Tensor] = []

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        seen.append(z)
        return z

    relay_loss(denoise, z_0, z_lr, t, eps, SCHEDULE, 300, blur)
    sigma = SCHEDULE.sigmas[t].double().view(-1, 1, 1, 1)
    mean = relay_mean(z_0, z_lr, relay_tau(t.double() / 300, blur))
    torch.testing.assert_close(seen[0], mean + sigma * eps)


@pytest.mark.parametrize("solver", ["euler", "multistep"])
@pytest.mark.parametrize("num_steps", [1, 2, 10])
@pytest.mark.parametrize("blur", BLURS)
def test_with_an_oracle_it_stays_on_the_path_and_ends_at_the_truth(
    blur: Blur, num_steps: int, solver: Solver
) -> None:
    z_0, z_lr, eps = draw(3)
    sigmas = SCHEDULE.relay_sigmas(num_steps).double()
    taus = relay_taus(num_steps, blur)

    def on_path(step: int, sigma: float, z: Tensor, denoised: Tensor) -> None:
        mean = relay_mean(z_0, z_lr, taus[step + 1])
        torch.testing.assert_close(z, mean + sigmas[step + 1] * eps)

    z = sample_relay(
        lambda z, sigma: z_0, z_lr, eps, sigmas, taus, solver=solver, callback=on_path
    )  # fmt: skip
    assert torch.equal(z, z_0)


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("num_steps", [2, 10, 100])
def test_a_run_is_where_training_was(blur: Blur, num_steps: int) -> None:
    """At the noise level of each step the network has seen this tau, to a training index or two,
    and w = (1 - tau) / sigma grows, as noise and solvers need."""
    sigmas, taus = SCHEDULE.relay_sigmas(num_steps), relay_taus(num_steps, blur)
    trained = relay_tau(SCHEDULE.nearest(sigmas[:-1]).double() / 500, blur)
    steepest = 2.0  # of quadratic, at its end
    error = (trained - torch.tensor(taus[:-1], dtype=torch.float64)).abs().max()
    assert error <= steepest * (1 / 500 + 0.001)
    levels = [(1 - tau) / sigma for tau, sigma in zip(taus, sigmas[:-1].tolist(), strict=False)]
    assert all(before < after for before, after in pairwise(levels))
    solver: Solver
    for solver in get_args(Solver):
        z_lr, eps = draw(2)
        z = sample_relay(
            lambda z, sigma: z * 0.5, z_lr, eps, sigmas, taus, solver=solver, eta=1.0,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert bool(z.isfinite().all())


def test_the_default_of_sampling_is_linear() -> None:
    z_lr, eps = draw(2)
    sigmas = SCHEDULE.relay_sigmas(7)

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        return z.tanh()

    linear = sample_relay(denoise, z_lr, eps, sigmas, relay_taus(7))
    assert torch.equal(linear, sample_relay(denoise, z_lr, eps, sigmas))
    assert not torch.equal(
        linear, sample_relay(denoise, z_lr, eps, sigmas, relay_taus(7, "cosine"))
    )
