"""The autoencoder objective: pictures to latents and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.objective_settings import AutoencoderObjective
from relay_diffusion.training.recipe import AutoencoderRecipe
from relay_diffusion.training.validation import chunks, held_out, samples_at_once


def autoencoder(
    recipe: AutoencoderRecipe,
    vae: Any,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train ``vae`` on pictures of ``source``, or with ``decoder_only`` its decoder.

    The latents' scale is measured at each export, on held-out pictures, and written into the
    configuration as ``scaling_factor`` = 1 / standard deviation; training works on raw latents.
    An encoder that is kept keeps its scale.

    Raises: RelayError if the encoder is to be kept and has no weights.
    """
    decoder_only = recipe.objective.decoder_only
    if decoder_only:
        if not isinstance(recipe.model.vae, str) and "vae" not in recipe.model.init_from:
            raise RelayError(
                "objective.decoder_only keeps the encoder as it is: name the folder of a trained "
                "autoencoder in model.vae"
            )
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)
    stream = source("train", recipe.data.views)

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        return {"x": pictures.x.to(device)}

    def loss(batch: Batch, draws: Draws) -> Tensor:
        return reconstruction_loss(vae, batch["x"], draws, recipe.objective)

    def pictures(size: int, num_pictures: int, of_one_shape: bool = False) -> list[Tensor]:
        # As many pixels at a time as in training; cut for memory, read alike by all.
        side = min(view.side for view in recipe.data.views)
        whole, part = (
            max(1, num * side**2 // size**2)
            for num in (recipe.data.batch_size, samples_at_once(recipe))
        )
        if of_one_shape:  # as those of a batch are, however it is cut
            whole = num_pictures
        cut = chunks(num_pictures, whole, part)
        batches = held_out(source, prepare, (View(size),), cut, whole, device)
        return [batch["x"] for batch in batches]

    def validate() -> dict[str, float]:
        return {
            f"psnr_{size}": mean_psnr(vae, pictures(size, recipe.validation.num_pictures))
            for size in recipe.validation.sizes
        }

    def export(folder: Path) -> None:
        if not decoder_only:
            size = min(recipe.validation.sizes)
            scale = 1 / latent_std(vae, pictures(size, recipe.validation.num_pictures))
            vae.register_to_config(scaling_factor=round(scale, 6))
        save_half(vae, folder / "vae")

    def preview() -> tuple[Tensor, int]:
        size = sorted(recipe.validation.sizes)[len(recipe.validation.sizes) // 2]
        pairs = [
            torch.stack([x, reconstruct(vae, x)], 1)
            for x in pictures(size, recipe.preview.num_pictures, of_one_shape=True)
        ]
        return torch.cat(pairs).flatten(0, 1), 8

    return Objective(
        trained={"decoder": vae.decoder} if decoder_only else {"vae": vae},
        feed=Feed(stream, prepare, recipe.data, recipe.run.seed, device),
        loss=loss,
        export=export,
        validate=validate,
        preview=preview,
    )


def reconstruction_loss(
    vae: Any, x: Tensor, draws: Draws, settings: AutoencoderObjective
) -> Tensor:
    """Reconstruction from noised latents.

        z' = z + latent_noise rms(z) n,    x' = decode(z')
        R(x', x) = |x' - x| + gradient (|d_h x' - d_h x| + |d_w x' - d_w x|)
        loss = R(x', x) + equivariance R(decode(half z'), half x) + kl KL

    each |.| and the KL a mean over the numbers of x (arXiv:2112.10752, whose weight is 1e-6, sums
    both), d_h and d_w differences of neighbouring pixels, half the mean of 2x2. The noise makes the
    decoder bear the small errors of a diffusion model; it is relative to the sample's own latents,
    so that it cannot be escaped by scaling them up. With equivariance (EQ-VAE, arXiv:2502.09509)
    latents of half the size decode to the picture of half the size.

    Args: x (B, 3, H, W) in [-1, 1].
    Returns: (B,) float32.
    """
    encoded = vae.encode(x)
    if hasattr(encoded, "latent_dist"):
        posterior = encoded.latent_dist
        z = posterior.mean + posterior.std * draws.normal("posterior", *posterior.mean.shape[1:])
        divergence = settings.kl * posterior.kl().float() / x[0].numel()
    else:
        z = encoded.latent
        divergence = torch.zeros(len(x), device=x.device)
    size = z.detach().float().square().mean((1, 2, 3), keepdim=True).sqrt()
    z = z + settings.latent_noise * size * draws.normal("latent", *z.shape[1:])
    loss: Tensor = _distance(vae.decode(z).sample.float(), x, settings) + divergence
    if settings.equivariance:
        half = vae.decode(F.avg_pool2d(z, 2)).sample.float()
        loss = loss + settings.equivariance * _distance(half, F.avg_pool2d(x, 2), settings)
    return loss


def _distance(decoded: Tensor, x: Tensor, settings: AutoencoderObjective) -> Tensor:
    """R of :func:`reconstruction_loss`, (B,)."""
    error = decoded - x
    pixel = error.abs().mean((1, 2, 3))
    edges = error.diff(dim=2).abs().mean((1, 2, 3)) + error.diff(dim=3).abs().mean((1, 2, 3))
    return pixel + settings.gradient * edges


def reconstruct(vae: Any, x: Tensor) -> Tensor:
    """Through the autoencoder without noise; (B, 3, H, W) float32 in [-1, 1]."""
    decoded: Tensor = vae.decode(_latent(vae, x)).sample
    return decoded.float().clamp(-1, 1)


def mean_psnr(vae: Any, batches: Sequence[Tensor]) -> float:
    """Mean over pictures of 10 log10(1 / MSE), in dB, for pixels in [0, 1]."""
    values = []
    for x in batches:
        error = F.mse_loss(reconstruct(vae, x), x, reduction="none").mean((1, 2, 3)) / 4
        values.append(-10 * error.clamp(min=1e-10).log10())
    return float(torch.cat(values).mean())


def latent_std(vae: Any, batches: Sequence[Tensor]) -> float:
    """Standard deviation of the raw latents, about their mean, over all pictures and channels."""
    return float(torch.cat([_latent(vae, x).float().flatten() for x in batches]).std())


def _latent(vae: Any, x: Tensor) -> Tensor:
    encoded = vae.encode(x)
    z: Tensor = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
    return z
