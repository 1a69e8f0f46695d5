"""The world: big enough, deterministic, in bounds, and split for good."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import get_args

import pytest

from relay_diffusion.data.scenes.backgrounds import BACKGROUNDS, COLOURS
from relay_diffusion.data.scenes.placing import room
from relay_diffusion.data.scenes.scene import RELATIONS
from relay_diffusion.data.scenes.styles import STYLES
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import (
    Split,
    Task,
    World,
    held_out,
    is_held_out,
    size_word,
)
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
    subjects = load_vocabulary().subjects.values()
    names = [name for s in subjects for name in {*s.singulars, s.plural}]
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


@pytest.mark.parametrize(
    "world", [WORLDS["small"], replace(WORLDS["full"], grid=20, aspects=(0.75, 1.0, 1.5))]
)
def test_on_a_grid_boxes_stand_on_its_lines_inside_and_apart(world: World) -> None:
    sizes = set()
    for seed in range(NUM):
        scene = world.sample(seed)
        width, height = room(scene.aspect)
        boxes = [
            (thing.x * width - thing.size / 2, thing.y * height - thing.size / 2, thing.size)
            for thing in scene.things
        ]
        for left, top, size in boxes:
            sizes.add((len(boxes), size))
            for number in (left, top, size):
                assert number * world.grid == pytest.approx(round(number * world.grid), abs=1e-6)
            assert left > -1e-6 and left + size < width + 1e-6
            assert top > -1e-6 and top + size < height + 1e-6
        for (left, top, size), (right, down, other) in combinations(boxes, 2):
            apart = max(
                left - right - other, right - left - size, top - down - other, down - top - size
            )
            assert apart > -1e-6
    assert len([1 for num, _ in sizes if num <= 2]) == 6  # three words for one thing, three for two


def test_only_some_worlds_mirror_things() -> None:
    def faces(world: World) -> set[bool]:
        return {thing.flip for seed in range(50) for thing in world.sample(seed).things}

    assert faces(WORLDS["full"]) == {False, True}
    assert faces(WORLDS["small"]) == {False}


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


def test_several_of_a_subject_stand_in_a_row_only_where_it_is_said() -> None:
    spread: dict[tuple[int, str | None], list[float]] = {}
    for seed in range(4000):
        scene = WORLDS["full"].sample(seed)
        if len(scene.things) > 2 and len({thing.subject for thing in scene.things}) == 1:
            heights = [thing.y for thing in scene.things]
            case = (len(scene.things), scene.relation)
            spread.setdefault(case, []).append(max(heights) - min(heights))
    assert set(spread) == {(num, said) for num in (3, 4) for said in (None, "in a row")}
    for (_, said), heights in spread.items():
        assert max(heights) < 0.07 if said else min(heights) > 0.2


@pytest.mark.parametrize("task", get_args(Task))
def test_a_task_is_posed_in_either_split(world: World, task: Task) -> None:
    for split in get_args(Split):
        for seed in range(20):
            scene = world.sample(seed, split, task)
            assert is_held_out(scene) == (split == "held-out")
            assert scene == world.sample(seed, split, task)
            kinds = [thing.subject for thing in scene.things]
            tints = [thing.tint for thing in scene.things]
            held = {
                "one subject": len(kinds) == 1,
                "two subjects": len(kinds) == 2 and kinds[0] != kinds[1],
                "counting": len(kinds) > 1 and len(set(kinds)) == 1,
                "colour": len(kinds) == 1 and all(tints),
                "position": scene.relation in RELATIONS[:4],
                "colour attribution": all(tints) and len(set(tints)) == len(set(kinds)) == 2,
                "style": len(kinds) == 1 and scene.style != "flat",
                "background": len(kinds) == 1,
            }
            assert held[task]


def test_an_unknown_task_says_which_there_are() -> None:
    with pytest.raises(RelayError, match="colour attribution"):
        WORLDS["small"].sample(0, task="counts")  # type: ignore[arg-type]


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
