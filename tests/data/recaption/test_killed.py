"""Runs that are killed or stopped half-way, as processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion import cli
from relay_diffusion.data.pictures.opening import open_records
from tests.chat_server import Server
from tests.data.drawn import drawn, write_folder, write_parquet, write_shards
from tests.data.recaption.conftest import described

NUM, PARALLEL = 24, 3


def answer(request: dict[str, Any]) -> tuple[int, str]:
    *_, original = request["messages"][0]["content"]
    return 200, described(original["text"].removeprefix("Original caption: "))


def arguments(data: Path, server: Server) -> list[str]:
    options = f"--model m --base-url {server.url} --parallel {PARALLEL} --min-words 5"
    return ["recaption", str(data), *options.split()]


def start(data: Path, server: Server) -> subprocess.Popen[str]:
    """A run that has a third of its answers."""
    server.reply, server.delay = answer, 0.02
    code = "import sys; from relay_diffusion.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments(data, server)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    deadline = time.monotonic() + 60
    while len(server.requests) < NUM // 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def journal_lines(data: Path) -> list[str]:
    path = next(data.glob(".recaption.long.jsonl"))
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("write", [write_folder, write_shards, write_parquet])
def test_a_killed_run_goes_on_and_every_picture_is_described_once(
    write: Any, tmp_path: Path, server: Server
) -> None:
    if write is write_parquet:
        pytest.importorskip("pyarrow")
    data = write(tmp_path / "data", drawn(NUM))
    with start(data, server) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    num_before = len(server.requests)
    assert num_before < NUM
    server.delay = 0.0
    assert cli.main(arguments(data, server)) == 0
    assert len(server.requests) <= NUM + PARALLEL  # again only what was under way
    records = open_records(str(data))
    captions = [records.texts(i).captions for i in range(len(records))]
    assert len(captions) == NUM
    assert all(both["long"] == described(both["caption"]) for both in captions)
    names = [json.loads(line)["name"] for line in journal_lines(data)]
    files = [json.loads(line)["file"] for line in journal_lines(data)]
    assert len(set(zip(files, names, strict=True))) == len(names) == NUM


def test_a_stopped_run_takes_what_is_under_way_and_says_how_to_go_on(
    tmp_path: Path, server: Server
) -> None:
    data = write_folder(tmp_path / "data", drawn(NUM))
    with start(data, server) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: all answers are kept in" in out
    assert "Traceback" not in err
    assert len(journal_lines(data)) == len(server.requests) < NUM
    assert not (data / "captions.jsonl").exists()
    assert cli.main(arguments(data, server)) == 0
    assert len(server.requests) == NUM
    assert len((data / "captions.jsonl").read_text().splitlines()) == NUM
