"""The world: big enough, deterministic, in bounds, and split for good."""

from __future__ import annotations

from collections import Counter

import pytest

from relay_diffusion.data.scenes.backgrounds import BACKGROUNDS, COLOURS
from relay_diffusion.data.scenes.scene import RELATIONS
from relay_diffusion.data.scenes.styles import STYLES
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import World, held_out, is_held_out, size_word
from relay_diffusion.errors import RelayError

WORLDS = {"full": World.full(), "small": World.small()}
NUM = 1500


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


def test_the_full_world_is_as_large_as_promised() -> None:
    full, small = WORLDS["full"], WORLDS["small"]
    assert len(full.subjects) >= 300
    assert len(set(full.backgrounds) & set(COLOURS)) >= 12
    assert len(set(full.backgrounds) - set(COLOURS)) >= 8
    assert len(full.styles) >= 5 and full.max_things == 4
    assert (len(small.subjects), small.max_things) == (64, 2)
    assert (len(small.backgrounds), len(small.styles)) == (8, 3)
    assert set(small.subjects) <= set(full.subjects)


def test_the_renderer_knows_everything_in_the_vocabulary() -> None:
    vocabulary = load_vocabulary()
    assert set(vocabulary.backgrounds) == set(BACKGROUNDS)
    assert set(vocabulary.styles) == set(STYLES)
    assert set(vocabulary.tints) <= set(COLOURS)


def test_no_name_means_two_things() -> None:
    names = [name for s in load_vocabulary().subjects.values() for name in s.singulars]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_equal_seeds_give_equal_scenes(world: World) -> None:
    scenes = [world.sample(seed) for seed in range(50)]
    assert scenes == [world.sample(seed) for seed in range(50)]
    assert len(set(scenes)) == 50


def test_the_splits_share_no_combination(world: World) -> None:
    for seed in range(NUM):
        assert not is_held_out(world.sample(seed, "train"))
        assert is_held_out(world.sample(seed, "held-out"))


def test_about_one_combination_in_eight_is_held_out() -> None:
    subjects = WORLDS["full"].subjects
    share = sum(held_out("background", s, b) for s in subjects for b in BACKGROUNDS)
    assert 0.10 < share / len(subjects) / len(BACKGROUNDS) < 0.14
    assert held_out("pair", "fox", "owl") == held_out("pair", "owl", "fox")


def test_things_lie_inside_and_apart(world: World) -> None:
    for seed in range(NUM):
        scene = world.sample(seed)
        assert 1 <= len(scene.things) <= world.max_things
        for thing in scene.things:
            for centre in (thing.x, thing.y):
                outside = max(0.0, thing.size / 2 - min(centre, 1 - centre))
                assert outside <= 0.06 * thing.size + 1e-9
        for i, a in enumerate(scene.things):
            for b in scene.things[i + 1 :]:
                gap = max(abs(a.x - b.x), abs(a.y - b.y)) - (a.size + b.size) / 2
                assert gap > -0.07


def test_relations_are_plain_to_see(world: World) -> None:
    seen = set()
    for seed in range(NUM):
        scene = world.sample(seed)
        if scene.relation in (None, "in a row"):
            continue
        seen.add(scene.relation)
        first, second = scene.things
        dx, dy = first.x - second.x, first.y - second.y
        along, across, sign = {
            "left of": (dx, dy, -1),
            "right of": (dx, dy, 1),
            "above": (dy, dx, -1),
            "below": (dy, dx, 1),
        }[scene.relation]
        assert sign * along > abs(across)
        assert sign * along > 0.2
    assert seen == set(RELATIONS) - {"in a row"}


def test_sizes_have_words_only_where_they_are_spoken_of() -> None:
    words = Counter()
    for seed in range(NUM):
        scene = WORLDS["full"].sample(seed)
        for thing in scene.things:
            word = size_word(scene, thing)
            words[len(scene.things) <= 2, word] += 1
    assert all(words[True, word] > 50 for word in ("small", "", "large"))
    assert words[False, "small"] == words[False, "large"] == 0


def test_an_unknown_world_says_which_there_are() -> None:
    with pytest.raises(RelayError, match="full and small"):
        World.by_name("medium")
