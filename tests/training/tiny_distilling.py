"""A cascade of random weights that is distilled, and a recipe for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_training import write_cascade

from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.rounds import DistillRecipe


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A cascade folder with random weights."""
    return write_cascade(tmp_path / "teacher")


def recipe_for(teacher: Path, **objective: Any) -> DistillRecipe:
    rounds = [{"num_steps": 4, "steps": 3}, {"num_steps": 2, "steps": 2, "lr": 1e-4}]
    recipe = recipe_from_dict(
        {
            "run": {
                "name": "fast",
                "objective": "distill",
                "steps": 1,
                "out": str(teacher.parent / "runs"),
            },
            "data": {"batch_size": 4, "views": [{"size": 32}]},
            "optimizer": {"lr": 1e-3, "warmup": 0, "schedule": "constant"},
            "validation": {"every": 1, "num_pictures": 4},
            "preview": {"every": 0},
            "checkpoint": {"every": 2},
            "objective": {"teacher": str(teacher), "rounds": rounds, **objective},
        },
        {"distill": DistillRecipe},
    )
    assert isinstance(recipe, DistillRecipe)
    return recipe
