"""Scorers as commands, and the adapters' way of saying what is missing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import relay_diffusion
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.scorers import adapter, hps
from relay_diffusion.evaluation.scorers.command import Scorer
from relay_diffusion.evaluation.scorers.packaged import ADAPTERS

LENGTH = """
import json, sys
rows = [json.loads(line) for line in (open(sys.argv[1]) if sys.argv[1:] else sys.stdin)]
print("loading weights ...")
print(json.dumps({"scorer": "length", "version": "1"}))
for row in reversed(rows):
    print(json.dumps({"path": row["path"], "score": len(row["prompt"])}))
"""
TEXT = "sys.stdin.read().splitlines()"  # as many scorers read it
ROWS = [{"prompt": "a fox", "path": "0.png"}, {"prompt": "an owl", "path": "1.png"}]


@pytest.fixture
def length(tmp_path: Path) -> Path:
    file = tmp_path / "length.py"
    file.write_text(LENGTH)
    return file


@pytest.mark.parametrize("form", ["{python} {file}", "{python} {file} {{}}"])
def test_a_command_scores_from_standard_input_or_a_file(form: str, length: Path) -> None:
    command = form.format(python=sys.executable, file=length)
    scores = Scorer.parse(f"length={command}").score(ROWS)
    assert scores.values == [5.0, 6.0]
    assert scores.version == "length 1"


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("import sys; sys.exit('no weights here')", "failed: no weights here"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("print('{}')", "left out 2 pictures"),
    ],
)
def test_a_command_that_fails_is_quoted(code: str, match: str) -> None:
    with pytest.raises(RelayError, match=match):
        Scorer("broken", f'{sys.executable} -c "{code}"').score(ROWS)


def test_odd_breaks_in_a_prompt_are_no_lines(length: Path) -> None:
    length.write_text(LENGTH.replace("(open(sys.argv[1]) if sys.argv[1:] else sys.stdin)", TEXT))
    rows = [{"prompt": "a\u2028b", "path": "\x85.png"}]
    assert Scorer("length", f"{sys.executable} {length}").score(rows).values == [3.0]


def test_a_score_that_is_no_number_is_refused(length: Path) -> None:
    length.write_text(LENGTH.replace('len(row["prompt"])', 'float("nan")'))
    with pytest.raises(RelayError, match="gave no number for 2 pictures"):
        Scorer("length", f"{sys.executable} {length}").score(ROWS)


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(RelayError, match="NAME=COMMAND"):
        Scorer.parse("imagereward")
    with pytest.raises(RelayError, match="cannot be started"):
        Scorer("x", "no-such-command-anywhere").score(ROWS)


@pytest.mark.parametrize("names", [["hps", "hps"], ["clip"], ["length", "facts"]])
def test_two_measures_of_one_name_are_refused(names: list[str]) -> None:
    Scorer.check_names(["hps", "hps2"], {"clip", "facts"})
    with pytest.raises(RelayError, match="give the scorer another name"):
        Scorer.check_names(names, {"clip", "facts"})


def test_odd_bytes_of_libraries_cost_no_score(length: Path) -> None:
    noise = "import os\nfor file in (1, 2): os.write(file, b'caf\\xe9\\n')\n"
    length.write_text(noise + LENGTH)
    assert Scorer("length", f"{sys.executable} {length}").score(ROWS).values == [5.0, 6.0]


@pytest.mark.parametrize(
    ("name", "install"), [("imagereward", "pip install image-reward"), ("hps", "pip install hpsv2")]
)
def test_an_adapter_without_its_package_says_in_one_line_what_to_install(
    name: str, install: str, tmp_path: Path
) -> None:
    file = tmp_path / "pictures.jsonl"
    file.write_text(json.dumps(ROWS[0]))
    # Only the standard library and this package, as in an environment made for another one.
    source = str(Path(relay_diffusion.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {source!r}); import runpy; "
        f"sys.argv[1:] = [{str(file)!r}]; "
        f"runpy.run_module('relay_diffusion.evaluation.scorers.{name}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and install in done.stderr


def test_hps_is_called_once_for_all_pictures_of_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call reads the weights anew."""
    calls: list[tuple[list[str], str, str]] = []

    def score(paths: list[str], prompt: str, hps_version: str) -> list[float]:
        calls.append((paths, prompt, hps_version))
        return [len(path) / 8 for path in paths]

    monkeypatch.setitem(sys.modules, "hpsv2", SimpleNamespace(score=score))
    monkeypatch.setattr(hps.metadata, "version", lambda name: "1.2")
    file = tmp_path / "pictures.jsonl"
    rows = [("a fox", "1"), ("a fox", "22"), ("an owl", "333")]
    file.write_text("\n".join(json.dumps({"prompt": p, "path": path}) for p, path in rows))
    arguments = [str(file), "--hps-version", "v2.1"]
    assert adapter.run("hps", hps.load, "nothing", hps.OPTIONS, arguments) == 0
    assert calls == [(["1", "22"], "a fox", "v2.1"), (["333"], "an owl", "v2.1")]
    _, *lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["score"] for line in lines] == [1 / 8, 2 / 8, 3 / 8]
    with pytest.raises(SystemExit):  # it would not be heeded
        adapter.run("hps", hps.load, "nothing", hps.OPTIONS, [*arguments, "--device", "cpu"])


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """The Python of an environment that holds packages named as ImageReward's are, and not ours."""
    packages = tmp_path / "env" / "packages"
    packages.mkdir(parents=True)
    (packages / "ImageReward.py").write_text(
        "class Model:\n"
        "    def score(self, prompt, path):\n"
        "        return len(prompt) / 2\n"
        "def load(name, device):\n"
        "    import sys, relay_diffusion\n"
        "    assert not any('site-packages' in path for path in sys.path), sys.path\n"
        "    assert not open(relay_diffusion.__file__).read()\n"
        "    return Model()\n"
    )
    (packages / "torch.py").write_text("class cuda:\n    is_available = staticmethod(bool)\n")
    # An older copy of this package, as where it is installed beside the scorer.
    (packages / "relay_diffusion").mkdir()
    (packages / "relay_diffusion" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (packages / "image_reward-1.5.dist-info").mkdir()
    (packages / "image_reward-1.5.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: image-reward\nVersion: 1.5\n"
    )
    python = tmp_path / "env" / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec {sys.executable} -S "$@"\n'
    )
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    "form",
    ["{0}", "{0} --device cpu", "{0} -m relay_diffusion.evaluation.scorers.imagereward {{}}"],
)
def test_an_adapter_runs_in_another_environment(
    form: str, other_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    scorer = Scorer.parse(f"imagereward={form.format(other_python)}")
    scorer.probe()
    scores = scorer.score(ROWS)
    assert scores.values == [2.5, 3.0]
    assert scores.version == "imagereward 1.5, ImageReward-v1.0"


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_needs_nothing_of_this_package_but_what_it_gets(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(RelayError, match=r"No module named.*in this environment: pip install") as e:
        Scorer.parse(f"{name}={python}").probe()
    assert "relay_diffusion" not in str(e.value) and "\n" not in str(e.value)
    assert "before any picture is made" in str(e.value)


def test_a_python_alone_is_for_adapters() -> None:
    with pytest.raises(RelayError, match="packaged aesthetic, hps, imagereward, pickscore"):
        Scorer.parse("imagereword=envs/ir/bin/python3.11")
    with pytest.raises(RelayError, match="No closing quotation"):
        Scorer.parse("mine='python score.py")
    assert Scorer.parse("mine=python score.py").command == "python score.py"
    for name in ("hps", "hps-v2.1"):
        assert Scorer.parse(f"{name}=envs/hps/bin/python --hps-version v2.1").command == (
            "envs/hps/bin/python -m relay_diffusion.evaluation.scorers.hps --hps-version v2.1"
        )


def test_an_adapter_writes_its_version_and_a_score_for_each_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pictures.jsonl"
    rows = [{"prompt": "a" * n, "path": f"{n}.png"} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))

    def load(args: argparse.Namespace) -> adapter.Loaded:
        return adapter.Loaded(lambda prompts, paths: [len(p) * args.times for p in prompts], "2.1")

    options = {"--times": {"type": int, "default": 1}}
    assert adapter.run("length", load, "nothing", options, [str(file), "--times", "3"]) == 0
    header, *lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert header == {"scorer": "length", "version": "2.1"}
    assert [line["score"] for line in lines] == [3.0 * n for n in range(20)]
    assert adapter.run("length", load, "nothing", None, [str(tmp_path / "none")]) == 2
    file.write_text('{"prompt": "a"}')
    assert adapter.run("length", load, "nothing", options, [str(file)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "length: line 1 has no prompt and path"
