"""``relay models``: the cascades that can be named."""

from __future__ import annotations

import typer

from relay_diffusion.models.registry import list_cascades


def models() -> None:
    """List the cascades that can be named; --model takes folders and hub ids as well."""
    for cascade in list_cascades():
        if cascade.base_size is None:
            size = "not installed"
        else:
            size = f"{cascade.num_bytes / 1e6:.0f} MB, base {cascade.base_size}x{cascade.base_size}"
        typer.echo(f"{cascade.name}  {size}  {cascade.description}")
