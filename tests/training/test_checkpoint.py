"""A checkpoint is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from tiny_training import tiny_recipe, train_tiny

from relay_diffusion.errors import RelayError
from relay_diffusion.training.checkpoint import Checkpoints, put_folder


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"step": torch.tensor([step]), "w": torch.full((9,), float(step))}


def save(folder: Path, step: int, keep: int = 1) -> None:
    checkpoints = Checkpoints(folder, keep)
    checkpoints.save(step, tensors(step), "a=1")
    checkpoints.settle()


OWNERS = {"save": safetensors.torch, "fsync": os, "rename": os, "rmtree": shutil}


def die_at(function: str, nth: int) -> None:
    """The process ends, as by SIGKILL, at the ``nth`` call of a function that saving uses."""
    owner, calls = OWNERS[function], iter(range(1, 100))
    original = getattr(owner, function)

    def dies(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == nth:
            os._exit(9)
        return original(*args, **kwargs)

    setattr(owner, function, dies)


@pytest.mark.parametrize(
    ("function", "nth"),
    [
        # Before the new one is in place,
        ("save", 1),
        ("fsync", 1),
        ("fsync", 3),
        ("rename", 1),
        # and after.
        ("fsync", 5),
        ("rename", 2),
        ("rmtree", 1),
        ("rmtree", 2),
    ],
)
def test_killed_while_writing_leaves_a_good_checkpoint(
    function: str, nth: int, tmp_path: Path
) -> None:
    save(tmp_path, 1)
    child = os.fork()
    if child == 0:
        die_at(function, nth)
        save(tmp_path, 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was to die, and did not"
    checkpoints = Checkpoints(tmp_path, keep=1)
    state = tensors(0)
    step = checkpoints.load(state)
    assert step in (1, 2)
    assert torch.equal(state["w"], torch.full((9,), float(step)))
    save(tmp_path, 3)
    assert checkpoints.steps() == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_the_run_may_change_its_tensors_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    checkpoints, state = Checkpoints(tmp_path, keep=1), tensors(1)
    checkpoints.save(1, state, "a=1")
    state["w"].zero_()
    checkpoints.settle()
    assert checkpoints.load(state) == 1
    assert torch.equal(state["w"], torch.ones(9))


def test_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=2)
    assert Checkpoints(tmp_path, 2).steps() == [15, 20]
    assert (tmp_path / "step-00000020" / "recipe.toml").read_text() == "a=1"


class FullDisk:
    """Weights are written to a disk with no room for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        original = safetensors.torch.save

        def save(*args: Any, **kwargs: Any) -> bytes:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **kwargs)

        monkeypatch.setattr(safetensors.torch, "save", save)


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    save(tmp_path, 1)
    disk.full = True
    with pytest.raises(RelayError) as caught:
        save(tmp_path, 2)
    message = str(caught.value)
    assert "step 2 not written" in message
    assert "no space left on the disk" in message
    assert "the one of step 1 stays" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_training_goes_on_after_a_full_disk_unless_it_was_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    train_tiny(tiny_recipe("autoencoder", tmp_path, run={"steps": 2}))
    disk.full = True
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 6})
    with pytest.raises(RelayError, match="step 6 not written"):
        train_tiny(recipe, resume=True)
    assert "step 4 not written" in (recipe.folder / "log.jsonl").read_text()
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [2]


def test_an_export_that_fails_at_the_end_leaves_the_checkpoint_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 2})
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(Path, "write_bytes", Mock(side_effect=full))
        with pytest.raises(RelayError, match=r"export not written \(no space left on the disk\)"):
            train_tiny(recipe)
    assert Checkpoints(recipe.folder / "checkpoints", 2).steps() == [2]
    export = recipe.folder / "export"
    assert not export.exists()
    assert train_tiny(recipe, resume=True)
    assert (export / "vae" / "config.json").is_file()
    # It is there now, and is not written again.
    (export / "mark").touch()
    assert train_tiny(recipe, resume=True)
    assert (export / "mark").exists()


def test_a_folder_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    put_folder(folder, lambda new: (new / "weights").write_text("old"))

    def fails(new: Path) -> None:
        (new / "weights").write_text("half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        put_folder(folder, fails)
    assert (folder / "weights").read_text() == "old"
    put_folder(folder, lambda new: (new / "weights").write_text("new"))
    assert (folder / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


@pytest.mark.parametrize("content", [b"", b"half of it", pickle.dumps(shutil.rmtree)])
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    save(tmp_path, 1)
    (file,) = (tmp_path / "step-00000001").glob("*.safetensors")
    file.write_bytes(content)
    with pytest.raises(RelayError, match="refused"):
        Checkpoints(tmp_path, 1).load(tensors(0))


def test_a_checkpoint_that_was_moved_away_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step, keep=2)
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.path(2).rename(tmp_path / "step-00000002.bad")
    assert checkpoints.steps() == [1]
    assert checkpoints.load(tensors(0)) == 1


def test_a_checkpoint_of_other_tensors_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for wrong in ({"w": torch.zeros(9)}, {**tensors(0), "w": torch.zeros(8)}):
        with pytest.raises(RelayError, match="does not fit"):
            Checkpoints(tmp_path, 1).load(wrong)
