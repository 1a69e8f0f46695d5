"""Pictures of expanded prompts: through the pipeline, and through ``relay generate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from relay_diffusion.cli import main
from relay_diffusion.data.scenes.words import MAX_TOKENS, build_tokenizer
from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.metadata import read_parameters
from relay_diffusion.pipelines.prompts import ExpansionError
from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander

from .tiny import generators, tiny_cascade

PROMPT = "fox over mushroom"


class Numbered:
    """Says prompt and seed, so that it can be seen who was asked for what."""

    def expand(self, prompt: str, seed: int) -> str:
        return f"a red {prompt} {seed}"


class Down:
    def expand(self, prompt: str, seed: int) -> str:
        raise ExpansionError("the server is down")


@pytest.fixture(scope="module")
def scenes_cascade() -> RelayPipeline:
    """A tiny cascade that knows the words of the scene world, as the starter does."""
    pipe = tiny_cascade(expander="scenes", world="small", max_tokens=MAX_TOKENS)
    pipe.tokenizer = build_tokenizer()
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    return pipe


@pytest.fixture(scope="module")
def scenes_folder(scenes_cascade: RelayPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "cascade"
    scenes_cascade.save_pretrained(folder)
    return folder


def test_the_pipeline_makes_the_picture_of_the_long_form(scenes_cascade: RelayPipeline) -> None:
    out = scenes_cascade(PROMPT, expand=True, generator=generators(3), output_type="np")
    (text,) = out.prompts
    assert "fox" in text and "mushroom" in text and text != PROMPT
    plain = scenes_cascade(text, generator=generators(3), output_type="np")
    assert np.array_equal(out.images, plain.images) and plain.prompts is None


def test_each_picture_has_the_text_of_its_own_seed(cascade: RelayPipeline) -> None:
    options: dict[str, Any] = {"expand": Numbered(), "output_type": "np"}
    together = cascade(
        ["fox", "mushroom"],
        negative_prompt=["a", "art"],
        num_images_per_prompt=2,
        generator=generators(4, 5, 6, 7),
        **options,
    )
    assert together.prompts == [
        "a red fox 4",
        "a red fox 5",
        "a red mushroom 6",
        "a red mushroom 7",
    ]
    alone = cascade("mushroom", negative_prompt="art", generator=generators(6), **options)
    assert alone.prompts == ["a red mushroom 6"]
    assert np.abs(together.images[2] - alone.images[0]).max() < 1e-4


def test_a_failing_expander_costs_no_picture(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    out = cascade("a red fox", expand=Down(), generator=generators(1), output_type="np")
    assert out.prompts == ["a red fox"]
    assert caplog.messages == ["the prompt is not expanded: the server is down"]
    plain = cascade("a red fox", generator=generators(1), output_type="np")
    assert np.array_equal(out.images, plain.images)


def test_a_long_answer_is_cut_to_what_the_encoder_reads(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    class Long:
        def expand(self, prompt: str, seed: int) -> str:
            return "a red fox. a blue fox above a mushroom."

    assert cascade("fox", expand=Long()).prompts == ["a red fox."]
    assert any("longer than 8 tokens" in line for line in caplog.messages)


def test_a_language_model_is_opened_once_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_cascade()
    asked: list[ChatModelExpander] = []

    def answer(self: ChatModelExpander, prompt: str, seed: int) -> str:
        asked.append(self)
        raise ExpansionError("nothing to be kept in the cache")

    monkeypatch.setattr(ChatModelExpander, "expand", answer)
    monkeypatch.setenv("RELAY_EXPAND_MODEL", "chat")
    for prompt in ("fox", "mushroom"):
        pipe.expand_prompts([prompt], "transformers", [1])
    assert asked[0] is asked[1]
    assert pipe.expander_for("transformers", "chat") is pipe.expander_for("transformers")
    assert pipe.expander_for("transformers", "other") is not pipe.expander_for("transformers")
    assert asked[0].device == "cpu"  # where the pipeline is


def test_a_cascade_without_expander_asks_for_one(cascade: RelayPipeline) -> None:
    with pytest.raises(RelayError, match="no expander of its own"):
        cascade("a fox", expand=True)


# The command line.


@pytest.fixture
def generate(scenes_folder: Path, capsys: pytest.CaptureFixture[str]):
    """Run ``relay generate``; gives the paths that it prints and what it says beside."""

    def run(*arguments: object, model: bool = True) -> tuple[list[Path], list[str]]:
        args = ["generate", *map(str, arguments), "--device", "cpu"]
        assert main([*args, "--model", str(scenes_folder)] if model else args) == 0
        said = capsys.readouterr()
        return [Path(line) for line in said.out.splitlines()], said.err.splitlines()

    return run


def test_the_long_form_is_shown_stored_and_used_again(generate, tmp_path: Path) -> None:
    (*paths, _), said = generate(
        PROMPT, "--expand", "--num", 2, "--seed", 8, "--out", tmp_path / "once"
    )
    stored = [read_parameters(path) for path in paths]
    assert [one.prompt for one in stored] == [PROMPT, PROMPT]
    texts = [one.expanded_prompt for one in stored]
    assert texts[0] != texts[1] and [f"expanded: {text}" for text in texts] == said
    with Image.open(paths[0]) as image:
        assert f"{PROMPT}\nExpanded prompt: {texts[0]}" in image.text["parameters"]  # type: ignore[attr-defined]

    ((alone,), _) = generate(PROMPT, "--expand", "--seed", 9, "--out", tmp_path / "alone")
    assert alone.read_bytes() == paths[1].read_bytes()
    ((again,), _) = generate("--from", paths[1], "--out", tmp_path / "again", model=False)
    assert again.read_bytes() == paths[1].read_bytes()
    ((other,), _) = generate(
        "--from", paths[1], "--seed", 1, "--expand", "--out", tmp_path / "seed", model=False
    )
    assert read_parameters(other).expanded_prompt == texts[1]


def test_another_prompt_or_no_expand_leaves_the_stored_text(generate, tmp_path: Path) -> None:
    ((first,), _) = generate(PROMPT, "--expander", "scenes", "--seed", 8, "--out", tmp_path)
    assert read_parameters(first).expanded_prompt
    for arguments, prompt in ((["an owl"], "an owl"), (["--no-expand"], PROMPT)):
        ((path,), said) = generate(*arguments, "--from", first, "--out", tmp_path, model=False)
        assert read_parameters(path).prompt == prompt and not said
        assert read_parameters(path).expanded_prompt is None


def test_a_picture_from_before_expansion_is_still_read(generate, tmp_path: Path) -> None:
    ((path,), _) = generate("a fox", "--seed", 2, "--out", tmp_path)
    record = asdict(read_parameters(path))
    del record["expanded_prompt"]
    text = PngImagePlugin.PngInfo()
    text.add_itxt("relay", json.dumps(record))
    Image.open(path).save(tmp_path / "old.png", pnginfo=text)
    ((again,), _) = generate("--from", tmp_path / "old.png", "--out", tmp_path, model=False)
    assert again.read_bytes() == path.read_bytes()


def test_a_model_that_expands_is_asked_once_for_all_runs(
    generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def answer(self: ChatModelExpander, prompt: str, seed: int) -> str:
        asked.append((self.model, self.device, prompt, seed))
        return "a red fox on a meadow ."

    monkeypatch.setattr(ChatModelExpander, "expand", answer)
    for _ in range(2):
        ((path,), _) = generate(
            "renard", "--expander", "transformers", "--expander-model", "chat", "--seed", 4,
            "--out", tmp_path / "out",
        )  # fmt: skip
        assert read_parameters(path).expanded_prompt == "a red fox on a meadow ."
    assert asked == [("chat", "cpu", "renard", 4)]


def test_a_broken_backend_still_makes_the_picture(
    generate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ((path,), _) = generate(
        "a fox", "--expander", "transformers", "--expander-model", tmp_path / "none",
        "--out", tmp_path,
    )  # fmt: skip
    assert read_parameters(path).expanded_prompt is None
    assert any("the prompt is not expanded" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--expander", "gpt"], "no expander 'gpt'"),
        (["--expander-model", "m"], "--expander-model goes with --expander"),
        (["--expander", "openai"], "RELAY_EXPAND_MODEL"),
    ],
)
def test_wrong_options_are_one_line(
    scenes_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.delenv("RELAY_EXPAND_MODEL", raising=False)
    given = ["--model", str(scenes_folder), "--out", str(tmp_path), *arguments]
    assert main(["generate", "a fox", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
