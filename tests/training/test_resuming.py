"""A run goes on with the networks that it began with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_lora import lora_recipe
from tiny_distilling import recipe_for, teacher
from tiny_training import UNET, tiny_recipe, train_tiny, write_cascade

from relay_diffusion.errors import RelayError
from relay_diffusion.training.networks import build_unet, save_half
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.resuming import NETWORKS, fixed_networks
from relay_diffusion.training.rounds import rounds_of

__all__ = ["teacher"]


def test_an_adapter_is_not_trained_on_over_another_base(tmp_path: Path) -> None:
    """As where the package that brought the cascade has been upgraded in between."""
    cascade = write_cascade(tmp_path / "cascade")

    def recipe(steps: int) -> Recipe:
        return lora_recipe(cascade, tmp_path, run={"steps": steps})

    assert train_tiny(recipe(1))
    shutil.move(cascade / "base_unet", tmp_path / "before")
    save_half(build_unet(UNET, 4, 16), cascade / "base_unet")
    with pytest.raises(RelayError, match=r"trained with another model.unet than is there now: go"):
        train_tiny(recipe(2), resume=True)
    assert train_tiny(recipe(1), resume=True)  # it is complete
    shutil.rmtree(cascade / "base_unet")
    shutil.move(tmp_path / "before", cascade / "base_unet")
    assert train_tiny(recipe(2), resume=True)


def test_a_damaged_note_of_them_is_named(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 1})
    train_tiny(recipe)
    (recipe.folder / "checkpoints" / NETWORKS).write_text("{")
    with pytest.raises(RelayError, match=r"networks.json: Expecting property name"):
        train_tiny(replace(recipe, run=replace(recipe.run, steps=2)), resume=True)


BASE, RELAY = "base", "relay"


@pytest.mark.parametrize(
    ("kind", "changes", "fixed"),
    [
        (BASE, {}, ["vae"]),
        (BASE, {"optimizer": {"scales": {"text_encoder": 0.0}}}, ["vae", "text_encoder"]),
        (BASE, {"model": {"rank": 2}}, ["vae", "unet"]),
        (RELAY, {}, ["vae", "text_encoder"]),
        ("autoencoder", {}, []),
        ("autoencoder", {"objective": {"decoder_only": True}}, ["vae"]),
    ],
)
def test_what_does_not_learn_is_fixed(
    kind: str, changes: dict[str, Any], fixed: list[str], starting_point: Path, tmp_path: Path
) -> None:
    stage = {} if kind == "autoencoder" else {"unet": str(starting_point / f"{kind}_unet")}
    own = {name: str(starting_point / name) for name in ("vae", "text_encoder")} | stage
    model = own | changes.get("model", {})
    recipe = tiny_recipe(kind, tmp_path, **(changes | {"model": model}))
    assert fixed_networks(recipe) == {f"model.{name}": Path(own[name]) for name in fixed}


def test_teachers_and_what_redraws_are_fixed(teacher: Path) -> None:
    redraw = {"cascade": str(teacher)}
    first, second = rounds_of(recipe_for(teacher, stage="relay", redraw=redraw))
    folders = fixed_networks(first)
    assert {folder.relative_to(teacher).as_posix() for folder in folders.values()} == {
        "vae",
        "text_encoder",
        "relay_unet",
        "base_unet",
    }
    student = first.folder / "export" / "relay_unet"
    assert fixed_networks(second) == folders | {"model.unet": student}
