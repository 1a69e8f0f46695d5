"""One call of the pipeline: its text, settings and noise, and the steps a stage is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relay_diffusion.diffusion import (
    Denoise,
    NoiseSchedule,
    base_start,
    guided,
    relay_taus,
    sample_base,
    sample_relay,
)
from relay_diffusion.errors import RelayError
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.guidance import has_guidance
from relay_diffusion.models.low_resolution import enlarge
from relay_diffusion.pipelines.in_progress import StageInProgress, in_progress
from relay_diffusion.pipelines.noise import Generators, Latents, StageNoise, split_generators
from relay_diffusion.pipelines.notices import warn_once
from relay_diffusion.pipelines.settings import (
    Settings,
    check_guidance,
    schedule_of,
    warn_of_untrained_size,
    warn_of_untrained_use,
)
from relay_diffusion.pipelines.sizes import Size, num_doublings
from relay_diffusion.pipelines.watch import Interrupted, StageWatch, WatchOptions, not_finite

if TYPE_CHECKING:
    from relay_diffusion.pipelines.cascade import RelayPipeline


@dataclass(frozen=True)
class Run:
    """What stays the same from stage to stage.

    Attributes:
        text, no_text: embeddings of the guidance halves, (B, L, D).
        noise: of each stage, and the generators of the pictures.
    """

    pipe: RelayPipeline
    schedule: NoiseSchedule
    text: Tensor
    no_text: Tensor
    settings: Settings
    noise: StageNoise
    watch: WatchOptions

    @classmethod
    def prepare(
        cls,
        pipe: RelayPipeline,
        sizes: Sequence[Size],
        text: tuple[Tensor, Tensor],
        settings: Settings,
        latents: Latents,
        generator: Generators,
        watch: WatchOptions,
        first: int = 0,
    ) -> Run:
        """Draw up a call.

        Args:
            sizes: of every stage, in pixels.
            text: embeddings of the prompts and of their negative prompts, (B, L, D).
            latents, generator: see ``StageNoise``, ``split_generators``.
            first: stage of the first size: 0 is the base, 1 the first doubling.
        """
        factor, channels = pipe.vae_factor, pipe.latent_channels
        shapes = [(channels, height // factor, width // factor) for height, width in sizes]
        generators = split_generators(generator, len(text[0]))
        noise = StageNoise(latents, generators, shapes, text[0].device, first)
        schedule = schedule_of(pipe.scheduler)
        return cls(pipe, schedule, text[0], text[1], settings, noise, watch)

    def base(self, size: Size, x: Tensor | None = None, strength: float = 1.0) -> Tensor:
        """z_0 of the base stage, from noise, or from a picture x with noise on it.

        Args:
            x: (B, 3, H, W), or (1, 3, H, W) for all.
            strength: with x, the share of the steps that is run: how much may change.
        """
        steps = self.settings.num_inference_steps
        warn_of_untrained_use(self.pipe.config, "base", self.settings)
        warn_of_untrained_size(self.pipe.config, *size)
        sigmas = self.schedule.sample_sigmas(steps)
        eps = self.noise[0]
        if x is None:
            z = base_start(eps, float(sigmas[0]))
        else:
            if len(x) not in (1, len(eps)):
                raise RelayError(
                    f"{len(x)} pictures to start {len(eps)} from; give 1, one for each prompt, or "
                    "as many"
                )
            sigmas = sigmas[steps - max(1, round(strength * steps)) :]
            z = self.encode(x.to(eps)) + float(sigmas[0]) * eps
        return self._sample("base", 0, size, sigmas, sample_base, z)

    def relay(self, stage: int, size: Size, x: Tensor) -> Tensor:
        """z_0 of a relay stage of that size (H, W) from the picture below it, x (B, 3, H/2, W/2).

        Its start level is that of the doubling that reaches this size from the base size. A network
        that takes twice the latent channels is no relay but a plain super-resolution stage, which
        starts from noise and is given z_lr beside it: what the relay is compared with.
        """
        steps = self.settings.num_relay_steps
        warn_of_untrained_use(self.pipe.config, "relay", self.settings)
        z_lr, eps = self.encode(enlarge(x)), self.noise[stage]
        unet = self.pipe.relay_unet
        if unet is not None and unet.config.in_channels == 2 * z_lr.shape[1]:
            sigmas = self.schedule.sample_sigmas(steps)
            z = base_start(eps, float(sigmas[0]))
            return self._sample("relay", stage, size, sigmas, sample_base, z, beside=z_lr)
        doubling = max(0, num_doublings(*size, self.pipe.config.base_size) - 1)
        sigmas = self.schedule.relay_sigmas(steps, self.settings.start_of(doubling))
        sampler = partial(sample_relay, taus=relay_taus(steps, self.pipe.config.relay_blur))
        return self._sample("relay", stage, size, sigmas, sampler, z_lr, eps)

    def encode(self, x: Tensor) -> Tensor:
        """Latents of pictures, float32. Raises: RelayError where they are not finite."""
        z = self._finite(encode(self.pipe.vae, x), "the latents that the VAE made")
        self.pipe.maybe_free_model_hooks()  # a UNet comes next, which would not send the VAE away
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of latents, float32, clamped to [-1, 1]. Raises: as ``encode``."""
        return self._finite(decode(self.pipe.vae, z), "the pixels that the VAE made").clamp(-1, 1)

    def _sample(
        self,
        kind: str,
        stage: int,
        size: Size,
        sigmas: Tensor,
        sampler: Callable[..., Tensor],
        *start: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        unet = getattr(self.pipe, f"{kind}_unet")
        if unet is None:
            raise RelayError(f"this cascade was opened without its {kind}_unet: {kind} cannot run")
        settings = self.settings
        scale = settings.guidance_scale if kind == "base" else settings.relay_guidance_scale
        indices = self.schedule.nearest(sigmas[:-1]).tolist()
        now = StageInProgress(len(indices), scale)
        name = f"{kind} {size[1]}x{size[0]}"
        with (
            in_progress(now),
            StageWatch(self.pipe, stage, name, indices, unet.dtype, self.watch) as watch,
        ):
            try:
                z = sampler(
                    self._guided_as_told(kind, size, beside, now),
                    *start,
                    sigmas=sigmas,
                    solver=settings.solver,
                    eta=settings.eta,
                    generator=self.noise.generators,
                    callback=watch,
                )
            except Interrupted as interrupted:
                z = interrupted.denoised
            watch.check_finite()
        return z

    def _guided_as_told(
        self, kind: str, size: Size, beside: Tensor | None, now: StageInProgress
    ) -> Denoise:
        """The network at the stage's guidance scale, which a callback may change."""
        scale = now.guidance_scale
        denoise = self._denoise(kind, size, beside, scale)

        def at_that_scale(z: Tensor, sigma: Tensor) -> Tensor:
            nonlocal scale, denoise
            if now.guidance_scale != scale:
                scale = now.guidance_scale
                check_guidance(self.pipe.config, self.pipe.distilled, kind, scale)
                denoise = self._denoise(kind, size, beside, scale)
            return denoise(z, sigma)

        return at_that_scale

    def _denoise(self, kind: str, size: Size, beside: Tensor | None, scale: float) -> Denoise:
        """The network under its guidance: embedded if it has that, else classifier-free."""
        unet = getattr(self.pipe, f"{kind}_unet")
        denoiser = Denoiser(unet, self.schedule, self.pipe.scheduler.config.prediction_type)
        vector = size_conditioning(size, self.text)
        if has_guidance(unet):
            if bool(self.no_text.any()):
                warn_once("distilled networks have no use for a negative prompt: it is not read")
            return denoiser(self.text, vector, guidance=scale, beside=beside)
        if scale <= 1 or self.text is self.no_text:  # without a prompt both halves are the same
            return denoiser(self.text, vector, beside=beside)
        twice = None if beside is None else torch.cat([beside, beside])
        both = torch.cat([self.no_text, self.text])
        return guided(denoiser(both, torch.cat([vector, vector]), beside=twice), scale)

    def _finite(self, values: Tensor, what: str) -> Tensor:
        if not bool(values.sum().isfinite()):
            raise RelayError(not_finite(what, self.pipe.vae.dtype))
        return values


def size_conditioning(size: Size, text: Tensor) -> Tensor:
    """What the network is told about a whole picture of its own size, (B, 6) float32.

    Original height and width, crop top and left (0), target height and width, as the released
    inference code does (docs/math.md, The two stages).

    Args:
        text: (B, ...), gives the number of pictures and the device.
    """
    height, width = size
    numbers = [height, width, 0, 0, height, width]
    return torch.tensor([numbers], dtype=torch.float32, device=text.device).repeat(len(text), 1)
