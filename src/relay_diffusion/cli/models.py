"""``relay models``: the cascades that can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from relay_diffusion.models.registry import list_cascades


def models() -> None:
    """List the cascades that can be named, each with its own base size, steps (base stage + each
    doubling), guidance (base stage + each doubling, or one for all; in brackets the range it was
    distilled for) and solver; --model takes folders and hub ids as well."""
    for cascade in list_cascades():
        told = "not installed"
        if cascade.index:
            told = f"{cascade.num_bytes / 1e6:.0f} MB, {_settings(cascade.index)}"
        typer.echo(f"{cascade.name}  {told}  {cascade.description}")


def _settings(index: Mapping[str, Any]) -> str:
    side, scale, known = index["base_size"], index["guidance_scale"], index["guidance_range"]
    base = _guidance(scale, known)
    own = index["relay_guidance_scale"]
    relay = _guidance(scale if own is None else own, index["relay_guidance_range"] or known)
    return (
        f"base {side}x{side}, {index['num_inference_steps']} + {index['num_relay_steps']} steps, "
        f"guidance {base if relay == base else f'{base} + {relay}'}, {index['solver']}"
    )


def _guidance(scale: float, known: Sequence[float] | None) -> str:
    return f"{scale:g} ({known[0]:g} to {known[1]:g})" if known else f"{scale:g}"
