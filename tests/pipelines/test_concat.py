"""A super-resolution stage that is no relay: z_lr stands beside latents that start from noise."""

from __future__ import annotations

import pytest
import torch

from relay_diffusion.models.autoencoder import encode
from relay_diffusion.models.low_resolution import enlarge

from .tiny import record_calls, tiny_cascade, tiny_unet


def test_it_starts_from_noise_and_sees_the_low_resolution_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = tiny_cascade()
    pipe.register_modules(relay_unet=tiny_unet(2, in_channels=8))
    calls = record_calls(monkeypatch, pipe.relay_unet)
    noise = [torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)]
    out = pipe("a red fox", latents=noise, output_type="pt", guidance_scale=3.0)
    assert out.images.shape == (1, 3, 64, 64)
    assert int(calls[0]["timestep"].flatten()[0]) == 999
    z, beside = calls[0]["sample"].chunk(2, dim=1)
    # Both guidance halves: unit normal noise at the highest level, and what the relay would add to.
    torch.testing.assert_close(z, noise[1].expand(2, -1, -1, -1), rtol=1e-4, atol=1e-4)
    z_lr = encode(pipe.vae, enlarge(out.stages[0] * 2 - 1))
    torch.testing.assert_close(beside, z_lr.expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)
