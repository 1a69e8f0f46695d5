"""A UNet as the estimate of z_0 that losses and samplers are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relay_diffusion.diffusion import Denoise, NoiseSchedule, eps_to_denoised, v_to_denoised
from relay_diffusion.errors import RelayError
from relay_diffusion.models.guidance import guidance_embedding

_TO_DENOISED = {"epsilon": eps_to_denoised, "v_prediction": v_to_denoised}


@dataclass(frozen=True)
class Denoiser:
    """Makes ``denoise(z, sigma)`` of a network and its conditioning.

        D = z - sigma eps_pred,    eps_pred = unet(z / sqrt(sigma^2 + 1), nearest t)

    or the same with v prediction (CogView3, arXiv:2403.05121; math.md, Symbols). Casts to the
    network's dtype and back to float32 happen here and nowhere else.

    Attributes:
        unet: a ``UNet2DConditionModel`` with ``addition_embed_type="text_time"``.
        schedule: of the cascade; gives the training index nearest to sigma.
        prediction_type: "epsilon" or "v_prediction".
    """

    unet: Any
    schedule: NoiseSchedule
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction_type not in _TO_DENOISED:
            raise RelayError(
                f"prediction_type {self.prediction_type!r}; allowed is {' or '.join(_TO_DENOISED)}"
            )

    def __call__(
        self,
        context: Tensor,
        vector: Tensor,
        guidance: Tensor | float | None = None,
        beside: Tensor | None = None,
    ) -> Denoise:
        """``denoise(z, sigma)`` for z (B, C, H, W) in any dtype and sigma (B,); float32 or wider.

        Args:
            context: text embeddings, (B, L, D); zeros stand for no text.
            vector: (B, 6) original height and width, crop top and left, target height and width,
                in pixels. It stays in float32: bfloat16 would round 1344 pixels.
            guidance: scale, (B,) or a number, for networks that have it embedded.
            beside: further latents (B, C', H, W) that the network is given with its noised ones,
                concatenated along channels: how super-resolution stages other than the relay see
                the low-resolution picture (SR3, arXiv:2104.07636).
        Raises: RelayError if guidance is given to a network without an embedding for it, or is
            left out where there is one: the network would run as if it had never been distilled.
        """
        unet, to_denoised = self.unet, _TO_DENOISED[self.prediction_type]
        dtype = unet.dtype  # asked once: diffusers walks all parameters for it
        context = context.to(dtype)
        guidance_cond = self._guidance(guidance, context)
        size = {"text_embeds": whole_text(unet, context), "time_ids": vector.float()}
        context = _as_autocast_reads(context)

        def denoise(z: Tensor, sigma: Tensor) -> Tensor:
            c_in = (sigma**2 + 1).rsqrt().reshape(-1, 1, 1, 1)
            x = c_in * z if beside is None else torch.cat([c_in * z, beside], 1)
            prediction = unet(
                x.to(dtype),
                self.schedule.nearest(sigma),
                encoder_hidden_states=context,
                timestep_cond=guidance_cond,
                added_cond_kwargs=size,
                return_dict=False,
            )[0]
            return to_denoised(z, prediction.float(), sigma)

        return denoise

    def _guidance(self, guidance: Tensor | float | None, context: Tensor) -> Tensor | None:
        width = self.unet.config.time_cond_proj_dim
        if (width is None) != (guidance is None):
            raise RelayError(
                "this network has guidance embedded: give its scale"
                if guidance is None
                else "this network has no guidance embedding: leave guidance out, use guided()"
            )
        if guidance is None:
            return None
        scale = torch.as_tensor(guidance, dtype=torch.float32, device=context.device)
        return guidance_embedding(scale.expand(len(context)), width).to(context.dtype)


def _as_autocast_reads(context: Tensor) -> Tensor:
    """The embeddings in the precision in which autocast multiplies: every block's two projections
    of them would cast them anew, and autograd keep each of the copies. Where they have a gradient
    it is summed over the blocks, in float32, so they stay as they are."""
    device = context.device.type
    if context.requires_grad or not torch.is_autocast_enabled(device):
        return context
    return context.to(torch.get_autocast_dtype(device))


def whole_text(unet: Any, context: Tensor) -> Tensor:
    """What a network reads of the text beside its size conditioning, (B, D) or (B, 0).

    Nothing in CogView3. A network whose conditioning vector has room for D more numbers gets
    the mean over positions there, as SDXL (arXiv:2307.01952) gets a pooled embedding: each of
    its blocks knows what the picture is of, before cross-attention has learned where to look.
    """
    config = unet.config
    vector_width = config.projection_class_embeddings_input_dim
    room = vector_width - 6 * config.addition_time_embed_dim
    if room not in (0, context.shape[-1]):
        raise RelayError(
            f"this network's conditioning vector has {vector_width} numbers, {room} more than "
            f"six sizes take; that must be 0, or {context.shape[-1]} for the mean of the text"
        )
    return context.mean(1) if room else context.new_zeros(len(context), 0)
