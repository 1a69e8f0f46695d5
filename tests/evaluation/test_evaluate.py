"""Whole runs: resumed ones equal uninterrupted ones, changed settings are refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from relay_diffusion.cli import main
from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation import making
from relay_diffusion.evaluation.cascades import CascadePainter
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.instruments import Instruments
from relay_diffusion.evaluation.judge import Judge
from relay_diffusion.evaluation.painters import Where
from relay_diffusion.evaluation.run import Settings, evaluate
from relay_diffusion.evaluation.suites import tasks_suite
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.metadata import read_parameters
from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander
from tests.pipelines.test_chat_model import chat_model
from tests.pipelines.tiny import tiny_cascade

CPU = torch.device("cpu")
TIMES = ("speed",)
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(cascade_folder: Path, judge_folder: Path, atlas: Atlas) -> Run:
    tools = Instruments(CPU, judge=Judge.from_pretrained(judge_folder), atlas=atlas)

    def go(out: Path, seed: int = 0, source: Path = cascade_folder, **options: Any) -> Any:
        entries = [Entry("tiny", str(source), options={"steps": 2, **options})]
        suites = [tasks_suite(World.small(), 3)]
        return evaluate(entries, suites, Settings(2, seed, 2), out, tools)

    return go


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    models = [{k: v for k, v in model.items() if k not in TIMES} for model in result["models"]]
    return {**result, "models": models}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    calls: list[int] = []
    paint = CascadePainter.paint

    def dies_in_the_second_batch(self: CascadePainter, *args: Any) -> list[Image.Image]:
        calls.append(1)
        if len(calls) == 3:  # the first one warms up
            raise KeyboardInterrupt
        return paint(self, *args)

    monkeypatch.setattr(CascadePainter, "paint", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    pictures = tmp_path / "killed" / "pictures" / "tiny" / "tasks"
    assert sorted(file.name for file in pictures.iterdir()) == ["0000_0.png", "0000_1.png"]
    timed = (tmp_path / "killed" / "batches.jsonl").read_text()

    resumed = run(tmp_path / "killed")
    assert len(calls) == 6  # warmed up again, and the two batches that were missing
    assert (tmp_path / "killed" / "batches.jsonl").read_text().startswith(timed)
    assert untimed(resumed) == untimed(whole)
    for file in pictures.iterdir():
        twin = tmp_path / "whole" / "pictures" / "tiny" / "tasks" / file.name
        assert file.read_bytes() == twin.read_bytes()
    assert (tmp_path / "killed" / "grid.png").read_bytes() == (
        tmp_path / "whole" / "grid.png"
    ).read_bytes()

    assert run(tmp_path / "killed") == resumed
    assert len(calls) == 6  # a finished run does not even open the model


def test_a_run_says_what_it_measured(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path)
    (model,) = result["models"]
    assert model["settings"]["steps"] == "2+2"
    assert model["speed"]["batch_size"] == 2 and model["speed"]["peak_bytes"] > 0
    found = model["suites"]["tasks"]
    assert set(found["tasks"]) == {"one subject", "two subjects", "counting"}
    assert {"everything", "background", "style", "count"} <= set(found["questions"])
    assert found["distances"]["num_references"] == found["distances"]["num_pictures"] == 6
    assert [row["seed"] for row in found["pictures"]] == list(range(6))
    assert all(row["verdict"]["background"] for row in found["pictures"])
    assert set(result["truth"]["tasks"]) == {"questions", "tasks"}
    assert json.loads((tmp_path / "scores.json").read_text()) == result
    parameters = read_parameters(tmp_path / found["pictures"][3]["file"])
    assert (parameters.seed, parameters.num_inference_steps) == (3, 2)
    assert parameters.prompt == found["pictures"][3]["prompt"]
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (8 * 66 - 2, 64)


def test_other_settings_in_the_same_folder_are_refused(
    run: Run, cascade_folder: Path, tmp_path: Path
) -> None:
    run(tmp_path / "out")
    with pytest.raises(RelayError, match="model 'tiny' with steps 2, and now it is 3"):
        run(tmp_path / "out", steps=3)
    with pytest.raises(RelayError, match="this run with seed 0"):
        run(tmp_path / "out", seed=1)
    other = shutil.copytree(cascade_folder, tmp_path / "other")
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(RelayError, match="model 'tiny' with weights"):
        run(tmp_path / "out", source=other)


def test_a_model_that_is_no_cascade_ends_the_run_before_it_starts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RelayError, match="is no cascade"):
        run(tmp_path / "out", source=tmp_path / "empty")


def test_the_command_measures_a_cascade_on_held_out_scenes(
    cascade_folder: Path,
    judge_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--model", str(cascade_folder), "--judge", str(judge_folder)]
    command += ["--world", "small", "--num-prompts", "3", "--num", "2", "--size", "64"]
    assert main([*command, "--batch-size", "8", "--out", "run"]) == 0
    said = capsys.readouterr()
    assert "| everything |" in said.out and "report.html" in said.out
    assert "no drawings at runs/atlas.tar" in said.err
    (suite,) = json.loads(Path("run/scores.json").read_text())["models"][0]["suites"].values()
    assert [row["seed"] for row in suite["pictures"]] == list(range(6))
    assert Path("run/grid.png").is_file() and Path("run/report.html").is_file()


def test_two_models_are_told_apart_or_not(
    cascade_folder: Path, judge_folder: Path, tmp_path: Path
) -> None:
    tools = Instruments(CPU, judge=Judge.from_pretrained(judge_folder))
    entries = [Entry(name, str(cascade_folder), options={"steps": 2}) for name in ("one", "again")]
    suites = [tasks_suite(World.small(), 2)]
    result = evaluate(entries, suites, Settings(1, 0, 2), tmp_path, tools)
    one, again = (model["suites"]["tasks"]["differences"] for model in result["models"])
    assert result["against"] == "one" and one == {}
    assert {"facts", "everything"} <= set(again["questions"]) and again["tasks"]
    for found in (*again["questions"].values(), *again["tasks"].values()):
        assert (found["value"], found["word"]) == (0.0, "undecided")
    for name in ("scores.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "tasks: differences from one" in text and "undecided" in text


def test_what_cannot_be_measured_ends_the_run_before_pictures_are_made(
    cascade_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("1.png")
    Path("all.txt").write_text("a fox\n")
    some = ['{"prompt": "a fox", "reference": "1.png"}', '{"prompt": "an owl"}']
    Path("some.jsonl").write_text("\n".join(some))
    Path("scorer.py").write_text("raise SystemExit('no weights here')")
    command = ["evaluate", "--model", str(cascade_folder), "--out", "run", "--suite"]
    for options, line in [
        (["all.txt", "--reference", "all=."], "give --inception inception-2015-12-05.pt"),
        (["some.jsonl"], "1 prompts have no reference picture and others have"),
        (["all.txt", "--scorer", f"x={sys.executable} scorer.py"], "x failed: no weights here"),
    ]:
        assert main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1
        assert not Path("run/pictures").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--suite", "sceens"], "there is no suite or file 'sceens'; did you mean 'scenes'?"),
        (["--reference", "val2014"], "give SUITE=FOLDER"),
        (["--reference", "coco2014=val"], "names 'coco2014', which is no --suite here"),
        (["--scorer", "hps"], "give NAME=COMMAND"),
        (["--judge", "nowhere"], "nowhere is no judge"),
        (["--model", "starter@steps=x"], "which is no number"),
        (["--expander-model", "m"], "--expander-model goes with --expander"),
    ],
)
def test_wrong_input_is_one_line(
    options: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *options]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") <= 2


def test_an_expanded_prompt_is_kept_beside_what_was_typed(tmp_path: Path) -> None:
    tiny_cascade(world="small", expander="scenes", max_tokens=64).save_pretrained(tmp_path)
    entry = Entry.parse(f"{tmp_path}@expand=true,size=64,steps=2")
    painter = CascadePainter(entry, Where(CPU))
    (text,) = painter.expand(["fox mushroom"], [5])
    assert "fox" in text and text != "fox mushroom"
    values, _ = painter.record("fox mushroom", 5, text)
    assert (values["prompt"], values["expanded_prompt"]) == ("fox mushroom", text)
    assert painter.record("fox", 5, "fox").values["expanded_prompt"] is None
    assert painter.resolved["expand"] is True


@pytest.mark.parametrize(
    ("options", "scales"),
    [("", (7.5, 1.5)), (",guidance=3", (3.0, 1.5)), (",guidance=3,relay_guidance=2", (3.0, 2.0))],
)
def test_the_relays_guidance_is_kept(
    options: str, scales: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    plain = RelayPipeline.__call__

    def call(self: RelayPipeline, *args: Any, **kwargs: Any) -> Any:
        asked.update(kwargs)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(RelayPipeline, "__call__", call)
    tiny_cascade(relay_guidance_scale=1.5).save_pretrained(tmp_path)
    painter = CascadePainter(Entry.parse(f"{tmp_path}@size=64,steps=2{options}"), Where(CPU))
    painter.paint(["a fox"], [5])
    for record in (asked, painter.resolved, painter.record("a fox", 5, "a fox").values):
        assert (record["guidance_scale"], record["relay_guidance_scale"]) == scales


def test_with_and_without_expansion_in_one_run(
    cascade_folder: Path, judge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A language model is loaded once for all batches, and no picture's time has it in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    chat_model(tmp_path / "chat")
    now = [0.0]
    monkeypatch.setattr(making, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    opened, opens = [], ChatModelExpander._open

    def counts(self: ChatModelExpander) -> Any:
        if self._opened is None:
            opened.append(self.model)
        return opens(self)

    def answers(self: ChatModelExpander, prompt: str, seed: int) -> str:
        self._open()
        now[0] += 100
        return "a blue fox"

    monkeypatch.setattr(ChatModelExpander, "_open", counts)
    monkeypatch.setattr(ChatModelExpander, "expand", answers)
    paint, painted = CascadePainter.paint, []

    def paints(self: CascadePainter, texts: Sequence[str], seeds: Sequence[int]) -> Any:
        painted.append(list(texts))
        now[0] += 1
        return paint(self, texts, seeds)

    monkeypatch.setattr(CascadePainter, "paint", paints)
    command = ["evaluate", "--model", f"long={cascade_folder}"]
    command += ["--model", f"plain={cascade_folder}@expand=false", "--judge", str(judge_folder)]
    command += ["--expander", "transformers", "--expander-model", "chat", "--size", "64"]
    command += ["--num-prompts", "2", "--num", "1", "--batch-size", "1", "--steps", "2"]
    assert main([*command, "--out", "run"]) == 0
    assert opened == ["chat"]
    assert painted[:3] == [["a blue fox"]] * 3 and ["a blue fox"] not in painted[3:]
    long, plain = json.loads(Path("run/scores.json").read_text())["models"]
    assert long["settings"]["expand"] == "transformers" and not plain["settings"]["expand"]
    assert long["speed"]["expansion_seconds_per_picture"] == 100
    assert plain["speed"]["expansion_seconds_per_picture"] == 0
    assert long["speed"]["seconds_per_picture"] == plain["speed"]["seconds_per_picture"] == 1
    assert "| expansion s/picture |" in Path("run/scores.md").read_text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--expand"], "no expander of its own; name one: scenes, openai, transformers"),
        (["--expander", "gpt"], "there is no expander 'gpt'"),
        (["--expander", "openai"], "RELAY_EXPAND_MODEL"),
        (["--expander", "transformers", "--expander-model", "nowhere"], "nowhere cannot be opened"),
        (["--expander", "transformers", "--expander-model", "mute"], "it has no chat template"),
    ],
)
def test_an_expander_that_cannot_be_had_ends_the_run_before_any_picture(
    cascade_folder: Path,
    judge_folder: Path,
    options: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAY_EXPAND_MODEL", raising=False)
    chat_model(tmp_path / "mute", template=None)
    command = ["evaluate", "--model", f"plain={cascade_folder}@expand=false"]
    command += ["--model", f"long={cascade_folder}", "--num-prompts", "1"]
    assert main([*command, "--judge", str(judge_folder), "--out", "run", *options]) == 2
    error = capsys.readouterr().err.splitlines()
    assert line in error[-1]
    assert not Path("run/pictures").exists()
