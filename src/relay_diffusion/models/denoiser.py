"""A diffusers UNet as ``denoise(z, sigma)``: what the samplers and losses work with."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from relay_diffusion.diffusion import NoiseSchedule, eps_to_denoised, v_to_denoised
from relay_diffusion.diffusion.prediction import Denoise

PredictionType = Literal["epsilon", "v_prediction"]


def guidance_embedding(guidance: Tensor, width: int) -> Tensor:
    """Sinusoid of the guidance scale that distilled CogView3 networks are told.

        [sin(1000 w f_i), cos(1000 w f_i)],  f_i = 10^(-4 i / (width/2 - 1)),  i = 0 .. width/2 - 1

    With w the scale itself (7.5), not diffusers' ``guidance_scale - 1``.

    Args: guidance (B,). Returns: (B, width) float32.
    """
    half = width // 2
    index = torch.arange(half, device=guidance.device, dtype=torch.float32)
    angle = 1000 * guidance.float()[:, None] * torch.exp(-math.log(1e4) / (half - 1) * index)
    return torch.cat([angle.sin(), angle.cos()], 1)


class Denoiser:
    """Binds a UNet to a schedule; call it with the conditioning to get ``denoise(z, sigma)``.

    Latents and sigma are float32; the network runs in its own dtype, and this is the one place
    where values are cast to it and back.

    Args:
        unet: ``UNet2DConditionModel`` conditioned on text and on six numbers of size.
        schedule: gives the training index nearest to sigma.
        prediction_type: what the network predicts.
    """

    def __init__(
        self, unet: Any, schedule: NoiseSchedule, prediction_type: PredictionType = "epsilon"
    ) -> None:
        self.unet, self.schedule = unet, schedule
        self.to_denoised = eps_to_denoised if prediction_type == "epsilon" else v_to_denoised

    def __call__(
        self, context: Tensor, vector: Tensor, guidance: Tensor | float | None = None
    ) -> Denoise:
        """Condition the network.

        Args:
            context: text embeddings, (B, L, D).
            vector: (B, 6) original height and width, crop top and left, target height and width.
            guidance: scale, (B,) or a number; used only where it is embedded in the network.
        Returns: ``denoise(z, sigma)``: (B, C, H, W) and (B,) to D (B, C, H, W) float32.
        """
        unet, dtype = self.unet, self.unet.dtype
        context = context.to(dtype)
        size = {
            "text_embeds": vector.new_empty(len(vector), 0, dtype=dtype),
            "time_ids": vector.float(),
        }
        told = None
        width = unet.config.time_cond_proj_dim
        if width is not None:
            scale = torch.as_tensor(1.0 if guidance is None else guidance, device=context.device)
            told = guidance_embedding(scale.expand(len(context)), width).to(dtype)

        def denoise(z: Tensor, sigma: Tensor) -> Tensor:
            c_in = torch.rsqrt(sigma**2 + 1)[:, None, None, None]
            predicted = unet(
                (c_in * z).to(dtype),
                self.schedule.nearest(sigma),
                encoder_hidden_states=context,
                timestep_cond=told,
                added_cond_kwargs=size,
                return_dict=False,
            )[0]
            return self.to_denoised(z, predicted.float(), sigma)

        return denoise
