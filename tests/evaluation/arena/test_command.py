from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from relay_diffusion import cli
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import plain_folder, relay_folder, some_pairs, vote


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Takes the place of the server: the app that was to run, and its address."""
    seen: list[Any] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        seen.extend([server.config.app, sockets[0].getsockname()])
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return seen


def test_the_command_serves_the_pairs_and_says_where(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = relay_folder(tmp_path / "ours", ["a fox", "an owl", "a key"])
    theirs = plain_folder(tmp_path / "theirs", ["a fox.png", "an-owl.jpg"], size=(8, 16))
    db = tmp_path / "votes.sqlite"
    arguments = ["arena", str(ours), str(theirs), "--db", str(db), "--port", "0", "--pairs", "1"]
    assert cli.main(arguments) == 0
    app, (host, port) = served
    assert host == "127.0.0.1"
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "ours has, theirs has not, skipped: a key",
        "2 of 2 pairs differ in size: shown at the same height",
        f"1 of 2 pairs; votes go to {db}",
    ]
    assert out[3].startswith(f"http://127.0.0.1:{port} ")
    here = [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]
    for address, status in [*((name, 200) for name in here), ("http://rebound.example", 400)]:
        assert TestClient(app, base_url=address).get("/").status_code == status


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "any.name"), ("::1", "[::1]")])
def test_other_machines_may_come_by_any_name(
    host: str, address: str, tmp_path: Path, served: list[Any]
) -> None:
    folders = [str(plain_folder(tmp_path / name, ["a fox.png"])) for name in ("one", "two")]
    db = str(tmp_path / "votes.sqlite")
    assert cli.main(["arena", *folders, "--db", db, "--port", "0", "--host", host]) == 0
    assert TestClient(served[0], base_url=f"http://{address}:8765").get("/").status_code == 200


def test_the_command_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    vote(store, pairs[0], "beauty", "ours", "anna")
    arguments = ["arena", "--report", str(tmp_path / "out"), "--db", str(store.path)]
    assert cli.main(arguments) == 0
    for line in capsys.readouterr().out.splitlines():
        assert Path(line).is_file()


def test_wrong_usage_is_one_line(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(plain_folder(tmp_path / name, ["a fox.png"])) for name in ("one", "two")]
    db = ["--db", str(tmp_path / "votes.sqlite")]
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    for arguments, complaint in [
        ([], "no folders of pictures: name two or more"),
        ([*folders, "--report", str(tmp_path)], "give folders to vote on, or --report DIR"),
        (["--report", str(tmp_path)], "there are no votes in"),
        ([*folders, "--port", port], "choose others with --host and --port"),
        ([*folders, "--pairs", "0"], "See relay arena --help"),
    ]:
        assert cli.main(["arena", *arguments, *db]) == 2
        err = capsys.readouterr().err
        assert complaint in err
        assert err.count("\n") == 1
    assert not served
    taken.close()


def test_help_and_voting_load_neither_torch_nor_the_libraries_of_the_report() -> None:
    code = (
        "import sys; from relay_diffusion.cli import main\n"
        "assert main(['arena', '--help']) == 0\n"
        "assert not {'fastapi', 'sqlalchemy', 'jinja2', 'evalica'} & set(sys.modules)\n"
        "import relay_diffusion.evaluation.arena.app\n"
        "assert not {'torch', 'pandas', 'evalica'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
