"""Run by ``test_distributed.py`` under torchrun: a tiny recipe, in however many processes.

torchrun --nproc-per-node N distributed_run.py KIND OUT STEPS [resume] [half] [compiled] [parts]
    [full-disk] [replicas] [cascade=FOLDER] [rank=FOLDER] [redraw=FOLDER] [distil=FOLDER]
    [match=FOLDER]
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from test_lora import lora_recipe
from tiny_distilling import recipe_for
from tiny_training import CPU, Squares, tiny_objective, tiny_recipe

from relay_diffusion.training import distributed
from relay_diffusion.training.distilling import distill
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.loop import train
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.rounds import DistillRecipe, rounds_of

HALF = {"dtype": "bfloat16", "channels_last": True, "activation_checkpointing": True}
"""What large networks are trained with."""


def recipe_of(kind: str, out: Path, steps: int, *rest: str):  # type: ignore[no-untyped-def]
    for word in rest:
        what, _, folder = word.partition("=")
        if what == "cascade":
            return lora_recipe(Path(folder), out, run={"steps": steps})
        if what == "rank":
            recipe = lora_recipe(Path(folder), out, run={"steps": steps})
            return replace(recipe, lora=None, model=replace(recipe.model, rank=2))
        if what == "redraw":
            return redrawing_recipe(Path(folder), out, steps)
        if what in ("distil", "match"):
            loss = "matching" if what == "match" else "regression"
            return distilling_recipe(Path(folder), out, steps, loss)
    if "full-disk" in rest:
        return tiny_recipe(kind, out, run={"steps": steps}, checkpoint={"every": 1})
    # The gradient of the autoencoder's L1 loss is a sign, which the last bit of a sum can turn
    # around; at a higher rate the two runs are still the same for ten steps, and drift apart then.
    rate: dict[str, Any] = {"lr": 1e-4} if kind == "autoencoder" else {}
    parts = {"accumulate": 2} if "parts" in rest else {}
    return tiny_recipe(
        kind,
        out,
        run={
            "steps": steps,
            "compile": "compiled" in rest,
            "replicas": 2 if "replicas" in rest else 1,
            **(HALF if "half" in rest else {}),
        },
        data={"reuse": 2, "chapter": 3, "batch_size": 4},
        validation={"every": 10},
        preview={"every": 25},
        checkpoint={"every": 10},
        optimizer=rate | parts,
    )


def redrawing_recipe(cascade: Path, out: Path, steps: int) -> Recipe:
    return tiny_recipe(
        "relay",
        out,
        run={"steps": steps},
        data={"reuse": 2, "chapter": 1, "views": [{"size": 64}]},
        model={name: str(cascade / name) for name in ("vae", "text_encoder")},
        validation={"every": steps},
        objective={"redraw": {"cascade": str(cascade), "share": 0.7}},
    )


def distilling_recipe(cascade: Path, out: Path, steps: int, loss: str) -> DistillRecipe:
    rounds = [{"num_steps": 2, "steps": steps, "loss": loss}]
    recipe = recipe_for(cascade, stage="relay", start=300, rounds=rounds)
    run = replace(recipe.run, name="relay", out=str(out), log_every=1)
    each = replace(recipe.validation, every=steps)
    (one,) = rounds_of(replace(recipe, run=run, validation=each))
    return one


def fill_disk(objective: Objective) -> Objective:
    """No room, in the main process: at step 1 for the folder of the checkpoint, at step 2 to put it
    in its place, at step 3 for the folder of the export, at step 4 for the first of its networks,
    and so from step 6 on."""
    step = 0

    def feed(number: int) -> Batch:
        nonlocal step
        step = number + 1
        return objective.feed(number)

    def full_at(owner: Any, name: str, part: str, steps: Sequence[int]) -> None:
        original = getattr(owner, name)

        def write(path: Any, *args: Any, **kwargs: Any) -> Any:
            if part in str(path) and step in steps:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(path, *args, **kwargs)

        setattr(owner, name, write)

    if distributed.is_main():
        full_at(Path, "mkdir", ".step-00000001.new", [1])
        full_at(os, "rename", ".step-00000002.new", [2, 3])
        full_at(Path, "mkdir", ".export.new", [3])
        full_at(Path, "write_bytes", "base_unet", [4, *range(6, 99)])
    return replace(objective, feed=feed)


if __name__ == "__main__":
    kind, out, steps, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    recipe = recipe_of(kind, Path(out), int(steps), *rest)
    distributed.join(CPU)
    distils = isinstance(recipe, DistillRecipe)
    objective = distill(recipe, Squares, CPU) if distils else tiny_objective(recipe)
    if "full-disk" in rest:
        objective = fill_disk(objective)
    train(recipe, objective, CPU, resume="resume" in rest)
