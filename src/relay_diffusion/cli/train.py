"""``relay train``: run recipes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from relay_diffusion.training.recipe import Recipe
    from relay_diffusion.training.run import Make


STOPPED = 75
"""Exit code of a run that is not at its end: "try again later", EX_TEMPFAIL of sysexits.h."""


def _print_keys(asked: bool) -> None:
    if asked:
        from relay_diffusion.training.reference import reference

        typer.echo(reference(objectives()[0]), nl=False)
        raise typer.Exit


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
        bool,
        typer.Option(
            "--dry-run",
            help="Print the resolved recipe and sizes, make nothing; a cascade named by its hub id "
            "is downloaded all the same.",
        ),
    ] = False,
    keys: Annotated[
        bool,
        typer.Option(
            "--keys",
            callback=_print_keys,
            is_eager=True,
            help="Print what a recipe can hold, key by key, and make nothing.",
        ),
    ] = False,
) -> None:
    """Train the stages of a cascade, or the judge of what it makes.

    Under torchrun its processes share out batches and weights (docs/training.md). A recipe that is
    complete is passed over with --resume, so that one command line, run again,
    takes up a whole series where it stopped. One that was stopped by SIGTERM, Ctrl-C or its time
    ends with exit code 75.
    """
    from relay_diffusion.models.quiet import quiet_libraries
    from relay_diffusion.training import distributed
    from relay_diffusion.training.recipe import read_recipe
    from relay_diffusion.training.rounds import DistillRecipe, rounds_of
    from relay_diffusion.training.run import run, summary

    quiet_libraries()
    kinds, maker = objectives()
    begun = time.monotonic()

    def say(text: str) -> None:
        if distributed.speaks():
            typer.echo(text)

    for path in recipes:
        whole = read_recipe(path, set_ or (), kinds)
        for recipe in rounds_of(whole) if isinstance(whole, DistillRecipe) else [whole]:
            if minutes:
                # At least a step is made, so that a series cannot stand still.
                left = max(minutes - (time.monotonic() - begun) / 60, 1e-3)
                own = recipe.run.max_minutes or left
                recipe = replace(recipe, run=replace(recipe.run, max_minutes=min(left, own)))
            if dry_run:
                say(summary(recipe))
                continue
            whole_run = run(recipe, resume, make=maker(recipe))
            if whole_run:
                say(f"done: {recipe.folder / 'export'}")
            else:
                say(f"stopped before the end of {path}: the same with --resume goes on")
                # torchrun would take it for a failure, and end the other processes.
                raise typer.Exit(0 if "RANK" in os.environ else STOPPED)


def objectives() -> tuple[dict[str, type[Recipe]], Callable[[Recipe], Make]]:
    """All that can be trained: recipes by ``run.objective``, and what makes their objectives."""
    from relay_diffusion.evaluation.judge.training import JudgeRecipe, judge
    from relay_diffusion.training.distilling import distill
    from relay_diffusion.training.recipe import RECIPES
    from relay_diffusion.training.rounds import DistillRecipe
    from relay_diffusion.training.run import make_objective

    makers: dict[type[Recipe], Make] = {JudgeRecipe: judge, DistillRecipe: distill}
    kinds = {**RECIPES, "judge": JudgeRecipe, "distill": DistillRecipe}
    return kinds, lambda recipe: makers.get(type(recipe), make_objective)
