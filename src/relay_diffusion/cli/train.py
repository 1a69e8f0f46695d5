"""``relay train``: run recipes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipes: Annotated[
        list[Path], typer.Argument(help="TOML files that say what to train, in this order.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: --set optimizer.lr=1e-4.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0, help="Save and stop after so long, all recipes together.")
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and sizes, make nothing.")
    ] = False,
) -> None:
    """Train the stages of a cascade, or the judge of what it makes.

    A recipe that is complete is passed over with --resume, so that one command line, run again,
    takes up a whole series where it stopped.
    """
    from relay_diffusion.evaluation.judge.training import JudgeRecipe, judge
    from relay_diffusion.training.recipe import RECIPES, read_recipe
    from relay_diffusion.training.run import make_objective, run, summary

    begun = time.monotonic()
    for path in recipes:
        changes = list(set_ or ())
        if minutes:
            # At least a step is made, so that a series cannot stand still.
            left = max(minutes - (time.monotonic() - begun) / 60, 1e-3)
            changes.append(f"run.max_minutes={left}")
        recipe = read_recipe(path, changes, {**RECIPES, "judge": JudgeRecipe})
        make = judge if isinstance(recipe, JudgeRecipe) else make_objective
        if dry_run:
            typer.echo(summary(recipe))
        elif run(recipe, resume, make=make):
            typer.echo(f"done: {recipe.folder / 'export'}")
        else:
            typer.echo(f"stopped before the end of {path}: the same command with --resume goes on")
            return
