"""Runs whose prompts a language model expands."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.cascades import CascadePainter
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.painters import Where
from relay_diffusion.pipelines.metadata import read_parameters
from relay_diffusion.pipelines.prompts import ExpansionError
from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander
from relay_diffusion.pipelines.prompts.endpoint import EndpointExpander
from tests.evaluation.conftest import CPU, Paint
from tests.pipelines.test_chat_model import chat_model
from tests.pipelines.tiny import tiny_cascade

ANSWER = "a blue fox"


@pytest.fixture(autouse=True)
def _chat_model_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    chat_model(tmp_path / "chat")


def test_a_language_model_that_fails_ends_the_run_and_the_next_one_goes_on(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No picture of a prompt as it was typed is measured as one of an expanded prompt."""
    asked: list[str] = []
    works_for = 1 + 1  # it warms up, then the first picture

    def answers(self: ChatModelExpander, prompt: str, seed: int) -> str:
        asked.append(prompt)
        if len(asked) > works_for:
            raise ExpansionError("the server is down")
        return ANSWER

    monkeypatch.setattr(ChatModelExpander, "expand", answers)
    options = {"expand": "transformers", "expander_model": "chat"}
    with pytest.raises(RelayError, match="cannot be expanded: the server is down; mend that"):
        paint(Path("out"), **options)
    assert Path("out/batches.jsonl").read_text().count("\n") == 1
    assert len(list(Path("out/pictures/tiny/mine").iterdir())) == 1

    works_for = 100
    paint(Path("out"), **options)
    made = list(Path("out/pictures/tiny/mine").iterdir())
    assert [read_parameters(path).expanded_prompt for path in made] == [ANSWER] * 3


def test_a_refusal_is_the_models_own_and_counted(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([ANSWER, ANSWER, "I'm sorry, but I can't help with that.", ANSWER])
    monkeypatch.setattr(ChatModelExpander, "expand", lambda self, prompt, seed: next(answers))
    result = paint(Path("out"), expand="transformers", expander_model="chat")
    assert result["notes"] == ["tiny: prompts that were not expanded: 1"]


def test_a_prompt_with_nothing_to_expand_is_no_failure(tmp_path: Path) -> None:
    tiny_cascade(expander="scenes", world="small", max_tokens=64).save_pretrained(tmp_path / "c")
    painter = CascadePainter(Entry.parse(f"{tmp_path / 'c'}@expand=true,size=64"), Where(CPU))
    assert painter.expand(["un renard"], [5]) == ["un renard"]


def test_a_language_model_of_the_environment_is_recorded_and_compared(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EndpointExpander, "expand", lambda self, prompt, seed: ANSWER)
    monkeypatch.setenv("RELAY_EXPAND_MODEL", "one")
    monkeypatch.setenv("RELAY_EXPAND_BASE_URL", "http://127.0.0.1:1/v1")
    (model,) = paint(Path("out"), expand="openai")["models"]
    for told in (model["asked"], model["settings"]):
        assert told["expander_model"] == "one"
        assert told["expander_base_url"] == "http://127.0.0.1:1/v1"
    monkeypatch.setenv("RELAY_EXPAND_MODEL", "two")
    with pytest.raises(RelayError, match='with expander_model "one", and now it is "two"'):
        paint(Path("out"), expand="openai")
    monkeypatch.setenv("RELAY_EXPAND_MODEL", "one")
    monkeypatch.setenv("RELAY_EXPAND_BASE_URL", "http://127.0.0.1:2/v1")
    with pytest.raises(RelayError, match="with expander_base_url "):
        paint(Path("out"), expand="openai")


def test_a_language_model_of_other_weights_is_another_one(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatModelExpander, "expand", lambda self, prompt, seed: ANSWER)
    options = {"expand": "transformers", "expander_model": "chat"}
    paint(Path("out"), **options)
    config = Path("chat/config.json")
    config.write_text(config.read_text() + "\n")
    with pytest.raises(RelayError, match="with expander_weights "):
        paint(Path("out"), **options)
