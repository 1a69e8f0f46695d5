"""Files that one process at a time works on, and what is left of those that died."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.files import files_below, sweep
from relay_diffusion.locks import alone_in, lock, one_at_a_time


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    inside, beside = tmp_path / "set" / "inside", tmp_path / "beside"
    for folder in (inside, beside, tmp_path / "set" / ".hidden"):
        folder.mkdir(parents=True)
        (folder / "a").touch()
    (tmp_path / "set" / "z").touch()
    (inside / "up").symlink_to(tmp_path / "set")
    (beside / "back").symlink_to(tmp_path)
    for name in ("linked", "twice"):
        (tmp_path / "set" / name).symlink_to(beside)
    (tmp_path / "set" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "set" / "itself").symlink_to(tmp_path / "set" / "itself")
    found = [file.relative_to(tmp_path).as_posix() for file in files_below(tmp_path / "set")]
    # All that linked/back leads to lies on the way to it.
    names = ["gone", "itself", "z", "inside/a", "linked/a", "twice/a"]
    assert found == [f"set/{name}" for name in names]


def test_where_files_cannot_be_locked_it_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with (tmp_path / "journal").open("w") as file:
        lock(file, "another is at work")
    with one_at_a_time(tmp_path / "lock"):
        pass
    assert [line.partition(" (")[0] for line in caplog.messages] == [
        f"{tmp_path / name} cannot be locked" for name in ("journal", "lock")
    ]


def test_leftovers_of_the_dead_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".00000.tar.dead.new").write_bytes(b"half")
    (tmp_path / "00001.tar").write_bytes(b"whole")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["00001.tar"]


def test_a_forked_process_does_not_hold_the_lock_of_its_parent(tmp_path: Path) -> None:
    """Workers of a data loader may outlive the run that forked them, when that is killed."""
    forks = get_context("fork")
    begun = forks.Event()

    def work() -> None:
        begun.set()
        time.sleep(60)

    with alone_in(tmp_path, "taken"):
        worker = forks.Process(target=work)
        worker.start()
        assert begun.wait(10)
    try:
        with alone_in(tmp_path, "taken"), pytest.raises(RelayError, match="taken"):
            alone_in(tmp_path, "taken").__enter__()
    finally:
        worker.kill()
        worker.join()
