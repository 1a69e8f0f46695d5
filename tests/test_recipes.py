"""Every shipped recipe runs: its own networks and objective, one small step on drawn shapes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from relay_diffusion.cli.train import objectives
from relay_diffusion.config import load_extended
from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.training.networks import build_vae, save_half
from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.rounds import DistillRecipe, rounds_of
from relay_diffusion.training.run import run
from tests.data.shapes import shapes_atlas

FOLDER = Path(__file__).parents[1] / "recipes"
FULL = sorted(FOLDER.glob("full_*.toml"))
"""Too large for a step here; tests/training/test_estimate.py describes them."""
FILES = sorted(set(FOLDER.glob("*.toml")) - set(FULL))


def tables(path: Path) -> dict:
    """A recipe whose networks from earlier runs are fresh ones, of those runs' recipes."""
    table = load_extended(path)
    model = table.get("model", {})
    prefix = "starter_cpu" if "cpu" in path.stem else "starter"
    model.pop("init_from", None)
    if "cascade" in model:
        model["cascade"] = "starter"
    objective = table.get("objective", {})
    redraw = objective.get("redraw", {})
    if redraw and redraw["cascade"] == objective.get("teacher"):
        redraw["cascade"] = "starter"
    if "teacher" in objective:
        objective["teacher"] = "starter"
    if isinstance(model.get("vae"), str):
        autoencoder = tomllib.loads((FOLDER / f"{prefix}_autoencoder.toml").read_text())
        model["vae"] = autoencoder["model"]["vae"]
    if isinstance(model.get("text_encoder"), str):
        base = tomllib.loads((FOLDER / f"{prefix}_base.toml").read_text())
        model["text_encoder"] = base["model"]["text_encoder"]
        model.pop("tokenizer")
    return table


def test_there_are_recipes() -> None:
    assert len(FILES) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_recipe_makes_a_step(path: Path, tmp_path: Path) -> None:
    table = tables(path)
    table["run"] |= {"steps": 1, "out": str(tmp_path), "device": "cpu", "num_threads": 0}
    table["data"] |= {"batch_size": 2}
    if table["run"]["objective"] != "text":
        table["data"] |= {"workers": 0, "chapter": 1}
    table["validation"] = {"every": 0, "num_pictures": 2}
    if table["run"]["objective"] == "autoencoder":
        table["validation"]["sizes"] = [64]
    table["preview"] = {"every": 0}
    # A picture is only redrawn at the size that the starter's base stage makes it for.
    side = 256 if "redraw" in table.get("objective", {}) else 64
    for view in table["data"].get("views", []):
        view.update(size=side, crop=0)
    if table["data"].get("source") == "prepared":  # tests/cli/test_tutorial.py runs them on some
        table["data"] = {key: table["data"][key] for key in ("batch_size", "views")}
    if table.get("objective", {}).get("decoder_only"):  # goes on with an encoder that is kept
        save_half(build_vae(table["model"]["vae"]), tmp_path / "vae")
        table["model"]["vae"] = str(tmp_path / "vae")
    kinds, maker = objectives()
    recipe = recipe_from_dict(table, kinds)
    if isinstance(recipe, DistillRecipe):
        recipe = next(rounds_of(recipe))
        recipe = replace(recipe, run=replace(recipe.run, steps=1))
    atlas = shapes_atlas(World.by_name(recipe.data.world).subjects)

    def source(split: str, views: tuple[View, ...]) -> SceneStream:
        views = tuple(replace(view, size=side, crop=0) for view in views)
        return SceneStream(World.by_name(recipe.data.world), atlas, views, split=split)

    assert run(recipe, source=source, make=maker(recipe))
    weights = list((recipe.folder / "export").rglob("*.safetensors"))
    assert weights
