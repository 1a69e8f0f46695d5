"""The ``--lora`` option of the commands that make pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from relay_diffusion.errors import RelayError

if TYPE_CHECKING:
    from relay_diffusion.models.lora import Adapter
    from relay_diffusion.pipelines.metadata import UsedAdapter

LoraOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FOLDER[:SCALE]", help="Adapter to put in, at a scale of 1; several."),
]


def open_adapters(
    texts: Sequence[str] | None, before: Sequence[UsedAdapter] = ()
) -> list[tuple[Adapter, float]]:
    """The adapters that are asked for, else those that a picture was made with.

    Args:
        texts: "FOLDER" or "FOLDER:SCALE" each.
        before: of the picture that is made again.
    Raises: RelayError for one that is not there, or has changed since the picture was made.
    """
    from relay_diffusion.models.lora import read_adapter

    if texts:
        return [(read_adapter(path), scale) for path, scale in map(parse_adapter, texts)]
    adapters = []
    for used in before:
        try:
            adapter = read_adapter(used.path)
        except RelayError as error:
            raise RelayError(
                f"{error} (the path is the picture's, from where it was made; --lora FOLDER:"
                f"{used.scale:g} says where the adapter is now)"
            ) from error
        if adapter.sha256 != used.sha256:
            raise RelayError(
                f"the adapter {used.path} has changed since the picture was made, "
                f"so that it cannot be made again; --lora {used.path} takes the new one"
            )
        adapters.append((adapter, used.scale))
    return adapters


def used(adapters: Sequence[tuple[Adapter, float]]) -> tuple[UsedAdapter, ...]:
    """For the parameters in a picture."""
    from relay_diffusion.pipelines.metadata import UsedAdapter

    return tuple(UsedAdapter(one.path, scale, one.sha256) for one, scale in adapters)


def parse_adapter(text: str) -> tuple[str, float]:
    """Path and scale of "FOLDER:0.8" or "FOLDER"; a colon that no number follows is the path's."""
    path, colon, last = text.rpartition(":")
    try:
        return (path, float(last)) if colon and path else (text, 1.0)
    except ValueError:
        return text, 1.0
