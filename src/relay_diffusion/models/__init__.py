"""Networks: building them, opening the released ones, naming cascades.

UNets, autoencoders and text encoders are classes of diffusers and transformers; nothing here is a
network of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay_diffusion.models.convert import convert_cascade
    from relay_diffusion.models.official import unet_from_official
    from relay_diffusion.models.official_vae import vae_from_official
    from relay_diffusion.models.unet import build_unet, cogview3_unet_config, full_size_unet

__all__ = [
    "build_unet",
    "cogview3_unet_config",
    "convert_cascade",
    "full_size_unet",
    "unet_from_official",
    "vae_from_official",
]

_HOME = {
    "build_unet": "unet",
    "cogview3_unet_config": "unet",
    "convert_cascade": "convert",
    "full_size_unet": "unet",
    "unet_from_official": "official",
    "vae_from_official": "official_vae",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``models.registry`` is wanted without diffusers."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
