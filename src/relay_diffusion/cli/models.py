"""``relay models``: the cascades that can be named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from relay_diffusion.models.registry import list_cascades


def models() -> None:
    """List the cascades that can be named, each with its own base size, steps (base stage + each
    doubling), guidance (in brackets the range it was distilled for) and solver; --model takes
    folders and hub ids as well."""
    for cascade in list_cascades():
        told = "not installed"
        if cascade.index:
            told = f"{cascade.num_bytes / 1e6:.0f} MB, {_settings(cascade.index)}"
        typer.echo(f"{cascade.name}  {told}  {cascade.description}")


def _settings(index: Mapping[str, Any]) -> str:
    side, known = index["base_size"], index["guidance_range"]
    among = f" ({known[0]:g} to {known[1]:g})" if known else ""
    return (
        f"base {side}x{side}, {index['num_inference_steps']} + {index['num_relay_steps']} steps, "
        f"guidance {index['guidance_scale']:g}{among}, {index['solver']}"
    )
