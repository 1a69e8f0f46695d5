"""Captions: true, complete where they promise it, within the tokenizer's words and length."""

from __future__ import annotations

import re

import pytest
from transformers import AutoTokenizer

from relay_diffusion.data.scenes.captions import long_caption, scene_prompt, short_caption
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.words import (
    MAX_TOKENS,
    build_tokenizer,
    split_words,
    unknown_words,
    words_of,
)
from relay_diffusion.data.scenes.world import World
from relay_diffusion.models.registry import resolve
from relay_diffusion.pipelines.cascade import RelayPipeline

FULL, SMALL = World.full(), World.small()
VOCABULARY = load_vocabulary()
LEFT = re.compile(r"^(?P<a>.+?) (?:on |to )?(?:the )?(?P<side>left|right) of (?P<b>[^,]+)")


def names_in(text: str) -> list[str]:
    """Subjects named in a text, in order of appearance, longest names first where they overlap."""
    names = {n: s.id for s in VOCABULARY.subjects.values() for n in (*s.singulars, s.plural)}
    pattern = "|".join(rf"\b{re.escape(n)}\b" for n in sorted(names, key=len, reverse=True))
    return [names[match] for match in re.findall(pattern, text)]


@pytest.mark.parametrize("make", [short_caption, long_caption])
def test_captions_name_what_is_there_and_nothing_else(make) -> None:
    for seed in range(400):
        scene = FULL.sample(seed)
        text = make(scene, seed)
        surroundings = VOCABULARY.backgrounds[scene.background] + VOCABULARY.styles[scene.style]
        shown = text
        for phrase in sorted(surroundings, key=len, reverse=True):
            shown = shown.replace(phrase, "")
        assert set(names_in(shown)) == {thing.subject for thing in scene.things}, text


@pytest.mark.parametrize("make", [short_caption, long_caption])
def test_counts_and_tints_are_those_of_the_scene(make) -> None:
    numbers = {2: "two", 3: "three", 4: "four"}
    for seed in range(400):
        scene = FULL.sample(seed)
        text = make(scene, seed)
        one_kind = len(scene.things) > 1 and len({thing.subject for thing in scene.things}) == 1
        said = [number for number in numbers.values() if number in split_words(text)]
        assert said == ([numbers[len(scene.things)]] if one_kind else []), text
        for thing in scene.things:
            if thing.tint:
                subject = VOCABULARY.subjects[thing.subject]
                names = "|".join(map(re.escape, (*subject.singulars, subject.plural)))
                assert re.search(rf"\b{thing.tint} ({names})\b", text), text


def test_above_and_below_are_never_mixed_up() -> None:
    pattern = re.compile(r"(?P<a>.+?) (?P<side>above|over|below|under|beneath) (?P<b>an? .+)")
    checked = 0
    for seed in range(1500):
        scene = SMALL.sample(seed)
        match = pattern.match(long_caption(scene, seed))
        if scene.relation not in ("above", "below") or not match:
            continue
        first, second = names_in(match["a"])[-1], names_in(match["b"])[0]
        y = {thing.subject: thing.y for thing in scene.things}
        assert (y[first] < y[second]) == (match["side"] in ("above", "over"))
        checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("scissors", "blue scissors on a red background"),
        ("hourglass-done", "an hourglass on a red background"),
        ("umbrella", "an umbrella on a red background"),
        ("unicorn", "a unicorn on a red background"),
    ],
)
def test_articles_are_those_of_english(subject: str, prompt: str) -> None:
    tint = "blue" if "blue" in prompt else None
    assert scene_prompt(Scene((Thing(subject, tint, 0.5, 0.5, 0.5),), None, "red", "flat", 1)) == (
        prompt
    )


def test_pairs_are_counted_as_pairs() -> None:
    things = tuple(Thing("scissors", None, x, 0.5, 0.3) for x in (0.25, 0.75))
    scene = Scene(things, None, "red", "flat", 1)
    assert scene_prompt(scene) == "two pairs of scissors on a red background"


def test_left_and_right_are_never_mixed_up() -> None:
    checked = 0
    for seed in range(3000):
        scene = SMALL.sample(seed)
        if scene.relation not in ("left of", "right of"):
            continue
        text = short_caption(scene, seed)
        match = LEFT.match(text.split(", ", 1)[-1] if "," in text[:24] else text)
        if not match:
            continue
        first, second = names_in(match["a"])[-1], names_in(match["b"])[0]
        x = {thing.subject: thing.x for thing in scene.things}
        assert (x[first] < x[second]) == (match["side"] == "left"), text
        checked += 1
    assert checked > 100


def test_a_prompt_for_the_judge_leaves_nothing_out() -> None:
    scene = Scene(
        (Thing("fox", "blue", 0.3, 0.5, 0.3), Thing("mushroom", None, 0.7, 0.5, 0.3)),
        "left of",
        "brick wall",
        "pixel art",
        1,
    )
    assert (
        scene_prompt(scene) == "a blue fox left of a mushroom in front of a brick wall, pixel art"
    )


def test_long_captions_say_background_style_and_tints() -> None:
    for seed in range(300):
        scene = FULL.sample(seed)
        text = long_caption(scene, seed)
        assert any(phrase in text for phrase in VOCABULARY.backgrounds[scene.background])
        assert any(phrase in text for phrase in VOCABULARY.styles[scene.style])
        assert all(thing.tint in text for thing in scene.things if thing.tint)


def test_captions_are_functions_of_the_seed() -> None:
    scene = FULL.sample(5)
    assert short_caption(scene, 1) == short_caption(scene, 1)
    assert len({short_caption(scene, seed) for seed in range(30)}) > 5
    assert len({long_caption(scene, seed) for seed in range(30)}) > 5


def test_the_tokenizer_knows_every_caption(tmp_path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for seed in range(1000):
        scene = FULL.sample(seed)
        for make in (short_caption, long_caption):
            ids = tokenizer(make(scene, seed)).input_ids
            assert tokenizer.unk_token_id not in ids
            assert len(ids) <= MAX_TOKENS
            assert ids[-1] == tokenizer.eos_token_id


def test_the_tokenizer_splits_as_the_words_were_split() -> None:
    tokenizer = build_tokenizer()
    for prompt in ("A Fox...", "fox,owl", "(a fox), an owl!?", "t-shirt", "red_fox", "  fox\n"):
        pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(prompt.lower())
        assert [piece for piece, _ in pieces] == split_words(prompt)
    assert unknown_words("a red_fox", tokenizer)[0][0] == "red_fox"


def test_the_words_of_a_world_are_those_its_captions_use() -> None:
    words = words_of(SMALL)
    assert words < words_of(FULL)
    used = {
        word
        for seed in range(6000)
        for make in (short_caption, long_caption)
        for word in split_words(make(SMALL.sample(seed), seed))
    }
    assert used == words


@pytest.mark.parametrize("name", ["starter", "starter-fast"])
def test_the_starter_knows_the_words_that_it_was_trained_on(name: str) -> None:
    config = RelayPipeline.load_config(resolve(name))
    assert config["known_words"] == sorted(words_of(SMALL))
    assert not {"three", "four"} & set(config["known_words"])


def test_a_tokenizer_built_today_has_the_ids_of_the_starters() -> None:
    shipped = AutoTokenizer.from_pretrained(resolve("starter") / "tokenizer")
    assert build_tokenizer().get_vocab() == shipped.get_vocab()


def test_an_unknown_word_comes_with_the_nearest_known_one() -> None:
    tokenizer = build_tokenizer()
    assert unknown_words("A red fxo, and a cat!", tokenizer) == [("fxo", "fox")]
    assert unknown_words("a zebra", tokenizer, words_of(SMALL))[0][0] == "zebra"
