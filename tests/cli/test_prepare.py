"""``relay prepare`` as users meet it; with Ray, where a worker and the whole run are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay_diffusion.cli import main
from tests.data.drawn import write_folder
from tests.data.prepare.making import contents, made, scribbles


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "/nowhere; data.path is a folder of pictures"),
        (["nowhere", "--model", "startre"], "no cascade or folder 'startre'; did you mean"),
        (["nowhere", "--size", "100"], "relay: size is 100, must be a multiple of 8"),
        (["nowhere", "--blocked-words", "nofile"], "relay: cannot read nofile, which must be"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert line in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def command(pictures: Path, out: Path, cascade: Path) -> list[str]:
    options = ["--size", "64", "--shard-size", "8", "--batch-size", "4", "--workers", "2"]
    code = "import sys; from relay_diffusion.cli import main; sys.exit(main())"
    arguments = ["prepare", str(pictures), "--out", str(out), "--model", str(cascade), *options]
    return [sys.executable, "-c", code, *arguments]


def workers_of(parent: int) -> list[int]:
    """Processes below ``parent`` in which Ray keeps a worker that maps."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()[1:]]
    family = {parent}
    for _ in range(5):
        family |= {int(pid) for pid, ppid, _ in rows if int(ppid) in family}
    return [int(pid) for pid, _, name in rows if int(pid) in family and "MapWorker" in name]


@pytest.mark.long
@pytest.mark.parametrize("whom", ["worker", "all"])
def test_a_kill_changes_nothing(whom: str, cascade_folder: Path, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(120), "json")
    made(pictures, tmp_path / "whole", cascade_folder)
    out = tmp_path / "out"
    started = subprocess.Popen(
        command(pictures, out, cascade_folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list((out / "shards").glob("*.json"))) < 3:
        time.sleep(0.02)
    victims = workers_of(started.pid) if whom == "worker" else [started.pid]
    os.kill(victims[0], signal.SIGKILL)
    started.communicate(timeout=120)
    if whom == "worker":
        assert started.returncode == 0
    else:
        assert not (out / "manifest.json").exists()
        again = command(pictures, out, cascade_folder)
        done = subprocess.run(again, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{out}: 120 of 120 pictures in 15 shards, 0.00 GB\n")
        assert "as " in done.stdout and "25.0% of tokens unknown" in done.stdout
    ours, theirs = contents(out), contents(tmp_path / "whole")
    assert {name for name in ours if name.endswith(".tar")} == {
        name for name in theirs if name.endswith(".tar")
    }
    shards = [name for name in theirs if name.startswith("shards")]
    assert all(ours[name] == theirs[name] for name in shards)
