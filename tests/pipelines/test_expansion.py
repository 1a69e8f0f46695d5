"""Prompt expansion without a model: answers, lengths, the cache, the choice, and the scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.data.scenes.captions import long_caption
from relay_diffusion.data.scenes.parsing import parse
from relay_diffusion.data.scenes.words import MAX_TOKENS, build_tokenizer, split_words, words_of
from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.files import cache_folder
from relay_diffusion.pipelines.prompts import ExpansionError, expand_prompt, open_expander
from relay_diffusion.pipelines.prompts.answers import usable
from relay_diffusion.pipelines.prompts.cache import Cached
from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander
from relay_diffusion.pipelines.prompts.endpoint import EndpointExpander
from relay_diffusion.pipelines.prompts.expansion import shortened
from relay_diffusion.pipelines.prompts.instructions import messages, version
from relay_diffusion.pipelines.prompts.scenes import ScenesExpander


class Words:
    """A tokenizer with one token a word and one at the end."""

    def num_special_tokens_to_add(self) -> int:
        return 1

    def __call__(self, text: str, **options: Any) -> Any:
        return type("Encoding", (), {"input_ids": text.split()})


class Canned:
    """An expander that answers the same to all, or raises."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer, self.calls = answer, 0

    def expand(self, prompt: str, seed: int) -> str:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def expanded(answer: str | Exception, prompt: str = "a fox", max_tokens: int = 20) -> str:
    return expand_prompt(Canned(answer), prompt, 0, Words(), max_tokens)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("A fox.\n\nIt is red.", "A fox. It is red."),
        ('"A fox."', "A fox."),
        ("Expanded prompt: A fox.", "A fox."),
        ("**Caption:** A fox.", "A fox."),
        ("<think>what is a fox?\n</think>\nA fox.", "A fox."),
        ("```text\nA fox.\n```", "A fox."),
        ("Façade, œuvre, a café.", "Façade, œuvre, a café."),
    ],
)
def test_an_answer_becomes_a_line_of_text(answer: str, text: str) -> None:
    assert usable(answer) == text


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("", "the answer is empty"),
        (" \n ...", "the answer is empty"),
        ("<think>a fox</think>", "the answer is empty"),
        ("word " * 5000, "the answer has 5000 words, allowed is 400"),
        ("一只红色的狐狸站在草地上, fox", "the answer is not in English"),
        ("Рыжая лиса стоит на лугу", "the answer is not in English"),
        ("Un renard roux est assis dans une prairie verte.", "the answer is not in English"),
        ("I'm sorry, but I cannot draw that.", "the answer is a refusal"),
        (ExpansionError("no network"), "no network"),
        (ConnectionError("refused\nagain"), "ConnectionError: refused again"),
    ],
)
def test_without_a_usable_answer_the_prompt_stays_and_one_line_says_why(
    answer: str | Exception, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert expanded(answer) == "a fox"
    (line,) = caplog.messages
    assert line.startswith("the prompt is not expanded: ") and complaint in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "answer",
    [
        "Un renard roux est assis dans une prairie verte sous la douce lumière du matin. Son "
        "pelage brille et derrière lui s'étendent des collines couvertes de brume.",
        "Ein roter Fuchs steht auf einer grünen Wiese im weichen Licht des frühen Morgens. Sein "
        "Fell leuchtet, und hinter ihm liegen sanfte Hügel.",
        "Un zorro rojo está sentado en un prado verde bajo la suave luz de la mañana.",
        "Una volpe rossa siede in un prato verde nella luce morbida del mattino.",
        "Uma raposa vermelha está sentada num prado verde sob a luz suave da manhã.",
        "Een rode vos zit in een groene weide in het zachte ochtendlicht en is alleen.",
        "Rudy lis siedzi na zielonej łące w miękkim świetle, a za nim rosną żółte kwiaty.",
        "En röd räv sitter på en grön äng i det mjuka morgonljuset.",
        "Seekor rubah merah duduk di padang rumput hijau dalam cahaya pagi yang lembut.",
        "Here is the caption: Un renard roux est assis dans une prairie verte sous la lune.",
    ],
)
def test_another_language_in_latin_letters_is_no_answer(answer: str) -> None:
    with pytest.raises(ExpansionError, match="the answer is not in English"):
        usable(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "fox, meadow, watercolour, soft light",
        "fox, meadow, watercolour, soft light, morning mist, golden hour, 85mm, bokeh, fine detail",
        "old man in hat, camper van, red door, men at work, bald, fast car, war, den, die cast",
        "Notre-Dame de Paris, rue de la Cité, Pont au Double, sunset, rain, umbrellas",
        "Hacienda de los Morales, Ciudad de México, courtyard, fountain, golden hour, wide shot",
        "A painting in the style of La Liberté guidant le peuple, by Eugène Delacroix.",
        'A poster that says "Vive la France et les droits de tous dans le monde" on a red wall.',
        "flat illustration . there is an owl over a blue teapot . the owl is at the top .",
    ],
)
def test_lists_names_and_writing_in_the_picture_are_english(answer: str) -> None:
    assert usable(answer) == answer


def test_an_empty_prompt_is_not_expanded(caplog: pytest.LogCaptureFixture) -> None:
    assert expanded("a fox", prompt=" ") == " "
    assert not caplog.messages


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("one two three. four five.", "one two three. four five."),
        ("one two three. four five. six seven.", "one two three. four five."),
        ("one two three four five six seven eight", "one two three four five"),
        ("one two three four five six. seven.", "one two three four five"),
    ],
)
def test_what_the_encoder_would_not_read_is_cut_at_a_sentence_or_a_word(
    text: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert shortened(text, Words(), 6) == kept
    if text != kept:
        (line,) = caplog.messages
        assert "longer than 6 tokens" in line and repr(text[len(kept) :].strip()) in line


# The cache.


def test_an_expansion_is_asked_for_once(tmp_path: Path) -> None:
    first, second = Canned("A fox."), Canned("Another.")
    for _ in range(2):
        assert Cached(first, "openai", "m", folder=tmp_path).expand("fox", 1) == "A fox."
    assert first.calls == 1
    assert Cached(second, "openai", "m", folder=tmp_path).expand("fox", 1) == "A fox."
    for key, prompt, seed in (("m", "fox", 2), ("m", "owl", 1), ("n", "fox", 1)):
        assert Cached(second, "openai", key, folder=tmp_path).expand(prompt, seed) == "Another."
    assert second.calls == 3
    assert not list(tmp_path.glob(".*.new"))


def test_failures_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ExpansionError):
        Cached(Canned(ExpansionError("down")), "m", folder=tmp_path).expand("fox", 0)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cached = Cached(Canned("A fox."), "m", folder=tmp_path / "file")
    assert cached.expand("fox", 0) == "A fox."
    good = Cached(Canned("A fox."), "m", folder=tmp_path / "good")
    good.expand("fox", 0)
    (entry,) = (tmp_path / "good").iterdir()
    for damage in ("{", "[]", '{"key": 1}', "\x00"):
        entry.write_text(damage)
        assert good.expand("fox", 0) == "A fox."


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder("expansions") == Path("/somewhere/relay-diffusion/expansions")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("expansions") == Path.home() / ".cache/relay-diffusion/expansions"


# The choice.


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE_URL", "MODEL", "API_KEY"):
        monkeypatch.delenv(f"RELAY_EXPAND_{name}", raising=False)
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)


def test_the_choice_is_off_own_named_or_brought_along() -> None:
    starter = {"expander": "scenes", "world": "small"}
    assert open_expander(None, starter) is None
    assert open_expander(False, starter) is None
    own = open_expander(True, starter)
    assert isinstance(own, ScenesExpander) and own.world == World.small()
    other = open_expander("scenes", starter, "full")
    assert isinstance(other, ScenesExpander) and other.world == World.full()
    brought = Canned("A fox.")
    assert open_expander(brought, {}) is brought
    kept = open_expander("transformers", {}, "folder")
    assert isinstance(kept, Cached) and isinstance(kept.expander, ChatModelExpander)
    assert kept.key == ("transformers", "folder", version())


def test_texts_of_a_folder_are_kept_for_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> tuple[str, ...]:
        opened = open_expander("transformers", {}, "chat")
        assert isinstance(opened, Cached)
        return opened.key

    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        (folder / "chat").mkdir(parents=True)
        (folder / "chat" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(folders[0])
    first = key()
    assert key() == first
    monkeypatch.chdir(folders[1])  # the same words mean another folder
    assert key() != first
    monkeypatch.chdir(folders[0])
    Path("chat/model.safetensors").write_bytes(b"other weights")
    assert key() != first


@pytest.mark.parametrize(
    ("choice", "config", "complaint"),
    [
        (True, {}, "no expander of its own; name one: scenes, openai, transformers"),
        ("scenes", {"world": None}, "names no world; allowed are openai and transformers"),
        ("scenes", {"world": "large"}, "no world 'large'"),
        ("gpt", {}, "no expander 'gpt'; allowed are scenes, openai, transformers"),
        (3, {}, "expand is a int; give True, one of scenes"),
        ("openai", {}, "set RELAY_EXPAND_MODEL"),
        ("transformers", {}, "a folder or a hub id"),
    ],
)
def test_a_choice_that_cannot_be_had_is_one_line(
    choice: Any, config: dict[str, str | None], complaint: str
) -> None:
    with pytest.raises(RelayError, match=complaint) as refusal:
        open_expander(choice, config)
    assert "\n" not in str(refusal.value)


def test_a_key_goes_to_its_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_EXPAND_MODEL", "m")
    with pytest.raises(RelayError, match="OPENAI_API_KEY"):
        EndpointExpander()
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert EndpointExpander()._hosted.key == "secret"
    assert EndpointExpander(base_url="http://127.0.0.1:1")._hosted.key == "none"
    monkeypatch.setenv("RELAY_EXPAND_BASE_URL", "http://127.0.0.1:1")
    assert EndpointExpander()._hosted.key == "none"
    monkeypatch.setenv("RELAY_EXPAND_API_KEY", "mine")
    assert EndpointExpander()._hosted.key == "mine"


def test_a_model_is_told_the_prompt_last_and_english_first() -> None:
    system, *turns = messages("ein Fuchs")
    assert system["role"] == "system" and "in English" in system["content"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    assert "ein Fuchs" in turns[-1]["content"]
    for turn in turns[1::2]:
        assert 100 <= len(turn["content"].split()) <= 200
        assert usable(turn["content"]) == turn["content"]


# The scenes.


def test_scenes_are_told_by_the_seed_in_words_that_the_tokenizer_knows() -> None:
    tokenizer = build_tokenizer()
    for name in ("small", "full"):
        expander, words = ScenesExpander(name), words_of(World.by_name(name))
        texts = [expander.expand("an owl and a blue teapot", seed) for seed in range(30)]
        assert texts == [expander.expand("an owl and a blue teapot", seed) for seed in range(30)]
        assert len(set(texts)) == 30
        for text in texts:
            assert set(split_words(text)) <= words
            assert len(tokenizer(text).input_ids) <= MAX_TOKENS
            told = parse(text)
            assert [thing.subject for thing in told.things] == ["owl", "teapot"]
            assert told.things[1].tint == "blue"


def test_a_prompt_in_the_long_form_stays_as_it_is() -> None:
    for name in ("small", "full"):
        expander, world = ScenesExpander(name), World.by_name(name)
        for seed in range(100):
            text = long_caption(world.sample(seed), seed)
            assert expander.expand(text, seed + 1) == text
        once = expander.expand("draw me 2 foxes pls", 3)
        assert expander.expand(once, 4) == once


def test_what_a_cascade_does_not_draw_is_said_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = ScenesExpander("small").expand("a puppy with a balloon in the desert", 0)
    assert "balloon" in text and "dog" not in text and "yellow" in text
    assert len(caplog.messages) == 2 and all("\n" not in line for line in caplog.messages)


def test_a_prompt_of_nothing_known_stays_as_it_was_typed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for prompt in ("a puppy", "un renard", "at night"):
        assert expand_prompt(ScenesExpander("small"), prompt, 0, Words(), 20) == prompt
    assert len(caplog.messages) == 3
    assert all("asks for nothing that this cascade draws" in line for line in caplog.messages)
