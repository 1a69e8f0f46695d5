"""Relay diffusion for text-to-image: a small picture first, then relayed upwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay_diffusion.pipelines import RelayPipeline

__all__ = ["RelayPipeline", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the pipeline when asked for: diffusers takes seconds, ``relay --help`` must not."""
    if name == "RelayPipeline":
        from relay_diffusion.pipelines import RelayPipeline

        return RelayPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
