"""From a prompt, or a picture, to a larger picture: the relay cascade as a diffusers pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay_diffusion.pipelines.cascade import RelayPipeline, RelayPipelineOutput

__all__ = ["RelayPipeline", "RelayPipelineOutput"]


def __getattr__(name: str) -> Any:
    """Import the pipeline when asked for: its neighbours here do without diffusers."""
    if name in __all__:
        from relay_diffusion.pipelines import cascade

        return getattr(cascade, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
