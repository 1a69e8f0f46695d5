"""Training on a folder of pictures: it runs, resumes exactly, and says what is wrong with it."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, newest_state, tiny_recipe

from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.recipe import Recipe, recipe_from_dict
from relay_diffusion.training.run import run
from relay_diffusion.training.sources import open_source, open_tokenizer, reader
from tests.data.drawn import drawn, write_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_folder(tmp_path / "data", drawn(12))


def recipe_of(folder: Path, out: Path, steps: int) -> Recipe:
    return tiny_recipe(
        "autoencoder",
        out,
        run={"steps": steps, "device": "cpu"},
        data={
            "source": "pictures",
            "path": str(folder),
            "views": [{"size": 64}],
            "held_out": 0.2,
        },
        validation={"every": 2, "num_pictures": 2, "sizes": [32]},
    )


def weights(recipe: Recipe) -> dict[str, Any]:
    state = newest_state(recipe)
    assert state["step"] == recipe.run.steps
    return {name: value for name, value in state.items() if name.startswith("weights.vae.")}


def test_three_steps_and_three_more_equal_six(folder: Path, tmp_path: Path) -> None:
    whole = recipe_of(folder, tmp_path / "whole", 6)
    assert run(whole)
    halves = recipe_of(folder, tmp_path / "halves", 3)
    assert run(halves)
    longer = replace(halves, run=replace(halves.run, steps=6))
    assert run(longer, resume=True)
    first, second = weights(whole), weights(longer)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_preview_of_an_autoencoder_is_of_one_shape(folder: Path, tmp_path: Path) -> None:
    """More pictures are shown than are in a batch, and each batch is of a bucket of its own."""
    recipe = recipe_of(folder, tmp_path, 1)
    small = replace(recipe.data, batch_size=2)
    many = replace(recipe.preview, every=1, num_pictures=8)
    assert run(replace(recipe, data=small, preview=many))
    assert list((tmp_path / "autoencoder" / "samples").iterdir())


def test_workers_make_the_same_batches(folder: Path) -> None:
    cut = folder / "part1" / "001.png"
    cut.write_bytes(cut.read_bytes()[:90])
    data = replace(Data(), source="pictures", path=str(folder), views=(View(32),))
    streams = [
        open_source(replace(data, workers=workers), 3, CPU)("train", data.views)
        for workers in (0, 2)
    ]
    for step in (0, 1, 2, 3, 9):
        inline, ahead = (stream.batch(step, 4) for stream in streams)
        assert torch.equal(inline.x, ahead.x)
        assert torch.equal(inline.time_ids, ahead.time_ids)
        assert inline.captions == ahead.captions
    inside = streams[1].stream  # type: ignore[attr-defined]
    assert inside.bad.keys() == streams[0].bad.keys() == {"part1/001"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "pictures"}, "path is empty, must be a folder"),
        ({"path": "data"}, "path is of source 'pictures', and source is 'scenes'"),
        ({"captions": {"a": 1.0}}, "captions is of source 'pictures'"),
        ({"source": "pictures", "path": "x", "atlas": "a"}, "atlas is of source 'scenes'"),
        ({"source": "pictures", "path": "x", "held_out": 1.0}, "held_out is 1.0, must be between"),
        ({"source": "pictures", "path": "x", "captions": {"a": -1.0}}, "captions has weights"),
        ({"source": "pictures", "path": "x", "views": [{"size": 100}]}, "size is 100, must be a"),
        ({"source": "pictures", "path": "x", "max_aspect": 0.5}, "max_aspect is 0.5, must be at"),
        ({"source": "pictures", "path": "x", "reuse": 2}, "set max_aspect = 1"),
        ({"source": "pictures", "path": "x", "mutliple": 64}, "did you mean multiple?"),
    ],
)
def test_a_recipe_that_contradicts_itself_says_so(data: dict[str, Any], message: str) -> None:
    table = {"run": {"name": "r", "objective": "base", "steps": 1}, "data": data}
    with pytest.raises(RelayError) as error:
        recipe_from_dict(table)
    assert message in str(error.value)


def test_pictures_have_no_tokenizer_of_their_own() -> None:
    data = {"source": "pictures", "path": "x"}
    table = {"run": {"name": "r", "objective": "base", "steps": 1}, "data": data}
    with pytest.raises(RelayError, match=r"model\.tokenizer is empty"):
        open_tokenizer(recipe_from_dict(table))


@pytest.mark.parametrize(
    ("caption", "warned"),
    [
        ("a red fox above a mushroom, pixel art", False),
        ("a weathered trawler moored beside crumbling quays", True),
        ("a red fox " * 30, True),
    ],
    ids=["read", "unknown", "cut"],
)
def test_captions_that_cannot_be_read_are_not_trained_on_in_silence(
    caption: str, warned: bool, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in folder.rglob("*.txt"):
        file.write_text(caption)
    recipe = tiny_recipe(
        "base",
        tmp_path / "out",
        data={"source": "pictures", "path": str(folder), "views": [{"size": 64}]},
        model={"max_tokens": 64},
    )
    with caplog.at_level(logging.WARNING):
        open_source(recipe.data, 0, CPU, read=reader(build_tokenizer(), recipe.model.max_tokens))
    lines = [line for line in caplog.messages if "unknown words are all one" in line]
    assert len(lines) == warned


def test_a_missing_pyarrow_is_named(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    data = replace(Data(), source="pictures", path=str(tmp_path / "rows.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RelayError, match=r"needs pyarrow: pip install 'relay-diffusion\[data\]'"):
        open_source(data, 0, CPU)
