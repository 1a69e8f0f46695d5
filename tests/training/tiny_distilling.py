"""A cascade of random weights that is distilled, and a recipe for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import TEXT_ENCODER, UNET, VAE, tokenizer

from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.training.networks import (
    build_text_encoder,
    build_unet,
    build_vae,
    save_half,
)
from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.rounds import DistillRecipe


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A cascade folder with random weights."""
    torch.manual_seed(0)
    folder = tmp_path / "teacher"
    folder.mkdir()
    vae, text_encoder = build_vae(VAE), build_text_encoder(TEXT_ENCODER, 8)
    for name, module in {
        "vae": vae,
        "text_encoder": text_encoder,
        "base_unet": build_unet(UNET, 4, 16),
        "relay_unet": build_unet(UNET, 4, 16),
    }.items():
        save_half(module, folder / name)
    tokenizer().save_pretrained(folder / "tokenizer")
    cascade_scheduler("v_prediction").save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"max_tokens": 8}))
    return folder


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
