"""The same command again does what is missing, and ends with the same files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.data.prepare.pool import Item
from relay_diffusion.data.prepare.run import prepare
from relay_diffusion.errors import RelayError
from tests.data.drawn import Drawn, encoded, failing_disk, write_folder
from tests.data.prepare.making import (
    InLine,
    Killed,
    contents,
    job,
    left_out,
    made,
    scribble,
    scribbles,
)

SIZES = [(64, 64), (96, 48), (40, 60)]


@pytest.mark.parametrize("stop", [0, 2, 4, 6])
def test_a_killed_run_goes_on_to_the_same_files(
    stop: int, cascade_folder: Path, tmp_path: Path
) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(30, SIZES), "json")
    whole = made(pictures, tmp_path / "whole", cascade_folder)
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        prepare(job(pictures, out, cascade_folder), InLine(stop=stop))
    (out / "shards" / ".00000.tar.dead.new").write_bytes(b"half")
    again = InLine(order=-1)
    assert prepare(job(pictures, out, cascade_folder), again).shards == whole.shards
    assert again.done == 8 - stop  # four ranges, checked and encoded
    assert contents(out) == contents(tmp_path / "whole")
    idle = InLine()
    prepare(job(pictures, out, cascade_folder), idle)
    assert idle.done == 0


def test_what_a_failing_disk_took_comes_in_later(cascade_folder: Path, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(30), "json")
    write_folder(pictures, [Drawn("twin", encoded(scribble(3)), {"long": "a fox"})], "json")
    made(pictures, tmp_path / "whole", cascade_folder)
    out = tmp_path / "out"
    with failing_disk("003.png"):
        made(pictures, out, cascade_folder)
    assert left_out(out) == {"003": ("unreadable", "Input/output error")}
    again = InLine()
    assert prepare(job(pictures, out, cascade_folder), again).left_out == {"duplicate": 1}
    assert again.done == 1 + 2  # the range of 003 is checked, and that of its twin is encoded too
    assert contents(out) == contents(tmp_path / "whole")


class Lossy(InLine):
    """Without a result for one range, as where every worker dies of it."""

    def each(self, *given: Any) -> Iterator[Item]:
        return (result for result in super().each(*given) if result["shard"] != 1)


def test_a_range_that_kills_its_workers_is_named(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(20), "json"), tmp_path / "out"
    with pytest.raises(
        RelayError, match=r"^checking the pictures from 008 to 015 ended the worker 3 times; all"
    ):
        prepare(job(pictures, out, cascade_folder), Lossy())


def test_a_shard_that_was_lost_is_made_again(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(20), "json"), tmp_path / "out"
    made(pictures, out, cascade_folder)
    before = contents(out)
    (out / "shards" / "00001.tar").write_bytes(b"")
    (out / "shards" / "00000.tar").unlink()
    again = InLine()
    prepare(job(pictures, out, cascade_folder), again)
    assert again.done == 2
    assert contents(out) == before
