"""A small SDXL and a small CogView3-Plus beside a cascade, in one run."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.cli import main
from relay_diffusion.evaluation import making, peers
from relay_diffusion.evaluation.peers import Peer
from relay_diffusion.pipelines.metadata import read_record
from tests.evaluation.tiny_peers import save_cogview3_plus, save_sdxl


@pytest.fixture
def compare(cascade_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of the cascade and of peers on two prompts."""
    prompts = tmp_path / "mine.txt"
    prompts.write_text("a red fox\na blue mushroom\n")
    (tmp_path / "length.py").write_text(
        "import json, sys\n"
        "for row in map(json.loads, sys.stdin):\n"
        "    print(json.dumps({'path': row['path'], 'score': len(row['prompt'])}))\n"
    )
    monkeypatch.chdir(tmp_path)

    def go(*peers: str, out: str = "run") -> dict[str, Any]:
        command = ["evaluate", "--model", f"tiny={cascade_folder}", "--suite", str(prompts)]
        command += ["--size", "64", "--num", "1", "--batch-size", "2", "--out", out]
        command += ["--scorer", f"length={sys.executable} length.py"]
        for peer in peers:
            command += ["--peer", peer]
        assert main(command) == 0
        result: dict[str, Any] = json.loads(Path(out, "scores.json").read_text())
        return result

    return go


def test_peers_are_compared_beside_a_cascade(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"num_inference_steps": 2, "height": 32, "width": 32}
    folder = save_cogview3_plus(tmp_path / "cogview3-plus")
    known = Peer(str(folder), {**small, "guidance_scale": 7.0}, class_name="CogView3PlusPipeline")
    monkeypatch.setitem(peers.PEERS, "cogview3-plus", known)
    sdxl = save_sdxl(tmp_path / "my-sdxl")
    result = compare(
        f"{sdxl}:StableDiffusionXLPipeline@steps=3,size=32", "cogview3-plus", "no/such-model"
    )
    assert [model["label"] for model in result["models"]] == [
        "tiny",
        "my-sdxl steps=3 size=32",
        "cogview3-plus",
    ]
    assert [model["settings"]["steps"] for model in result["models"]] == ["3+2", "3", "2"]
    assert [skipped["what"] for skipped in result["skipped"]] == ["such-model"]
    assert result["scorers"]["length"]["version"] == "unknown"
    for model in result["models"]:
        found = model["suites"]["mine"]
        assert found["scores"]["length"]["value"] == 12.0
        record = read_record(Path("run", found["pictures"][1]["file"]))
        assert record is not None
        assert (record["prompt"], record["seed"]) == ("a blue mushroom", 1)
    page = Path("run/report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 6 and "Left out" in page


def test_a_peer_too_large_or_broken_is_left_out_and_named(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    huge = tmp_path / "huge"
    huge.mkdir()
    (huge / "model_index.json").write_text("{}")
    monkeypatch.setattr(
        peers, "num_parameters", lambda folder, variant: 10**15 if folder.name == "huge" else 1
    )
    result = compare(str(broken), str(huge), f"odd={broken}:NoSuchPipeline")
    assert [model["label"] for model in result["models"]] == ["tiny"]
    why = {skipped["what"]: skipped["why"] for skipped in result["skipped"]}
    assert "cannot be opened" in why["broken"] and "GB are free" in why["huge"]
    assert "diffusers has no NoSuchPipeline" in why["odd"]


def test_a_full_disk_is_no_fault_of_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("a red fox\n")
    monkeypatch.setattr(making, "save_picture", full)
    command = ["evaluate", "--peer", f"{save_sdxl(tmp_path / 'sdxl')}@steps=1,size=32"]
    assert main([*command, "--suite", "mine.txt", "--num", "1"]) == 2
    error = capsys.readouterr().err
    assert "evaluation cannot be written to (No space left on device)" in error
    assert "left out" not in error
