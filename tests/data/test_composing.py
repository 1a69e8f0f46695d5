"""From facts to a scene: it shows what was asked for, within the world, by the seed."""

from __future__ import annotations

import pytest

from relay_diffusion.data.scenes.captions import long_caption
from relay_diffusion.data.scenes.facts import Facts
from relay_diffusion.data.scenes.fitting import fit
from relay_diffusion.data.scenes.parsing import parse
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.words import split_words, words_of
from relay_diffusion.data.scenes.world import World, size_word

from .typed_prompts import PROMPTS

WORLDS = {name: World.by_name(name) for name in ("small", "full")}


def composed(prompt: str, name: str = "small", seed: int = 0) -> tuple[Facts, Scene, list[str]]:
    facts, remarks = fit(parse(prompt), WORLDS[name])
    return facts, WORLDS[name].compose(facts, seed), remarks


@pytest.mark.parametrize("name", ["small", "full"])
def test_a_scene_shows_what_was_asked_for(name: str) -> None:
    world = WORLDS[name]
    for prompt, *_ in PROMPTS:
        for seed in range(3):
            facts, remarks = fit(parse(prompt), world)
            if not facts.things:
                assert remarks
                continue
            scene = world.compose(facts, seed)
            asked = [thing for thing in facts.things for _ in range(thing.count)]
            assert [t.subject for t in scene.things] == [t.subject for t in asked]
            assert [t.tint for t in scene.things] == [t.tint for t in asked]
            assert len(asked) <= world.max_things
            if len(asked) <= 2:
                assert [size_word(scene, t) for t in scene.things] == [t.size or "" for t in asked]
            assert facts.relation in (None, scene.relation)
            assert facts.background in (None, scene.background)
            assert scene.style == (facts.style or "flat")
            assert {t.subject for t in scene.things} <= set(world.subjects)
            assert scene.background in world.backgrounds and scene.style in world.styles
            assert scene == world.compose(facts, seed)


@pytest.mark.parametrize("name", ["small", "full"])
def test_composed_scenes_are_placed_as_sampled_ones_are(name: str) -> None:
    for prompt, *_ in PROMPTS:
        for seed in range(5):
            facts, _ = fit(parse(prompt), WORLDS[name])
            if not facts.things:
                continue
            things = WORLDS[name].compose(facts, seed).things
            for thing in things:
                for centre in (thing.x, thing.y):
                    outside = max(0.0, thing.size / 2 - min(centre, 1 - centre))
                    assert outside <= 0.06 * thing.size + 1e-9
            for i, a in enumerate(things):
                for b in things[i + 1 :]:
                    gap = max(abs(a.x - b.x), abs(a.y - b.y)) - (a.size + b.size) / 2
                    assert gap > -0.07


@pytest.mark.parametrize("name", ["small", "full"])
def test_the_caption_of_a_composed_scene_says_what_was_asked_for(name: str) -> None:
    words = words_of(WORLDS[name])
    for prompt, *_ in PROMPTS:
        facts, _ = fit(parse(prompt), WORLDS[name])
        for seed in range(3 if facts.things else 0):
            text = long_caption(WORLDS[name].compose(facts, seed), seed)
            assert set(split_words(text)) <= words, text
            told = parse(text)
            assert [(t.subject, t.count, t.tint) for t in told.things] == [
                (t.subject, t.count, t.tint) for t in facts.things
            ], text
            assert facts.relation in (None, told.relation), text
            assert told.background and facts.background in (None, told.background)
            assert told.style == (facts.style or "flat")


@pytest.mark.parametrize(
    "place",
    ["left", "right", "top", "bottom", "middle", "top left", "bottom right"],
)
@pytest.mark.parametrize("size", ["", "small ", "large "])
def test_a_single_thing_stands_where_it_was_asked_to(place: str, size: str) -> None:
    for seed in range(20):
        facts, scene, _ = composed(f"a {size}fox in the {place}", seed=seed)
        assert facts.things[0].place == place
        (thing,) = parse(long_caption(scene, seed)).things
        assert thing.place == place


def test_two_of_a_subject_are_told_apart_by_what_differs() -> None:
    _, scene, _ = composed("a white horse to the right of a purple pony")
    text = long_caption(scene, 0)
    assert [thing.tint for thing in parse(text).things] == ["white", "purple"]
    assert "two" not in split_words(text)
    _, scene, _ = composed("a small cat next to a big cat")
    assert [thing.size for thing in parse(long_caption(scene, 0)).things] == ["small", "large"]


def test_what_is_left_open_varies_with_the_seed() -> None:
    scenes = [composed("a fox and an owl", seed=seed)[1] for seed in range(40)]
    assert len({scene.background for scene in scenes}) > 3
    assert {scene.relation for scene in scenes} == {"left of", "right of"}
    assert {scene.style for scene in scenes} == {"flat"}
    assert {scene.background for scene in scenes} != {"red"}
    red = [composed("a red fox", seed=seed)[1] for seed in range(40)]
    assert "red" not in {scene.background for scene in red}


@pytest.mark.parametrize(
    ("prompt", "things", "remark"),
    [
        ("five foxes", "2 fox", "at most 2 things: 2 foxes"),
        ("two foxes and an owl", "fox, owl", "at most 2 things: 1 fox, 1 owl"),
        ("a fox, an owl and a pig", "fox, owl", "at most 2 things"),
        ("a zebra and a bell", "horse, bell", "draws no 'zebra': 'horse' instead"),
        ("a zebra and a horse", "horse", "draws no 'zebra': it is left out"),
        ("a puppy and a balloon", "balloon", "draws no 'dog': it is left out"),
        ("a fox in the desert", "fox", "no background 'sand': 'yellow' instead"),
        ("a fox on stripes", "fox", "no background 'stripes': it is left out"),
        ("a fox in chalk", "fox", "no style 'chalk drawing': 'pencil sketch' instead"),
        ("a knitted fox", "fox", "no style 'knitted': it is left out"),
        ("a fox with a hat", "fox", "not understood, left out: 'hat'"),
        ("an elefant", "elephant", "'elefant' is read as 'elephant'"),
    ],
)
def test_what_a_world_lacks_is_told(prompt: str, things: str, remark: str) -> None:
    facts, _, remarks = composed(prompt)
    said = ", ".join(f"{t.count if t.count > 1 else ''} {t.subject}".strip() for t in facts.things)
    assert said == things
    assert any(remark in line for line in remarks), remarks


def test_relations_follow_the_things_that_are_left() -> None:
    facts, _, _ = composed("a dog, a fox above an owl")
    assert [thing.subject for thing in facts.things] == ["fox", "owl"]
    assert facts.relation == "above"


def test_more_than_two_kinds_stand_in_a_row_in_the_full_world() -> None:
    _, scene, _ = composed("an owl, a fox, a pig and a dog", "full")
    assert scene.relation == "in a row"
    assert [t.subject for t in sorted(scene.things, key=lambda t: t.x)] == [
        "owl", "fox", "pig", "dog",
    ]  # fmt: skip
