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
    """Train a stage of a cascade, or the judge of what it makes."""
    from relay_diffusion.evaluation.judge.training import JudgeRecipe, judge
    from relay_diffusion.training.recipe import RECIPES, read_recipe
    from relay_diffusion.training.run import make_objective, run, summary

    read = read_recipe(recipe, set_ or (), {**RECIPES, "judge": JudgeRecipe})
    make = judge if isinstance(read, JudgeRecipe) else make_objective
    if dry_run:
        typer.echo(summary(read))
    elif run(read, resume, make=make):
        typer.echo(f"done: {read.folder / 'export'}")
    else:
        typer.echo(f"stopped before the end: relay train {recipe} --resume goes on")
