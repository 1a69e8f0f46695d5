"""``relay train``: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that says what to train.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: --set optimizer.lr=1e-4.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and sizes, make nothing.")
    ] = False,
) -> None:
    """Train a stage of a cascade."""
    from relay_diffusion.training.recipe import read_recipe
    from relay_diffusion.training.run import run, summary

    read = read_recipe(recipe, set_ or ())
    if dry_run:
        typer.echo(summary(read))
    elif run(read, resume=resume):
        typer.echo(f"done: {read.folder / 'export'}")
    else:
        typer.echo(f"stopped before the end: relay train {recipe} --resume goes on")
