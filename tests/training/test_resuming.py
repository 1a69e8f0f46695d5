"""A run goes on as what it is, with the networks that it began with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_lora import lora_recipe
from tiny_distilling import recipe_for, teacher
from tiny_training import KL_VAE, UNET, lines, tiny_recipe, train_tiny, write_cascade

from relay_diffusion.errors import RelayError
from relay_diffusion.training.checkpoint import Checkpoints
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


def test_a_run_that_goes_on_with_another_recipe_says_how_it_differs(tmp_path: Path) -> None:
    train_tiny(tiny_recipe("base", tmp_path, run={"steps": 2}))
    other = tiny_recipe("base", tmp_path, run={"steps": 3}, data={"batch_size": 2})
    assert train_tiny(other, resume=True)
    (note,) = [line["note"] for line in lines(other) if "another" in line.get("note", "")]
    assert note.endswith("data.batch_size was 4, is 2; run.steps was 2, is 3")
    assert train_tiny(other, resume=True)


def test_a_run_of_another_objective_is_not_gone_on_with(tmp_path: Path) -> None:
    base = tiny_recipe("base", tmp_path, run={"steps": 2, "name": "one"})
    train_tiny(base)
    relay = tiny_recipe("relay", tmp_path, run={"steps": 4, "name": "one"})
    with pytest.raises(RelayError, match=r'run\.objective was "base", is "relay"'):
        train_tiny(relay, resume=True)
    assert (base.folder / "export" / "base_unet").is_dir()


def test_a_checkpoint_of_other_tensors_is_told_by_what_changed(tmp_path: Path) -> None:
    train_tiny(tiny_recipe("base", tmp_path, run={"steps": 2}))
    other = tiny_recipe("base", tmp_path, run={"steps": 4}, optimizer={"kind": "muon"})
    with pytest.raises(RelayError, match=r'optimizer.kind was "adamw", is "muon": set back'):
        train_tiny(other, resume=True)


def test_what_is_complete_is_not_changed_by_another_recipe(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_tiny(tiny_recipe("base", tmp_path, run={"steps": 2}))
    assert train_tiny(tiny_recipe("base", tmp_path, run={"steps": 2, "seed": 7}), resume=True)
    assert "is complete, so this has no effect: run.seed was" in caplog.text


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 2})
    train_tiny(recipe)
    with pytest.raises(RelayError, match=r"up to step 2: go on with --resume"):
        train_tiny(recipe)


def test_networks_are_not_overwritten_when_their_checkpoints_are_gone(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 2})
    train_tiny(recipe)
    shutil.rmtree(recipe.folder / "checkpoints")
    written = (recipe.folder / "export" / "recipe.toml").stat().st_mtime_ns
    with pytest.raises(RelayError, match=r"already holds networks, of step 2, and no checkpoint"):
        train_tiny(recipe)
    assert train_tiny(recipe, resume=True)  # complete, as it was
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == []
    longer = replace(recipe, run=replace(recipe.run, steps=3))
    with pytest.raises(RelayError, match=r"already holds networks, of step 2, and no checkpoint"):
        train_tiny(longer, resume=True)
    assert (recipe.folder / "export" / "recipe.toml").stat().st_mtime_ns == written


def test_resuming_with_other_networks_is_refused(tmp_path: Path) -> None:
    train_tiny(tiny_recipe("autoencoder", tmp_path, run={"steps": 2}))
    other = tiny_recipe("autoencoder", tmp_path, model={"vae": KL_VAE})
    with pytest.raises(RelayError, match=r"does not fit this recipe: model\.vae.* and 7 more"):
        train_tiny(other, resume=True)
