"""Networks, samplers and losses against what the released CogView3 code computed (fixtures/).

``test_official_cascade.py`` in tests/pipelines has the whole path through ``RelayPipeline``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from released import (
    BASE,
    CASCADE,
    DISTILLED,
    HEAD_DIM,
    golden,
    relative_error,
    told_vector,
)
from torch import Tensor

from relay_diffusion.diffusion import (
    Denoise,
    NoiseSchedule,
    guided,
    relay_loss,
    sample_base,
    sample_relay,
)
from relay_diffusion.models import unet_from_official, vae_from_official
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.guidance import guidance_embedding
from relay_diffusion.models.official_text import text_encoder_from_folder
from relay_diffusion.models.text import encode_text

CLOSE = 1e-4
SCHEDULE = NoiseSchedule.scaled_linear()
SIZE = torch.zeros(2, 6)  # told_vector replaces what the network makes of it


@cache
def network(folder: Path) -> torch.nn.Module:
    unet = unet_from_official(folder / "mp_rank_00_model_states.pt", HEAD_DIM).float()
    told_vector(unet, golden(folder)["vector"])
    return unet


def denoise_of(folder: Path, with_guidance: bool = True) -> Denoise:
    """The network as it samples: guided classifier-free, or by its embedding."""
    denoiser, context = Denoiser(network(folder), SCHEDULE), golden(folder)["context"]
    if folder is DISTILLED:
        return denoiser(context, SIZE, guidance=7.5)
    if not with_guidance:
        return denoiser(context, SIZE)
    both = torch.cat([torch.zeros_like(context), context])
    return guided(denoiser(both, SIZE.repeat(2, 1)), 7.5)


@torch.no_grad()
@pytest.mark.parametrize("folder", [BASE, DISTILLED])
def test_unet_output(folder: Path) -> None:
    files = golden(folder)
    sigma = SCHEDULE.sigma(files["timesteps"])
    # The network sees c_in z and gives eps: undo both around denoise.
    z = files["x"] * (sigma**2 + 1).sqrt()[:, None, None, None]
    denoised = denoise_of(folder, with_guidance=False)(z, sigma)
    eps_pred = (z - denoised) / sigma[:, None, None, None]
    assert relative_error(eps_pred, files["unet_out"]) < CLOSE


def test_guidance_embedding() -> None:
    expected = golden(DISTILLED)["guidance_embedding"]
    found = guidance_embedding(torch.tensor([7.5, 7.5]), expected.shape[1])
    assert relative_error(found, expected) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize(("folder", "steps"), [(BASE, 10), (DISTILLED, 4)])
def test_base_trajectory(folder: Path, steps: int) -> None:
    files = golden(folder)
    sigmas = SCHEDULE.sample_sigmas(steps)
    assert relative_error(sigmas, files[f"base_euler_{steps}_sigmas"]) < CLOSE
    z = files["x"] * (1 + sigmas[0] ** 2).sqrt()
    found = sample_base(denoise_of(folder), z, sigmas)
    assert relative_error(found, files[f"base_euler_{steps}"]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize(
    ("folder", "steps", "of", "start"),
    [(BASE, 12, 24, 500), (BASE, 4, 8, 500), (DISTILLED, 1, 5, 200), (DISTILLED, 2, 8, 250)],
)
def test_relay_trajectory(folder: Path, steps: int, of: int, start: int) -> None:
    files = golden(folder)
    sigmas = SCHEDULE.relay_sigmas(steps, start)
    assert relative_error(sigmas, files[f"relay_{steps}_of_{of}_sigmas"][of - steps :]) < CLOSE
    found = sample_relay(denoise_of(folder), files["lowres_latent"], files["x"], sigmas)
    assert relative_error(found, files[f"relay_{steps}_of_{of}"]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("folder", [BASE, DISTILLED])
def test_relay_training_loss(folder: Path) -> None:
    files = golden(folder)
    seen: dict[str, Tensor] = {}
    denoise = denoise_of(folder, with_guidance=False)

    def watched(z: Tensor, sigma: Tensor) -> Tensor:
        seen["noised"], seen["denoised"] = z, denoise(z, sigma)
        return seen["denoised"]

    eps = files["loss_noise"] + 0.05 * files["loss_offset"][:, None, None, None]
    z_0, z_lr = files["loss_z0"], files["loss_lowres"]
    loss = relay_loss(watched, z_0, z_lr, files["loss_idx"], eps, SCHEDULE)
    assert relative_error(seen["noised"], files["loss_noised"]) < CLOSE
    assert relative_error(seen["denoised"], files["loss_denoised"]) < CLOSE
    assert relative_error(loss, files["relay_loss"]) < CLOSE


@torch.no_grad()
def test_text_embeddings() -> None:
    files = golden(CASCADE)
    encoder = text_encoder_from_folder(CASCADE / "text_encoder").float()
    assert relative_error(encode_text(encoder, files["input_ids"]), files["context"]) < CLOSE


@torch.no_grad()
def test_vae() -> None:
    files = golden(CASCADE)
    vae = vae_from_official(CASCADE / "vae.safetensors").float()
    pixels = decode(vae, files["base_latents"])
    assert relative_error(pixels, files["base_pixels_unclamped"]) < CLOSE
    assert relative_error(encode(vae, files["upsampled_pixels"]), files["z_lr"]) < CLOSE
    pixels = decode(vae, files["relay_latents"])
    assert relative_error(pixels, files["relay_pixels_unclamped"]) < CLOSE


@torch.no_grad()
def test_size_conditioning_vector() -> None:
    files = golden(CASCADE)
    unet = network(BASE)
    sinusoids = type(unet.add_time_proj)(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    config = unet.config
    assert (config.addition_time_embed_dim, config.flip_sin_to_cos, config.freq_shift) == (
        256,
        1,
        0,
    )
    for stage in ("base", "relay"):
        found = sinusoids(files[f"{stage}_size_numbers"].flatten()).reshape(2, -1)
        assert relative_error(found, files[f"{stage}_vector"]) < CLOSE
