"""Two runs do not share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import Squares, tiny_objective, tiny_recipe

from relay_diffusion.errors import RelayError
from relay_diffusion.training.alone import alone_in
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.run import run


def test_a_folder_in_which_a_run_is_at_work_is_refused_until_it_ends(tmp_path: Path) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 1})
    with (
        alone_in(recipe.folder),
        pytest.raises(RelayError, match=r"another run is at work in .*autoencoder: wait for it"),
    ):
        run(recipe, source=Squares, make=lambda *_: pytest.fail("it was begun"))
    assert run(recipe, source=Squares, make=lambda *_: tiny_objective(recipe))
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RelayError, match=r"cannot write to .*file: File exists"),
        alone_in(tmp_path / "file"),
    ):
        pytest.fail("it was begun")
