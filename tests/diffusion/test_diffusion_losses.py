from __future__ import annotations

import pytest
import torch

from relay_diffusion.diffusion import (
    NoiseSchedule,
    base_loss,
    eps_to_denoised,
    min_snr_weight,
    relay_loss,
)

SCHEDULE = NoiseSchedule.scaled_linear()


def test_base_loss_by_hand():
    """One pixel: z_0 = 2, D = 5 everywhere, so the loss is 9 / sigma^2 at each index."""
    z_0 = torch.full((2, 1, 1, 1), 2.0)
    t = torch.tensor([199, 499])
    loss = base_loss(lambda z, s: torch.full_like(z, 5.0), z_0, t, torch.ones_like(z_0), SCHEDULE)
    expected = torch.tensor([9 / 0.569285**2, 9 / 1.612886**2])
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_relay_loss_noises_the_faded_mean_by_hand():
    """t = 250 of 500 is tau = 1/2: z_t = (2 + 6) / 2 + sigma * 3, and D = z_t, to be 2."""
    z_0, z_lr = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 6.0)
    sigma = SCHEDULE.sigmas[250].item()
    eps = torch.full_like(z_0, 3.0)
    loss = relay_loss(lambda z, s: z, z_0, z_lr, torch.tensor([250]), eps, SCHEDULE)
    assert loss.item() == pytest.approx(((4 + 3 * sigma - 2) / sigma) ** 2, rel=1e-6)


def test_losses_are_plain_noise_prediction():
    generator = torch.Generator().manual_seed(0)
    z_0, z_lr, eps, eps_pred = (torch.randn(3, 4, 5, 5, generator=generator) for _ in range(4))
    t = torch.tensor([1, 250, 499])

    def denoise(z, sigma):
        return eps_to_denoised(z, eps_pred, sigma)

    base = base_loss(denoise, z_0, t, eps, SCHEDULE)
    torch.testing.assert_close(base, (eps_pred - eps).square().mean((1, 2, 3)), rtol=1e-4, atol=0)
    relay = relay_loss(denoise, z_0, z_lr, t, eps, SCHEDULE)
    target = eps + (t / 500 / SCHEDULE.sigmas[t]).view(-1, 1, 1, 1) * (z_lr - z_0)
    torch.testing.assert_close(
        relay, (eps_pred - target).square().mean((1, 2, 3)), rtol=1e-4, atol=0
    )


def test_relay_loss_at_index_zero_is_the_base_loss():
    z_0, z_lr = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    args = torch.tensor([0]), torch.randn(1, 4, 3, 3), SCHEDULE
    assert torch.equal(
        relay_loss(lambda z, s: 0.5 * z, z_0, z_lr, *args),
        base_loss(lambda z, s: 0.5 * z, z_0, *args),
    )


def test_relay_length_sets_tau():
    z_0, z_lr, eps = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    seen = []
    for length in (200, 500):
        relay_loss(
            lambda z, s: seen.append(z.item()) or z, z_0, z_lr, torch.tensor([100]), eps, SCHEDULE,
            num_relay_train_steps=length,
        )  # fmt: skip
    assert seen == pytest.approx([0.5, 0.2])


def test_half_precision_latents_are_noised_in_float32():
    z_0 = torch.randn(2, 4, 3, 3).bfloat16()

    def denoise(z, sigma):
        assert z.dtype == sigma.dtype == torch.float32 and sigma.shape == (2,)
        return z.bfloat16()

    t = torch.tensor([3, 400])
    assert base_loss(denoise, z_0, t, torch.randn(2, 4, 3, 3), SCHEDULE).dtype == torch.float32


def test_gradients_reach_the_network():
    weight = torch.tensor(0.3, requires_grad=True)
    z_0 = torch.randn(2, 4, 3, 3)
    loss = relay_loss(
        lambda z, s: weight * z, z_0, z_0, torch.tensor([5, 90]), torch.randn_like(z_0), SCHEDULE
    )
    loss.mean().backward()
    assert loss.shape == (2,) and weight.grad.abs() > 0


def test_min_snr_weight_is_the_clipped_ratio():
    sigma = SCHEDULE.sigmas
    snr = sigma**-2
    torch.testing.assert_close(min_snr_weight(sigma, 5.0), snr.clamp(max=5.0) / snr)
    with pytest.raises(ValueError, match="gamma -1"):
        min_snr_weight(sigma, -1.0)


def test_bad_indices_and_shapes_are_refused():
    z = torch.zeros(2, 4, 3, 3)
    with pytest.raises(ValueError, match="draw t from 0 to 499"):
        relay_loss(lambda z, s: z, z, z, torch.tensor([3, 500]), z, SCHEDULE)
    with pytest.raises(ValueError, match="allowed is 0 to 999"):
        base_loss(lambda z, s: z, z, torch.tensor([3, 1000]), z, SCHEDULE)
    with pytest.raises(ValueError, match=r"t has shape \(\); give \(2,\)"):
        base_loss(lambda z, s: z, z, torch.tensor(3), z, SCHEDULE)
    with pytest.raises(ValueError, match="z_lr has shape"):
        relay_loss(lambda z, s: z, z, z[:, :1], torch.tensor([3, 4]), z, SCHEDULE)
    with pytest.raises(ValueError, match="eps has shape"):
        base_loss(lambda z, s: z, z, torch.tensor([3, 4]), z[:1], SCHEDULE)
    with pytest.raises(ValueError, match="denoise gave"):
        base_loss(lambda z, s: z[:, :1], z, torch.tensor([3, 4]), z, SCHEDULE)
