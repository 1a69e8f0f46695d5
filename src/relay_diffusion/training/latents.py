"""Latents and text embeddings of a batch: encoded here, or as they were prepared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from relay_diffusion.data.prepare.stream import PreparedBatch
from relay_diffusion.models.autoencoder import encode
from relay_diffusion.models.low_resolution import low_resolution
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training.feed import Batch, Pictures
from relay_diffusion.training.networks import Networks


def prepared(
    networks: Networks, max_tokens: int, pictures: Pictures, device: torch.device
) -> Batch:
    """What every denoising objective needs of pictures: clean latents, tokens, sizes; and text
    embeddings, ``context``, where they come with prepared data."""
    batch = {
        "z_0": clean_latents(networks, pictures, device),
        "time_ids": pictures.time_ids.to(device),
    }
    if not isinstance(pictures, PreparedBatch):
        ids = tokenize(networks.tokenizer, pictures.captions, max_tokens)
        return {**batch, "input_ids": ids.to(device)}
    batch["input_ids"] = pictures.input_ids.to(device)
    if pictures.embeddings is not None:
        batch["context"] = pictures.embeddings.to(device)
    return batch


def clean_latents(networks: Networks, pictures: Pictures, device: torch.device) -> Tensor:
    """z_0, (B, C, H / 8, W / 8) float32."""
    if isinstance(pictures, PreparedBatch):
        return pictures.z_0.to(device).float()
    return encode(networks.vae, pictures.x.to(device))


def low_resolution_latents(
    networks: Networks,
    pictures: Pictures,
    through_vae: Tensor,
    device: torch.device,
    redrawn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """z_lr, of the shape of z_0; ``through_vae`` and ``redrawn`` as for :func:`low_resolution`."""
    if not isinstance(pictures, PreparedBatch):
        x = pictures.x.to(device)
        return encode(networks.vae, low_resolution(networks.vae, x, through_vae, redrawn))
    assert pictures.z_lr is not None and pictures.z_lr_through is not None  # see check_prepared
    passes = through_vae[:, None, None, None]
    return torch.where(passes, pictures.z_lr_through.to(device), pictures.z_lr.to(device)).float()


def context_of(text_encoder: nn.Module, batch: Batch) -> Tensor:
    """Text embeddings of a batch of :func:`prepared`, (B, L, D) float32."""
    if "context" in batch:
        return batch["context"].float()
    return encode_text(text_encoder, batch["input_ids"])
