from __future__ import annotations

import pytest
import torch

from relay_diffusion.diffusion import (
    eps_to_denoised,
    guide,
    guided,
    relay_mean,
    relay_start,
    relay_step,
    relay_taus,
    v_to_denoised,
)


def draw(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_mean_ends_exactly_at_both_latents():
    z_0, z_lr = draw(2, 3, 4, 2, 2)
    assert torch.equal(relay_mean(z_0, z_lr, 0.0), z_0)
    assert torch.equal(relay_mean(z_0, z_lr, 1.0), z_lr)
    mixed = relay_mean(z_0, z_lr, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(mixed[1], 0.75 * z_0[1] + 0.25 * z_lr[1])
    assert torch.equal(mixed[0], z_0[0]) and torch.equal(mixed[2], z_lr[2])


def test_step_with_the_true_latent_stays_on_the_path():
    z_0, z_lr, eps = draw(3, 2, 4, 3, 3)
    z = relay_mean(z_0, z_lr, 0.8) + 1.4 * eps
    stepped = relay_step(z, z_0, z_lr, 1.4, 0.9, 0.8, 0.5)
    torch.testing.assert_close(stepped, relay_mean(z_0, z_lr, 0.5) + 0.9 * eps)
    assert torch.allclose(relay_step(z, z_0, z_lr, 1.4, 0.0, 0.8, 0.0), z_0)


def test_start_is_the_path_at_tau_one():
    z_0, z_lr, eps = draw(3, 2, 4, 3, 3)
    torch.testing.assert_close(relay_start(z_lr, eps, 1.6), relay_mean(z_0, z_lr, 1.0) + 1.6 * eps)


def test_numbers_and_one_value_per_sample_agree():
    z, denoised, z_lr = draw(3, 2, 4, 3, 3)
    levels = ([1.4, 0.8], [0.9, 0.0], [1.0, 0.4], [0.6, 0.0])
    together = relay_step(z, denoised, z_lr, *(torch.tensor(v) for v in levels))
    for i in range(2):
        alone = relay_step(z[i], denoised[i], z_lr[i], *(v[i] for v in levels))
        torch.testing.assert_close(together[i], alone, rtol=1e-6, atol=1e-6)


def test_base_step_needs_no_low_resolution_latent_and_relay_steps_do():
    z, denoised = draw(2, 2, 4, 3, 3)
    stepped = relay_step(z, denoised, None, 2.0, 0.5, 0, 0)
    torch.testing.assert_close(stepped, 0.25 * z + 0.75 * denoised)
    with pytest.raises(ValueError, match="z_lr is missing"):
        relay_step(z, denoised, None, 2.0, 0.5, 0.5, 0.2)


def test_a_value_of_the_wrong_shape_does_not_broadcast_over_channels():
    z, denoised = draw(2, 2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        relay_step(z, denoised, None, torch.ones(3), 0.5, 0, 0)


def test_latents_of_another_shape_do_not_broadcast():
    z, z_lr = draw(2, 2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"z_lr has shape \(2, 1, 3, 3\)"):
        relay_mean(z, z_lr[:, :1], 0.5)
    with pytest.raises(ValueError, match="eps has shape"):
        relay_start(z_lr, z[:1], 1.0)
    with pytest.raises(ValueError, match="denoised has shape"):
        relay_step(z, z[:, :1], z_lr, 1.0, 0.5, 0.5, 0.25)
    with pytest.raises(ValueError, match="z_lr has shape"):
        relay_step(z, z, z_lr[0], 1.0, 0.5, 0.5, 0.25)


def test_a_step_leads_from_noise_to_less_of_it():
    z, z_lr = draw(2, 2, 4, 3, 3)
    with pytest.raises(ValueError, match="sigma 0"):
        relay_step(z, z, z_lr, 0.0, 0.0, 0.5, 0.25)
    with pytest.raises(ValueError, match="sigma_next -1"):
        relay_step(z, z, z_lr, 1.0, -1.0, 0.5, 0.25)
    with pytest.raises(ValueError, match="0 steps"):
        relay_taus(0)


def test_eps_and_v_predictions_recover_the_clean_latent():
    z_0, eps = draw(2, 3, 4, 2, 2)
    sigma = torch.tensor([0.03, 1.6, 14.6], dtype=torch.float64)
    per_sample = sigma.view(-1, 1, 1, 1)
    z = z_0 + per_sample * eps
    torch.testing.assert_close(eps_to_denoised(z, eps, sigma), z_0)
    # v = alpha eps - sigma_vp z_0 in the variance-preserving form (arXiv:2202.00512).
    alpha = 1 / torch.sqrt(1 + per_sample**2)
    v = alpha * eps - alpha * per_sample * z_0
    torch.testing.assert_close(v_to_denoised(z, v, sigma), z_0)


def test_guidance_in_one_doubled_pass_equals_two_passes_and_knows_per_sample_scales():
    z, shift = draw(2, 2, 4, 2, 2)
    sigma = torch.tensor([1.0, 2.0])

    def denoise_pair(z, sigma):
        assert z.shape[0] == 4 and torch.equal(sigma, torch.tensor([1.0, 2.0, 1.0, 2.0]))
        return torch.cat([z[:2] * 0.5, z[2:] * 0.5 + shift])

    scale = torch.tensor([7.5, 1.0])
    denoised = guided(denoise_pair, scale)(z, sigma)
    torch.testing.assert_close(denoised[0], 0.5 * z[0] + 7.5 * shift[0])
    torch.testing.assert_close(denoised[1], 0.5 * z[1] + shift[1])
    assert torch.equal(guide(z, shift, 0.0), z)
