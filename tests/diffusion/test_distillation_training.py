"""A linear student, trained with the loss, walks the path of its teacher in half the steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from relay_diffusion.diffusion import (
    NoiseSchedule,
    consistency_loss,
    distill,
    distillation_loss,
    distillation_target,
    relay_step,
    truncated_snr_weight,
)

V = 0.49
SCHEDULE = NoiseSchedule.scaled_linear()


def levels(stage: str, num_steps: int) -> tuple[Tensor, Tensor]:
    if stage == "base":
        sigmas = SCHEDULE.sample_sigmas(num_steps)
        return sigmas.double(), torch.zeros_like(sigmas).double()
    sigmas = SCHEDULE.relay_sigmas(num_steps, 500)
    return sigmas.double(), torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def gaussian_estimate(z: Tensor, z_lr: Tensor, sigma: Tensor, tau: Tensor) -> Tensor:
    """E[z_0 | z] for z_0 ~ N(0, V), z_lr known."""
    return V * (1 - tau) / (V * (1 - tau) ** 2 + sigma**2) * (z - tau * z_lr)


def trained_student(stage: str, num_steps: int) -> list[Tensor]:
    """(a, b) of D(z) = a z + b z_lr for each step, fitted by the loss on 64 random latents."""
    sigmas, taus = levels(stage, 2 * num_steps)
    generator = torch.Generator().manual_seed(0)
    fitted = []
    for step in range(num_steps):
        way = slice(2 * step, 2 * step + 3)
        z, z_lr = torch.randn(2, 64, 1, 2, 2, generator=generator, dtype=torch.float64)
        weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")
        sigma = [s.expand(64) for s in sigmas[way]]
        tau = [t.expand(64) for t in taus[way]]
        known = dict(zip(sigmas[way].tolist(), taus[way].tolist(), strict=True))

        def teacher(z: Tensor, at: Tensor, z_lr: Tensor = z_lr, known: dict = known) -> Tensor:
            tau = torch.tensor(known[float(at[0])], dtype=torch.float64)
            return gaussian_estimate(z, z_lr, at[:, None, None, None], tau)

        def student(z: Tensor, at: Tensor, w: Tensor = weights, z_lr: Tensor = z_lr) -> Tensor:
            return w[0] * z + w[1] * z_lr

        def loss(
            student=student, teacher=teacher, z=z, sigma=sigma, tau=tau, z_lr=z_lr, o=optimizer
        ) -> Tensor:
            o.zero_grad()
            value = distillation_loss(
                student,
                teacher,
                z,
                sigma,
                None if stage == "base" else tau,
                None if stage == "base" else z_lr,
            ).mean()
            value.backward()
            return value

        optimizer.step(loss)
        fitted.append(weights.detach())
    return fitted


def walk(stage: str, num_steps: int, student: Sequence[Tensor] | None = None) -> Tensor:
    """Where a run ends: the teacher's, or that of a student with these weights."""
    sigmas, taus = levels(stage, num_steps)
    generator = torch.Generator().manual_seed(1)
    z, z_lr = torch.randn(2, 8, 1, 2, 2, generator=generator, dtype=torch.float64)
    z = sigmas[0] * z + taus[0] * z_lr
    for i in range(num_steps):
        if student is None:
            denoised = gaussian_estimate(z, z_lr, sigmas[i], taus[i])
        else:
            denoised = student[i][0] * z + student[i][1] * z_lr
        z = relay_step(z, denoised, z_lr, sigmas[i], sigmas[i + 1], taus[i], taus[i + 1])
    return z


def error(stage: str, num_steps: int) -> float:
    end = walk(stage, 2 * num_steps)
    student = walk(stage, num_steps, trained_student(stage, num_steps))
    return float((student - end).norm() / end.norm())


BASE_ROUNDS = (32, 16, 8, 4)
RELAY_ROUNDS = (8, 4, 2, 1)
"""Steps of the student of every round; its teacher takes twice as many."""


@pytest.mark.parametrize(
    ("stage", "num_steps"),
    [*(("base", steps) for steps in BASE_ROUNDS), *(("relay", steps) for steps in RELAY_ROUNDS)],
)
def test_a_trained_student_ends_where_its_teacher_does(stage: str, num_steps: int) -> None:
    assert error(stage, num_steps) < 1e-3


def consistent_error(stage: str, num_steps: int, each: int) -> float:
    """Of a student with one (a, b) for each of the teacher's levels, fitted from the end of a step
    back."""
    sigmas, taus = levels(stage, each * num_steps)
    generator = torch.Generator().manual_seed(0)
    known = {float(sigmas[i]): (float(taus[i]), i) for i in range(len(sigmas))}
    weights = torch.zeros(len(sigmas), 2, dtype=torch.float64)
    for start in reversed(range(each * num_steps)):
        z, z_lr = torch.randn(2, 64, 1, 2, 2, generator=generator, dtype=torch.float64)
        own = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([own], max_iter=50, line_search_fn="strong_wolfe")
        end = (start // each + 1) * each
        way = [sigmas[i].expand(64) for i in (start, start + 1, end)]
        fractions = [taus[i].expand(64) for i in (start, start + 1, end)]

        def teacher(z: Tensor, at: Tensor, z_lr: Tensor = z_lr) -> Tensor:
            tau = torch.tensor(known[float(at[0])][0], dtype=torch.float64)
            return gaussian_estimate(z, z_lr, at[:, None, None, None], tau)

        def student(
            z: Tensor, at: Tensor, own: Tensor = own, z_lr: Tensor = z_lr, start: int = start
        ) -> Tensor:
            i = known[float(at[0])][1]
            a, b = own if i == start else weights[i]
            return a * z + b * z_lr

        def loss(
            student=student, teacher=teacher, z=z, way=way, tau=fractions, z_lr=z_lr, o=optimizer
        ) -> Tensor:
            o.zero_grad()
            base = stage == "base"
            value = consistency_loss(
                student, teacher, z, way, None if base else tau, None if base else z_lr
            ).mean()
            value.backward()
            return value

        optimizer.step(loss)
        weights[start] = own.detach()
    end = walk(stage, each * num_steps)
    few = walk(stage, num_steps, weights[:-1:each])
    return float((few - end).norm() / end.norm())


@pytest.mark.parametrize(("stage", "num_steps", "each"), [("base", 4, 4), ("relay", 1, 8)])
def test_a_consistent_student_ends_where_its_teacher_does(
    stage: str, num_steps: int, each: int
) -> None:
    assert consistent_error(stage, num_steps, each) < 1e-3


@pytest.mark.parametrize("num_steps", RELAY_ROUNDS)
def test_neither_does_with_a_wrong_tau(num_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(z, z_after, sigma, sigma_after, tau, tau_after, z_lr) -> Tensor:
        return distillation_target(z, z_after, sigma, sigma_after, tau, tau_after + 0.05, z_lr)

    monkeypatch.setattr(distill, "distillation_target", wrong)
    assert error("relay", num_steps) > 1e-2
    assert consistent_error("relay", num_steps, 4) > 1e-2


def test_weights_favour_low_noise_and_never_vanish() -> None:
    weight = truncated_snr_weight(torch.tensor([0.1, 1.0, 14.6]))
    torch.testing.assert_close(weight, torch.tensor([100.0, 1.0, 1.0]))
