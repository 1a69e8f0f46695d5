"""The blur schedule of a relay recipe: in the loss and the preview, told to the cascade."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import CPU, tiny_objective, tiny_recipe

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import RELAY_NOTE
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.recipe import RelayRecipe, recipe_from_dict
from relay_diffusion.training.rounds import DistillRecipe, rounds_of
from tests.pipelines.conftest import cascade, cascade_folder

__all__ = ["cascade", "cascade_folder"]


def test_a_relay_trains_previews_and_exports_with_its_schedule(tmp_path: Path) -> None:
    losses, previews = [], []
    for blur in ("linear", "quadratic"):
        changes = {"objective": {"blur": blur}, "preview": {"num_pictures": 2, "num_steps": 2}}
        recipe = tiny_recipe("relay", tmp_path, **changes)
        objective = tiny_objective(recipe)
        with torch.no_grad():
            batch = objective.feed(0)
            draws = Draws.of_batch(0, "train", 0, len(batch["z_0"]), CPU)
            losses.append(objective.loss(batch, draws))
            assert objective.preview is not None
            previews.append(objective.preview()[0])
        (tmp_path / blur).mkdir()
        objective.export(tmp_path / blur)
        told = json.loads((tmp_path / blur / RELAY_NOTE).read_text())
        start = recipe.objective.num_relay_train_steps  # type: ignore[attr-defined]
        assert told == {"relay_blur": blur, "relay_start": [start]}
        assert (tmp_path / blur / "relay_unet" / "config.json").is_file()
    assert not torch.equal(*losses) and not torch.equal(*previews)


def test_a_cascade_says_its_schedule_to_what_goes_on_from_it(
    cascade_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cosine"
    shutil.copytree(cascade_folder, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "relay_blur": "cosine"}))
    run = {"name": "r", "objective": "relay", "steps": 1}
    for given, blur in (({}, "cosine"), ({"blur": "linear"}, "linear")):
        table = {"run": run, "model": {"cascade": str(folder)}, "objective": given}
        recipe = recipe_from_dict(table)
        assert isinstance(recipe, RelayRecipe) and recipe.objective.blur == blur
    rounds = [{"num_steps": 2, "steps": 1}]
    settings = {"teacher": str(folder), "stage": "relay", "rounds": rounds}
    table = {"run": {**run, "objective": "distill"}, "objective": settings}
    student = recipe_from_dict(table, {"distill": DistillRecipe})
    assert isinstance(student, DistillRecipe)
    with pytest.raises(RelayError, match="has the blur schedule 'cosine', and only linear"):
        next(rounds_of(student))
