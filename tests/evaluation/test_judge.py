"""The judge: reads its own perfect maps back, learns, answers what a scene asks, saves itself."""

from __future__ import annotations

import math

import pytest
import torch

from relay_diffusion.data.scenes.render import render
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge import Judge, Seen, Verdict, agreement
from relay_diffusion.evaluation.judge.learning import judge_loss, spoil, targets_of
from relay_diffusion.evaluation.judge.network import (
    CELLS,
    NO_TINT,
    Answers,
    JudgeNetwork,
    Reading,
)
from relay_diffusion.evaluation.judge.verdict import verdicts
from relay_diffusion.training.draws import Draws
from tests.data.shapes import shapes_atlas

ANSWERS = Answers(
    ("ball", "sea"), (NO_TINT, "red", "blue"), ("white", "meadow"), ("flat", "mosaic")
)
TWO = Scene(
    (Thing("ball", "red", 0.27, 0.40, 0.35), Thing("sea", None, 0.75, 0.55, 0.40)),
    "left of",
    "meadow",
    "mosaic",
    3,
)
ONE = Scene((Thing("sea", "blue", 0.5, 0.5, 0.5),), None, "white", "flat", 4)


def perfect(scene: Scene) -> Reading:
    """Maps of a judge that knows."""
    heat = torch.full((1, 2, CELLS, CELLS), -9.0)
    tint = torch.zeros(1, 3, CELLS, CELLS)
    box = torch.zeros(1, 3, CELLS, CELLS)
    for thing in scene.things:
        x, y = thing.x * CELLS, thing.y * CELLS
        column, row = int(x), int(y)
        heat[0, ANSWERS.subjects.index(thing.subject), row, column] = 9.0
        tint[0, ANSWERS.tints.index(thing.tint or NO_TINT), row, column] = 9.0
        box[0, :, row, column] = torch.tensor([x - column, y - row, math.log2(thing.size)])
    background = 9.0 * torch.eye(2)[[ANSWERS.backgrounds.index(scene.background)]]
    style = 9.0 * torch.eye(2)[[ANSWERS.styles.index(scene.style)]]
    return Reading(heat, tint, box, background, style)


@pytest.mark.parametrize("scene", [ONE, TWO])
def test_perfect_maps_read_back_as_the_scene(scene: Scene) -> None:
    (verdict,) = verdicts(perfect(scene), ANSWERS)
    assert (verdict.background, verdict.style) == (scene.background, scene.style)
    found = sorted(verdict.things, key=lambda thing: thing.x)
    for seen, thing in zip(found, scene.things, strict=True):
        assert (seen.subject, seen.tint) == (thing.subject, thing.tint)
        assert (seen.x, seen.y, seen.size) == pytest.approx(
            (thing.x, thing.y, thing.size), abs=1e-5
        )
    facts = agreement(scene, verdict)
    assert facts and all(facts.values())


def test_perfect_maps_cost_almost_nothing_and_wrong_ones_much() -> None:
    scenes = [ONE, TWO]
    readings = [perfect(scene) for scene in scenes]
    both = Reading(
        **{name: torch.cat([vars(r)[name] for r in readings]) for name in vars(readings[0])}
    )
    right = judge_loss(both, targets_of(scenes, ANSWERS))
    wrong = judge_loss(both, targets_of(scenes[::-1], ANSWERS))
    assert right.shape == (2,)
    assert (right < 0.02).all()
    assert (wrong > 5).all()


def saw(*things: tuple[str, str | None, float, float]) -> Verdict:
    seen = [Seen(subject, tint, x, y, 0.3, 0.9) for subject, tint, x, y in things]
    return Verdict(tuple(seen), "meadow", "mosaic")


@pytest.mark.parametrize(
    ("verdict", "wrong"),
    [
        (saw(("ball", "red", 0.3, 0.4), ("sea", None, 0.7, 0.4)), set()),
        (saw(("ball", "red", 0.7, 0.4), ("sea", None, 0.3, 0.4)), {"position"}),
        (saw(("ball", None, 0.3, 0.4), ("sea", "red", 0.7, 0.4)), {"colour"}),
        (saw(("ball", "red", 0.3, 0.4)), {"both subjects"}),
    ],
)
def test_each_question_is_answered_by_what_it_asks(verdict: Verdict, wrong: set[str]) -> None:
    facts = agreement(TWO, verdict)
    assert {name for name, holds in facts.items() if not holds} == wrong


def test_position_is_asked_only_of_what_is_there() -> None:
    assert "position" not in agreement(TWO, saw(("ball", "red", 0.3, 0.4)))


def test_a_count_is_exact() -> None:
    pair = Scene((ONE.things[0],) * 2, None, "meadow", "mosaic", 1)
    one, two = ("sea", "blue", 0.3, 0.5), ("sea", "blue", 0.7, 0.5)
    assert agreement(pair, saw(one, two))["count"]
    assert not agreement(pair, saw(one))["count"]
    assert not agreement(pair, saw(one, two, ("sea", None, 0.5, 0.1)))["count"]


def test_the_network_learns_two_scenes_and_survives_its_folder(tmp_path) -> None:
    torch.manual_seed(0)
    x = render(shapes_atlas(ANSWERS.subjects), [ONE, TWO], 128, 128)
    network = JudgeNetwork(ANSWERS, width=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    targets = targets_of([ONE, TWO], ANSWERS)
    for _ in range(60):
        optimizer.zero_grad()
        judge_loss(network(x), targets).sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    judge = Judge(network, {"rendered": {"subject": 1.0}})
    for scene, verdict in zip([ONE, TWO], judge.read(x), strict=True):
        assert all(agreement(scene, verdict).values())
    judge.save_pretrained(tmp_path)
    again = Judge.from_pretrained(tmp_path)
    assert again.accuracy == judge.accuracy
    assert [v.background for v in again.read(x)] == ["white", "meadow"]


def test_a_folder_without_a_judge_says_what_is_missing(tmp_path) -> None:
    with pytest.raises(RelayError, match=r"config\.json"):
        Judge.from_pretrained(tmp_path)


def test_spoiling_keeps_size_and_range_and_half_of_the_pictures() -> None:
    x = torch.rand(64, 3, 128, 128) * 2 - 1
    spoilt = spoil(x, Draws.of_batch(0, "test", 0, 64))
    assert spoilt.abs().max() <= 1
    changed = (spoilt - x).abs().amax((1, 2, 3)) > 1e-3
    assert 20 < int(changed.sum()) < 44
