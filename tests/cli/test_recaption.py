"""``relay recaption`` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion import cli
from tests.chat_server import Server
from tests.data.drawn import drawn, write_folder
from tests.data.recaption.conftest import _own_cache_and_no_variables, described, server

__all__ = ["_own_cache_and_no_variables", "server"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", drawn(4))


def test_all_options_work_together(
    data: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instruction = tmp_path / "instruction.txt"
    instruction.write_text("Count the ramps.")
    options = f"""
        --model m --base-url {server.url} --field detailed --instruction {instruction} --num 3
        --side 48 --max-tokens 90 --min-words 5 --max-words 90 --parallel 2 --retries 1
        --requests-per-minute 60000 --timeout 5 --price-in 2 --price-out 8 --budget 1
        --journal {tmp_path / "journal.jsonl"}"""
    assert cli.main(["recaption", str(data), *options.split()]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 pictures: 0 have the caption, 3 to be asked about of 4 that lack it",
        "3,000 tokens read, 300 written, cost 0.0084",
        f"3 captions written as detailed to {data / 'captions.jsonl'}",
    ]
    assert server.requests[0]["max_tokens"] == 90
    assert server.requests[0]["messages"][0]["content"][0]["text"] == "Count the ramps."
    assert described("a picture") in (data / "captions.jsonl").read_text()
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3


def test_a_dry_run_needs_neither_server_nor_model(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recaption", str(data), "--dry-run"]) == 0
    assert "4 pictures: 0 have the caption, 4 to be asked about" in capsys.readouterr().out
    assert not list(data.glob(".recaption*"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("", "no model is named to describe pictures with: give --model, or set RELAY_RECAPTION_M"),
        ("--model m", "no endpoint to describe pictures with: set RELAY_RECAPTION_BASE_URL"),
        ("--model m --base-url http://127.0.0.1:9/v1", "there is no server at http://127.0.0.1:9"),
        ("--backend transformers", "no model is named to describe pictures with: give --model a"),
        ("--field caption", "--field 'caption' cannot be a new caption"),
        ("--field file_name", "--field 'file_name' cannot be a new caption"),
        ("--original alt", "no picture has a caption 'alt' to go along, only caption"),
        ("--min-words 9 --max-words 8", "--min-words 9 is above --max-words 8"),
        ("--budget 3", "give both --price-in and --price-out"),
        ("--price-in 3", "give both --price-in and --price-out"),
        ("--instruction nowhere.txt", "cannot read the instruction nowhere.txt"),
    ],
)
def test_what_cannot_work_is_one_line(
    options: str, complaint: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--original" in options:
        options += " --dry-run"
    assert cli.main(["recaption", str(data), *options.split()]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"relay: {complaint}")
    assert not (data / "captions.jsonl").exists()


def test_a_wrong_key_is_one_line(
    data: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.models = 401
    assert cli.main(["recaption", str(data), "--model", "m", "--base-url", server.url]) == 2
    error = capsys.readouterr().err
    assert "does not take the key" in error
    assert "set RELAY_RECAPTION_API_KEY" in error
    assert server.requests == []
