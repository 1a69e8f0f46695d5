"""What the autoencoder's loss rewards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from relay_diffusion.training.autoencoder import reconstruction_loss
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.objective_settings import AutoencoderObjective


class Checkerboard:
    """Exact at every size, its latents being pixels; with a period, every other one turned over."""

    def __init__(self, period: bool) -> None:
        self.period = period

    def turn(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])
        return x * (1 - 2 * (at % 2)) if self.period else x

    def encode(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent=self.turn(x))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.turn(z))


def loss_of(period: bool, equivariance: float) -> float:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    settings = AutoencoderObjective(latent_noise=0.0, equivariance=equivariance)
    draws = Draws.of_batch(0, "test", 0, 2)
    return float(reconstruction_loss(Checkerboard(period), x, draws, settings).mean())


def test_latents_that_do_not_shrink_with_their_picture_cost_only_under_equivariance() -> None:
    assert loss_of(period=True, equivariance=0.0) == loss_of(period=False, equivariance=0.0) == 0
    assert loss_of(period=False, equivariance=0.5) < 1e-6
    assert loss_of(period=True, equivariance=0.5) > 0.1


class Flat:
    """Decodes to the picture that it was given, from latents of one number each, all of mean 2."""

    def encode(self, x: Tensor) -> SimpleNamespace:
        self.x = x
        moments = torch.zeros(len(x), 2, x.shape[2], x.shape[3])
        moments[:, 0] = 2
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.x)


@pytest.mark.parametrize("side", [8, 16])
def test_the_divergence_weighs_as_much_at_every_size(side: int) -> None:
    settings = AutoencoderObjective(equivariance=0.0, kl=0.1)
    draws = Draws.of_batch(0, "test", 0, 2)
    loss = reconstruction_loss(Flat(), torch.ones(2, 3, side, side), draws, settings)
    # Of a latent for each pixel, a third of the numbers of x: (2^2 + 1 - 1 - log 1) / 2 = 2.
    torch.testing.assert_close(loss, torch.full((2,), 0.1 * 2 / 3))
