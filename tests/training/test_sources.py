"""Descriptions made ahead by workers are those made in line, in order, from any step."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from multiprocessing import active_children
from pathlib import Path

import pytest
from tiny_training import CPU

from relay_diffusion.errors import RelayError
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.sources import Ahead, open_source


@dataclass(frozen=True)
class Numbers:
    """A stream whose description of a step is its number, and whose drawing is its square."""

    def describe(self, step: int, batch_size: int, rows: range | None = None) -> tuple[int, int]:
        return step, batch_size

    def draw(self, described: tuple[int, int]) -> tuple[int, int]:
        return described[0] ** 2, described[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_but_the_waiting(workers: int) -> None:
    ahead = Ahead(Numbers(), workers)  # type: ignore[arg-type]
    steps = [7, 8, 9, 10, 3, 4]  # goes on, and then jumps as a resumed run does
    assert [ahead.batch(step, 4) for step in steps] == [(step**2, 4) for step in steps]


def test_an_error_in_a_worker_is_as_in_line() -> None:
    class Broken(Numbers):
        def describe(
            self, step: int, batch_size: int, rows: range | None = None
        ) -> tuple[int, int]:
            if step == 2:
                raise RelayError("no picture of shard 2 can be read: mend it")
            return super().describe(step, batch_size, rows)

    ahead = Ahead(Broken(), 2)  # type: ignore[arg-type]
    assert [ahead.batch(step, 4) for step in (0, 1)] == [(0, 4), (1, 4)]
    with pytest.raises(RelayError, match=r"^no picture of shard 2 can be read: mend it$"):
        ahead.batch(2, 4)


HELD = """
from relay_diffusion.training.sources import Ahead
from test_sources import Numbers

ahead = Ahead(Numbers(), 2)
ahead.batch(0, 4)
held = [ahead]
held.append(held)  # a circle, as of an error and the frame that it went through
"""


@pytest.mark.slow
def test_workers_that_an_error_holds_do_not_keep_the_process(tmp_path: Path) -> None:
    script = tmp_path / "held.py"
    script.write_text(HELD)
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, str(script)], env=path, timeout=60)
    assert done.returncode == 0


def test_an_atlas_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = replace(Data(), atlas=str(tmp_path / "atlas.tar"))
    with pytest.raises(RelayError, match=r"no sprite atlas at .*atlas.tar"):
        open_source(data, 0, CPU)


def test_workers_go_with_the_stream_that_they_work_for() -> None:
    before = set(active_children())
    ahead = Ahead(Numbers(), 1)  # type: ignore[arg-type]
    ahead.batch(0, 4)
    (worker,) = set(active_children()) - before
    del ahead
    gc.collect()
    worker.join(30)
    assert not worker.is_alive()
