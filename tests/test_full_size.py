"""benchmarks/full_size.py, with tiny networks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "full_size.py"
SAMPLED = ["128x128"] * 2 + ["256x256"] * 2 + ["128x128", "256x256", "128x128"]
TRAINED = ["full_base_256", "full_base_512", "full_relay_1024", "full_relay"]


def printed(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments]
    # A thread, since tests beside this one have the other cores, and threads that wait spin.
    small = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=small, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_row_of_both_tables_is_measured() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed("--tiny").splitlines()
        if line.startswith("|")
    ]
    sampled, trained = (
        [row for row in rows if len(row) == cells and row[0] and "-" not in row[0]][1:]
        for cells in (4, 7)
    )
    assert [row[0] for row in sampled] == SAMPLED
    assert [row[1] for row in sampled] == [
        *["50 + 10", "25 + 5"] * 2,
        *["4 + 1"] * 2,
        "SDXL's size, 50",
    ]
    assert [row[0] for row in trained] == TRAINED
    for row in trained:
        samples, at_a_time = row.pop(2).split()
        assert int(samples) >= int(at_a_time.strip("()")) > 0
    for row in (*sampled, *trained):
        assert all(float(cell) > 0 for cell in row[2:] if cell != "peak unknown"), row


@pytest.mark.slow
def test_one_recipe_is_trained() -> None:
    lines = printed("--tiny", "--only", "training", "--recipe", "full_relay").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("| full")] == ["full_relay"]


@pytest.mark.slow
def test_without_a_gpu_it_says_so() -> None:
    assert printed().startswith("not run: torch finds no CUDA GPU here")
