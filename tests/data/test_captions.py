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
        named = set(names_in(make(scene, seed).replace("made of tiles", "")))
        asked = {thing.subject for thing in scene.things}
        assert asked <= named, make(scene, seed)


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


def test_the_words_of_a_world_are_those_its_captions_use() -> None:
    words = words_of(SMALL)
    assert words < words_of(FULL)
    used = {
        word
        for seed in range(1500)
        for make in (short_caption, long_caption)
        for word in split_words(make(SMALL.sample(seed), seed))
    }
    assert used <= words
    assert len(words - used) < 15


def test_an_unknown_word_comes_with_the_nearest_known_one() -> None:
    tokenizer = build_tokenizer()
    assert unknown_words("A red fxo, and a cat!", tokenizer) == [("fxo", "fox")]
    assert unknown_words("a zebra", tokenizer, words_of(SMALL))[0][0] == "zebra"
