"""Distribution matching where all distributions are Gaussian and every denoiser has a formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from relay_diffusion.diffusion import Denoise, NoiseSchedule, matching_loss

SCHEDULE = NoiseSchedule.scaled_linear()
MEAN, STD = 0.4, 0.7


def denoiser(mean: Tensor | float, std: Tensor | float, tau: Tensor, z_lr: Tensor) -> Denoise:
    """E[x | z] for x ~ N(mean, std^2), z = (1 - tau) x + tau z_lr + sigma eps."""

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        keep = (1 - tau)[:, None, None, None]
        variance = keep**2 * std**2 + sigma[:, None, None, None] ** 2
        return mean + keep * std**2 / variance * (z - keep * mean - (1 - keep) * z_lr)

    return denoise


def levels(stage: str, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random levels of the stage, (num,) each."""
    u = torch.rand(num, generator=generator, dtype=torch.float64)
    if stage == "base":
        return SCHEDULE.sigmas.double()[(20 + 960 * u).long()], torch.zeros_like(u)
    # T_r = 500; tau = 1 is left out, as in training.
    t = (499 * u).long()
    return SCHEDULE.sigmas.double()[t], (t + 1) / 500


def drawn(stage: str, num: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(student's noise, z_lr, noise at the levels, sigma, tau) of ``num`` samples."""
    generator = torch.Generator().manual_seed(seed)
    sigma, tau = levels(stage, num, generator)
    own, z_lr, eps = torch.randn(3, num, 1, 4, 4, generator=generator, dtype=torch.float64)
    return own, (0 * z_lr if stage == "base" else z_lr), eps, sigma, tau


def losses(
    stage: str, estimate: Tensor, critic: Denoise, draws: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    _, z_lr, eps, sigma, tau = draws
    teacher = denoiser(MEAN, STD, tau, z_lr)
    if stage == "base":
        return matching_loss(estimate, critic, teacher, eps, sigma)
    return matching_loss(estimate, critic, teacher, eps, sigma, tau, z_lr)


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_a_student_ends_with_the_distribution_of_its_teacher(stage: str) -> None:
    """From far off, its critic always knowing what it makes."""
    weights = torch.tensor([-1.0, 0.2], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.02)
    for step in range(400):
        draws = drawn(stage, 32, step)
        mean, std = weights.detach()
        critic = denoiser(mean, std, draws[-1], draws[1])
        of_student, _ = losses(stage, weights[0] + weights[1] * draws[0], critic, draws)
        optimizer.zero_grad()
        of_student.mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 400)
        optimizer.step()
    mean, std = weights.detach().tolist()
    assert mean == pytest.approx(MEAN, abs=1e-3)
    assert abs(std) == pytest.approx(STD, abs=1e-3)


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_nothing_is_left_to_learn_where_the_two_agree(stage: str) -> None:
    draws = drawn(stage, 64, 0)
    estimate = (MEAN + STD * draws[0]).requires_grad_()
    critic = denoiser(MEAN, STD, draws[-1], draws[1])
    of_student, of_critic = losses(stage, estimate, critic, draws)
    of_student.sum().backward()
    assert float(of_student.detach().abs().max()) < 1e-20
    assert float(estimate.grad.abs().max()) < 1e-12  # type: ignore[union-attr]
    assert float(of_critic.min()) > 0


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_the_direction_is_that_of_the_divergence(stage: str) -> None:
    """For Gaussians of one spread whose means differ, the scores differ by the same everywhere."""
    draws = drawn(stage, 16, 1)
    _, z_lr, eps, sigma, tau = draws
    own = MEAN + 0.3
    estimate = (own + STD * draws[0]).requires_grad_()
    of_student, _ = losses(stage, estimate, denoiser(own, STD, tau, z_lr), draws)
    of_student.sum().backward()
    keep = (1 - tau)[:, None, None, None]
    noise = sigma[:, None, None, None]
    difference = 0.3 * noise**2 / (keep**2 * STD**2 + noise**2)  # of the two denoisers
    z = keep * estimate.detach() + (1 - keep) * z_lr + noise * eps
    wanted = denoiser(MEAN, STD, tau, z_lr)(z, sigma)
    scale = (estimate.detach() - wanted).abs().mean(dim=(1, 2, 3), keepdim=True)
    expected = (difference / scale / estimate[0].numel()).expand_as(estimate)
    torch.testing.assert_close(estimate.grad, expected)


@pytest.mark.parametrize("stage", ["base", "relay"])
@pytest.mark.parametrize("right", [True, False])
def test_the_critic_learns_to_denoise_what_the_student_makes(stage: str, right: bool) -> None:
    """At one level, its loss is least where it is the denoiser of x ~ N(0.1, 0.3^2); and not, if
    it is shown another level than it is told."""
    draws = drawn(stage, 20_000, 2)
    own, z_lr, eps, _, _ = draws
    level = torch.full((len(own),), 300)
    sigma = SCHEDULE.sigmas.double()[level]
    tau = torch.full_like(sigma, 0.6 if stage == "relay" else 0.0)
    estimate = 0.1 + 0.3 * own
    told = sigma if right else 1.5 * sigma
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def critic(z: Tensor, at: Tensor) -> Tensor:
        return weights[0] + weights[1] * z + weights[2] * z_lr

    def loss() -> Tensor:
        optimizer.zero_grad()
        _, of_critic = losses(stage, estimate, critic, (own, z_lr, eps, sigma, tau))
        of_critic.mean().backward()
        return of_critic.mean()

    optimizer.step(loss)
    z = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    z_lr = z_lr[:4]
    expected = denoiser(0.1, 0.3, tau[:4], z_lr)(z, told[:4])
    error = (critic(z, sigma[:4]) - expected).detach().abs().max()
    assert (float(error) < 0.01) == right


def test_a_relay_level_without_a_low_resolution_latent_is_refused():
    x, eps = torch.randn(2, 2, 4, 3, 3)
    with pytest.raises(ValueError, match="z_lr is missing"):
        matching_loss(x, lambda z, s: z, lambda z, s: z, eps, torch.ones(2), tau=0.5)


def test_latents_may_have_any_number_of_dimensions():
    x, eps = torch.randn(2, 2, 3, 3)
    of_student, of_critic = matching_loss(x, lambda z, s: z, lambda z, s: z / 2, eps, torch.ones(2))
    assert of_student.shape == of_critic.shape == (2,)
