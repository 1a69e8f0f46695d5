"""Captions that the starter cannot read are counted as such."""

from __future__ import annotations

import pytest

from relay_diffusion.data.coverage import Coverage, coverage_of
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.models.text import tokenize

ORDINARY = (
    "A weathered fishing trawler rests against a crumbling stone pier as golden evening light "
    "spills over the harbour, its peeling turquoise hull mirrored in rippling water. Coiled ropes "
    "and stacked lobster pots crowd the deck, where an elderly man in a thick knitted sweater "
    "mends a net with practised hands. Behind him, narrow whitewashed cottages climb a steep "
    "hillside dotted with gorse, their chimneys trailing thin smoke into a hazy sky. Two gulls "
    "circle the mast. The photograph has a shallow depth of field and warm, muted colours."
)


def test_an_ordinary_caption_is_told_from_one_of_the_scenes() -> None:
    tokenizer = build_tokenizer()
    scene = coverage_of(tokenizer, ["a red fox above a mushroom, pixel art"], 64)
    assert (scene.captions, scene.cut, scene.unknown, scene.words) == (1, 0, 0, {})
    assert scene.tokens == 9
    ordinary = coverage_of(tokenizer, [ORDINARY], 64)
    assert ordinary.cut == 1 and ordinary.unknown_share > 0.3
    assert "trawler" in ordinary.words and "the" not in ordinary.words
    ids = tokenizer(ORDINARY, add_special_tokens=False).input_ids
    assert ordinary.tokens == len(ids)
    assert ordinary.unknown == ids.count(tokenizer.unk_token_id) == sum(ordinary.words.values())
    assert ordinary.poor and not scene.poor
    both = scene + ordinary
    assert (both.captions, both.cut, both.tokens) == (2, 1, 9 + len(ids))
    assert both == ordinary + scene
    assert "50.0% of captions cut" in str(both)


@pytest.mark.parametrize("length", [62, 63, 64])
def test_cut_is_what_tokenize_cuts(length: int) -> None:
    tokenizer = build_tokenizer()
    caption = " ".join(["fox"] * (length - 1)) + " mushroom"
    mushroom = tokenizer("mushroom", add_special_tokens=False).input_ids[0]
    read = mushroom in tokenize(tokenizer, [caption], 64)[0].tolist()
    assert coverage_of(tokenizer, [caption], 64).cut == (not read)


def test_no_caption_is_no_division_by_zero() -> None:
    assert coverage_of(build_tokenizer(), [], 64) == Coverage()
    assert not Coverage().poor
