from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from relay_diffusion.diffusion import distillation_loss, distillation_target, relay_step

# (sigma, tau) at the start, in the middle and after the teacher's two steps.
BASE = [(3.0, 0.0), (1.5, 0.0), (0.6, 0.0)]
RELAY = [(1.4, 0.8), (1.0, 0.5), (0.5, 0.2)]
FROM_ONE = [(1.6, 1.0), (1.2, 0.75), (0.9, 0.5)]
TO_ZERO = [(0.9, 0.5), (0.4, 0.2), (0.0, 0.0)]
ALL_AT_ONCE = [(1.6, 1.0), (0.9, 0.5), (0.0, 0.0)]


def draw(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(count)]


def two_steps(path, z, z_lr, denoise):
    for (sigma, tau), (sigma_next, tau_next) in pairwise(path):
        z = relay_step(z, denoise(z, sigma, tau), z_lr, sigma, sigma_next, tau, tau_next)
    return z


@pytest.mark.parametrize("path", [BASE, RELAY, FROM_ONE, TO_ZERO, ALL_AT_ONCE])
def test_one_step_with_the_target_lands_where_the_teacher_did(path):
    z, z_lr = draw(2)
    after = two_steps(path, z, z_lr, lambda z, sigma, tau: torch.tanh(z / (1 + sigma)))
    (sigma, tau), _, (sigma_after, tau_after) = path
    target = distillation_target(z, after, sigma, sigma_after, tau, tau_after, z_lr)
    landed = relay_step(z, target, z_lr, sigma, sigma_after, tau, tau_after)
    torch.testing.assert_close(landed, after)


@pytest.mark.parametrize("path", [BASE, RELAY, FROM_ONE, TO_ZERO, ALL_AT_ONCE])
def test_target_on_a_linear_gaussian_is_the_closed_form(path):
    """z_0 ~ N(0, v): the plain estimate of y at noise level s is D = v / (v + s^2) y.

    Two steps give a target that weighs the two estimates by their shares of the way in w:
    D* = [(w_1 - w_0) D_0 + (w_2 - w_1) D_1] / (w_2 - w_0), with w = (1 - tau) / sigma.
    """
    z, z_lr = draw(2)
    v = 0.49

    def denoise(z, sigma, tau):
        # v / (v + s^2) y with y = (z - tau z_lr) / (1 - tau), multiplied out: fine at tau = 1.
        return v * (1 - tau) / (v * (1 - tau) ** 2 + sigma**2) * (z - tau * z_lr)

    after = two_steps(path, z, z_lr, denoise)
    (sigma, tau), (sigma_mid, tau_mid), (sigma_after, tau_after) = path
    target = distillation_target(z, after, sigma, sigma_after, tau, tau_after, z_lr)
    middle = relay_step(z, denoise(z, sigma, tau), z_lr, sigma, sigma_mid, tau, tau_mid)
    first, second = denoise(z, sigma, tau), denoise(middle, sigma_mid, tau_mid)
    if sigma_after == 0:  # w_2 is infinite: the second estimate is all there is
        expected = second
    else:
        w, w_mid, w_after = ((1 - tau) / sigma for sigma, tau in path)
        expected = ((w_mid - w) * first + (w_after - w_mid) * second) / (w_after - w)
    torch.testing.assert_close(target, expected)


def test_exact_flow_of_a_gaussian_needs_this_base_target():
    """A perfect teacher carries z at sigma to z sqrt((v + sigma''^2) / (v + sigma^2))."""
    (z,) = draw(1)
    v, sigma, sigma_after = 0.49, 3.0, 0.6
    gain = ((v + sigma_after**2) / (v + sigma**2)) ** 0.5
    target = distillation_target(z, gain * z, sigma, sigma_after)
    torch.testing.assert_close(target, z * (gain - 0.2) / 0.8)


def test_levels_may_differ_within_a_batch():
    z, z_lr, after = draw(3)
    levels = [torch.tensor(v) for v in ([1.6, 0.9], [0.9, 0.0], [1.0, 0.5], [0.5, 0.0])]
    target = distillation_target(z, after, *levels, z_lr)
    torch.testing.assert_close(relay_step(z, target, z_lr, *levels), after, rtol=1e-5, atol=1e-5)
    assert torch.equal(target[1], after[1])  # a step to sigma = 0 lands on D itself


def test_between_equal_levels_there_is_no_target():
    z, z_after = draw(2)
    with pytest.raises(ValueError, match="is no step"):
        distillation_target(z, z_after, 1.0, 1.0)
    with pytest.raises(ValueError, match="z_after has shape"):
        distillation_target(z, z_after[:1], 1.0, 0.5)
    with pytest.raises(ValueError, match="1 noise levels"):
        distillation_loss(lambda z, s: z, lambda z, s: z, z, [torch.ones(2)])


def test_relay_levels_without_a_low_resolution_latent_are_refused():
    z, after = draw(2)
    with pytest.raises(ValueError, match="z_lr is missing"):
        distillation_target(z, after, 1.0, 0.5, 0.5, 0.2)
