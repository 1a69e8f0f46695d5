"""How scalars meet latents: broadcasting over the batch, means of each sample, and the dtype of the
arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = float | Tensor
"""A number for the whole batch, or a tensor of shape (B,) with one number per sample."""


def per_sample(value: Scalar, like: Tensor) -> Scalar:
    """Shape ``value`` so that it multiplies ``like`` sample by sample.

    Args:
        value: a number, a tensor of shape () or of shape (B,).
        like: (B, ...); gives the number of dimensions, the dtype and the device.
    Returns: a number as it came, a tensor as (B, 1, ..., 1).
    Raises: ValueError for any other shape, which would otherwise broadcast over channels or pixels.
    """
    if not isinstance(value, Tensor):
        return value
    value = value.to(device=like.device, dtype=like.dtype)
    if value.ndim == 0:
        return value
    if value.shape != like.shape[:1]:
        raise ValueError(
            f"a per-sample value has shape {tuple(value.shape)} for latents {tuple(like.shape)}; "
            f"give a number or a tensor of shape ({like.shape[0]},)"
        )
    return value.view(-1, *(1 for _ in like.shape[1:]))


def require_shape(name: str, x: Tensor, like: Tensor) -> None:
    """Raise ValueError unless ``x``, called ``name``, has the shape of the latents ``like``, where
    another one might broadcast."""
    if x.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)} for latents {tuple(like.shape)}")


def mean_square(error: Tensor) -> Tensor:
    """Mean of the squares of each sample, (B, ...) to (B,)."""
    return torch.mean(error**2, dim=tuple(range(1, error.ndim)))


def working_dtype(z: Tensor) -> torch.dtype:
    """float64 for float64 latents, float32 for all others, half precision included."""
    return torch.float64 if z.dtype == torch.float64 else torch.float32
