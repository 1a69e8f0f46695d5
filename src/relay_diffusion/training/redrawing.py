"""Low-resolution pictures with the faults that a base stage makes, for the stage above to mend.

In use the relay is handed pictures that a base stage drew: with blurs, wrong details, colours that
ran. What it sees in training, true pictures made small, has none of these. So some of them are
noised and drawn again by the base stage of a cascade, for their own captions: they stay at one with
the true picture in what they show and where, and get its hand in all that is finer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from relay_diffusion.diffusion import Denoise, NoiseSchedule, guided, relay_step
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import part_folder, read_json
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.registry import resolve
from relay_diffusion.training.cached import weights_of
from relay_diffusion.training.cascade import read_cascade
from relay_diffusion.training.denoising import freeze
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Pictures
from relay_diffusion.training.networks import build_unet, place
from relay_diffusion.training.objective_settings import Redraw
from relay_diffusion.training.recipe import Model, Recipe

_PART = "base_unet"


class Redrawing:
    """The base stage of a cascade, and how it draws latents of small pictures again.

    Args:
        settings: of ``recipe``.
        model: with the folders of the run's autoencoder and text encoder.
    Raises: RelayError if the cascade cannot be read, or has another autoencoder or text encoder
        than the run.
    """

    def __init__(
        self, settings: Redraw, model: Model, recipe: Recipe, device: torch.device
    ) -> None:
        folder = resolve(settings.cascade)
        index, scheduler = read_cascade(folder, "objective.redraw.cascade")
        for part in ("vae", "text_encoder"):
            theirs = part_folder(folder, part)
            own = weights_of(model, part, "objective.redraw.cascade has a trained one")
            if theirs.resolve() != own.resolve() and network_hash(theirs) != network_hash(own):
                raise RelayError(
                    f"objective.redraw.cascade, {settings.cascade}, has another {part} than "
                    f"model.{part}: give a cascade of the same"
                )
        unet = open_base(
            folder, torch.bfloat16 if recipe.run.dtype == "bfloat16" else torch.float32
        )
        place(unet, recipe.run, device)
        freeze(unet)
        self.settings = settings
        self.base_size = int(index.get("base_size", 512))
        self.scale = float(index.get("guidance_scale", 7.5))
        self.sigmas = NoiseSchedule.scaled_linear().sample_sigmas(
            int(index.get("num_inference_steps", 50))
        )
        schedule = NoiseSchedule(NoiseSchedule.scaled_linear().sigmas.to(device))
        self.denoiser = Denoiser(unet, schedule, scheduler.get("prediction_type", "epsilon"))

    def chosen(self, pictures: Pictures, draws: Draws) -> Tensor:
        """Which are redrawn, (B,) bool: of pictures as the base stage and one doubling make them,
        a share."""
        height, width = pictures.x.shape[-2:]
        made = pictures.whole and abs(height * width / (2 * self.base_size) ** 2 - 1) < 0.1
        return draws.uniform("redraw") < (self.settings.share if made else 0.0)

    def redraw(self, z: Tensor, context: Tensor, vector: Tensor, draws: Draws) -> Tensor:
        """Latents drawn again from noise that hides a part of them.

            z_k = z + sigma_k eps,   then the base stage's Euler steps from sigma_k to 0

        as image to image does (SDEdit, arXiv:2108.01073); they are the last ``strength`` of a run.

        Args:
            z: (B, C, H, W), of pictures of the base stage's size.
            context, vector: text embeddings and sizes in pixels, as :class:`Denoiser` takes them.
            draws: of the B samples.
        Returns: (B, C, H, W).
        """
        num_steps = len(self.sigmas) - 1
        low, high = self.settings.strength
        strength = low + (high - low) * draws.uniform("strength")
        first = num_steps - (strength * num_steps).round().clamp(1, num_steps).long()
        sigmas = self.sigmas.to(z)
        z = z + sigmas[first][:, None, None, None] * draws.normal("redraw_noise", *z.shape[1:])
        for i in range(int(first.min()), num_steps):
            rows = (first <= i).nonzero()[:, 0]
            denoise = self._guided(context[rows], vector[rows])
            denoised = denoise(z[rows], sigmas[i].expand(len(rows)))
            z[rows] = relay_step(z[rows], denoised, None, sigmas[i], sigmas[i + 1], 0.0, 0.0)
        return z

    def redrawn_where(
        self, chosen: Tensor, context: Tensor, draws: Draws
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """For ``models.low_resolution``: (latents of small pictures, which of the batch they are)
        -> the same, redrawn where ``chosen``, (B,) bool.

        Args: context, draws: as of :meth:`redraw`, of the whole batch.
        """

        def redrawn(z: Tensor, rows: Tensor) -> Tensor:
            own = chosen[rows].nonzero()[:, 0]
            if len(own):
                of = rows[own]
                height, width = (8 * side for side in z.shape[-2:])
                # As a pipeline tells the base stage of what it is to draw.
                vector = z.new_tensor([height, width, 0, 0, height, width]).expand(len(of), 6)
                z[own] = self.redraw(z[own], context[of], vector, draws.of_rows(of))
            return z

        return redrawn

    def _guided(self, context: Tensor, vector: Tensor) -> Denoise:
        if self.denoiser.unet.config.time_cond_proj_dim is not None:
            return self.denoiser(context, vector, guidance=self.scale)
        both = torch.cat([torch.zeros_like(context), context])
        return guided(self.denoiser(both, torch.cat([vector, vector])), self.scale)


def open_base(folder: Path, dtype: torch.dtype) -> Any:
    """The base stage of a cascade."""
    unet = build_unet(str(part_folder(folder, _PART)), 0, 0, "objective.redraw.cascade")
    return nn.Module.to(unet, dtype)  # diffusers' own warns of nothing


def redraw_bytes(settings: Redraw, half: bool) -> int:
    """What its base stage takes of a device's memory."""
    folder = resolve(settings.cascade)
    config = read_json(folder, part_folder(folder, _PART) / "config.json")
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(config)
    return (2 if half else 4) * sum(parameter.numel() for parameter in unet.parameters())
