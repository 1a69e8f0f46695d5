"""Training on prepared data: the batches that encoding on the way gives, of its networks only."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from tiny_training import CPU, UNET, newest_state, tiny_recipe

from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.training.cached import text_is_fixed
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.distilling import distill
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.networks import build_networks, load_tokenizer
from relay_diffusion.training.recipe import Recipe, recipe_from_dict
from relay_diffusion.training.rounds import DistillRecipe, rounds_of
from relay_diffusion.training.run import make_objective, run
from relay_diffusion.training.sources import open_source
from relay_diffusion.training.upscaling import prepared_with_low_resolution
from tests.data.drawn import write_folder
from tests.data.prepare.making import made, scribbles
from tests.pipelines.conftest import cascade, cascade_folder

__all__ = ["cascade", "cascade_folder"]

SIZES = [(64, 64), (64, 64), (96, 48)]
LONG = {"long": 1.0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def out(cascade_folder: Path, tmp_path: Path) -> Path:
    pictures = write_folder(tmp_path / "data", scribbles(12, SIZES), "json")
    made(pictures, tmp_path / "prepared", cascade_folder, embeddings=True)
    return tmp_path / "prepared"


def recipe_of(
    kind: str, out: Path, cascade: Path, data: dict[str, Any] | None = None, **tables: Any
) -> Recipe:
    parts = {name: str(cascade / name) for name in ("vae", "text_encoder", "tokenizer")}
    prepared = {"source": "prepared", "path": str(out), "captions": LONG, "held_out": 0.2}
    model = {**parts, **tables.pop("model", {})}
    views = {"views": [{"size": 64}]}
    data = {**prepared, **views, **(data or {})}
    return tiny_recipe(kind, out.parent / "runs", data=data, model=model, **tables)


def weights(recipe: Recipe) -> dict[str, Any]:
    state = newest_state(recipe)
    return {name: value for name, value in state.items() if name.startswith("weights.unet.")}


def test_batches_are_those_of_encoding_on_the_way(cascade_folder: Path, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(16), "json")
    made(pictures, tmp_path / "prepared", cascade_folder)
    recipe = recipe_of("relay", tmp_path / "prepared", cascade_folder)
    networks = build_networks(recipe.model, "relay", load_tokenizer(recipe.model.tokenizer))
    plain = Data(source="pictures", path=str(pictures), captions=LONG, views=(View(64),))
    batches = []
    for data in (plain, replace(recipe.data, held_out=plain.held_out)):
        stream = open_source(data, 3, CPU)("train", data.views)
        draws = Draws.of_batch(0, "prepare", 1, 5)
        with torch.no_grad():
            seen = stream.batch(1, 5)
            batches.append(prepared_with_low_resolution(networks, 8, 0.5, seen, draws, CPU))
    on_the_way, ready = batches
    assert on_the_way.keys() == ready.keys() == {"z_0", "z_lr", "input_ids", "time_ids"}
    for name, value in on_the_way.items():
        assert ready[name].dtype == value.dtype
        torch.testing.assert_close(ready[name], value, atol=2e-3, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "relay", "concat"])
def test_it_trains_validates_shows_and_resumes(kind: str, out: Path, cascade_folder: Path) -> None:
    unet = {**UNET, "in_channels": 8} if kind == "concat" else UNET
    tables: dict[str, Any] = {
        "model": {"unet": unet},
        "validation": {"every": 4, "num_pictures": 2},
        "preview": {"every": 4, "num_pictures": 2, "num_steps": 2},
    }
    whole = recipe_of(kind, out, cascade_folder, **tables)
    assert run(whole)
    half = replace(whole, run=replace(whole.run, name="half", steps=2))
    assert run(half)
    longer = replace(half, run=replace(half.run, steps=4))
    assert run(longer, resume=True)
    first, second = weights(whole), weights(longer)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert list((whole.folder / "samples").glob("*"))


def test_embeddings_stand_in_for_a_fixed_text_encoder_only(out: Path, cascade_folder: Path) -> None:
    fixed = {"optimizer": {"scales": {"text_encoder": 0.0}}}
    losses = {}
    for name, tables, data in (
        ("learns", {}, {}),
        ("fixed", fixed, {}),
        ("tokens", fixed, {"embeddings": False}),
    ):
        recipe = recipe_of("base", out, cascade_folder, data, **tables)
        source = open_source(recipe.data, 0, CPU, text_is_fixed(recipe))
        objective = make_objective(recipe, source, CPU)
        batch = objective.feed(0)
        assert ("context" in batch) == (name == "fixed")
        with torch.no_grad():
            losses[name] = objective.loss(batch, Draws.of_batch(0, "train", 0, 4))
    torch.testing.assert_close(losses["fixed"], losses["tokens"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_it_distils_from_the_cascade_that_prepared(
    stage: str, out: Path, cascade_folder: Path, tmp_path: Path
) -> None:
    def recipe(teacher: Path) -> Recipe:
        rounds = [{"num_steps": 2, "steps": 1}]
        table: dict[str, Any] = {
            "run": {"name": teacher.name, "objective": "distill", "steps": 1, "out": str(tmp_path)},
            "data": {"source": "prepared", "path": str(out), "captions": LONG, "batch_size": 2},
            "validation": {"every": 0},
            "objective": {"teacher": str(teacher), "stage": stage, "rounds": rounds},
        }
        table["data"]["views"] = [{"size": 64}]
        whole = recipe_from_dict(table, {"distill": DistillRecipe})
        assert isinstance(whole, DistillRecipe)
        return next(rounds_of(whole))

    assert run(recipe(cascade_folder), make=distill)
    other = tmp_path / "teacher"
    shutil.copytree(cascade_folder, other)
    shutil.rmtree(other / "vae")
    changed(cascade_folder, "vae", other / "vae")
    with pytest.raises(RelayError, match="was prepared with the vae"):
        run(recipe(other), make=distill)


def changed(cascade: Path, part: str, to: Path) -> str:
    """A copy of a part, one of whose weights is another."""
    shutil.copytree(cascade / part, to)
    file = next(to.glob("*.safetensors"))
    tensors = load(file.read_bytes())
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 1}, file, metadata={"format": "pt"})
    return str(to)


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_data_of_another_network_are_refused_with_both_hashes(
    part: str, out: Path, cascade_folder: Path, tmp_path: Path
) -> None:
    other = changed(cascade_folder, part, tmp_path / "other")
    with pytest.raises(RelayError) as error:
        run(recipe_of("relay", out, cascade_folder, model={part: other}))
    name = part.replace("_", " ")
    assert f"was prepared with the {name} " in str(error.value)
    hashes = str(error.value).split(name)[1].split(": ")[0]
    assert len({word for word in hashes.split() if len(word.strip(",")) == 12}) == 2
    if part == "text_encoder":
        # Its tokens are as good as ever.
        tokens = {"embeddings": False}
        assert run(recipe_of("relay", out, cascade_folder, tokens, model={part: other}))


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({"views": [{"size": 32}]}, {}, "another size than data.views: set views = [{ size = 64 }"),
        ({}, {"max_tokens": 9}, "has captions of 8 tokens, and model.max_tokens is 9: set it to 8"),
        ({}, {"tokenizer": ""}, "model.tokenizer is empty"),
        ({}, {"tokenizer": "of-the-world"}, "was prepared with the tokenizer "),
        ({}, {"vae": {"class": "AutoencoderKL"}}, "model.vae starts from nothing"),
        ({"captions": {}}, {}, "the data have several captions, long, short"),
        ({"path": "nowhere"}, {}, "nowhere is not prepared to the end"),
    ],
)
def test_what_does_not_fit_is_named(
    data: dict[str, Any], model: dict[str, Any], message: str, out: Path, cascade_folder: Path
) -> None:
    if model.get("tokenizer"):
        model = {"tokenizer": str(out / model["tokenizer"])}
        build_tokenizer().save_pretrained(model["tokenizer"])
    with pytest.raises(RelayError) as error:
        run(recipe_of("base", out, cascade_folder, data, model=model))
    assert message in str(error.value)


def test_data_for_the_base_stage_are_refused_by_the_relay(
    cascade_folder: Path, tmp_path: Path
) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(4), "json")
    made(pictures, tmp_path / "prepared", cascade_folder, low_resolution=False)
    with pytest.raises(RelayError, match="prepared with --no-low-resolution"):
        run(recipe_of("relay", tmp_path / "prepared", cascade_folder))


def test_what_needs_pixels_says_so(out: Path, cascade_folder: Path) -> None:
    with pytest.raises(RelayError, match="hold latents and no pixels"):
        run(recipe_of("autoencoder", out, cascade_folder))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "prepared"}, "path is empty, must be a folder that relay prepare made"),
        ({"source": "prepared", "path": "x", "min_size": 9}, "min_size is of source 'pictures'"),
        ({"source": "pictures", "path": "x", "embeddings": False}, "is of source 'prepared'"),
        ({"source": "prepared", "path": "x", "reuse": 2}, "leave out reuse"),
    ],
)
def test_a_recipe_that_contradicts_itself_says_so(data: dict[str, Any], message: str) -> None:
    table = {"run": {"name": "r", "objective": "base", "steps": 1}, "data": data}
    with pytest.raises(RelayError) as error:
        recipe_from_dict(table)
    assert message in str(error.value)
