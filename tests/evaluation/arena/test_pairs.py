from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from relay_diffusion.evaluation.arena.entries import read_entries
from relay_diffusion.evaluation.arena.pairs import Pair, choose, make_pairs, turns
from tests.evaluation.arena.making import PROMPTS, relay_folder, some_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Three models, six prompts: 18 pairs."""
    return some_pairs(tmp_path_factory.mktemp("pairs"), ("a", "b", "c"))


def test_every_rater_sees_every_pair_once_in_an_own_order(pairs: list[Pair]) -> None:
    orders = [[turn.pair.id for turn in turns(pairs, rater, 0)] for rater in ("anna", "ben")]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order) == sorted(pair.id for pair in pairs)
    assert len(set(orders[0])) == 18


def test_turns_depend_on_rater_and_seed_only(pairs: list[Pair]) -> None:
    assert turns(pairs, "anna", 0) == turns(pairs, "anna", 0)
    assert turns(pairs, "anna", 0) != turns(pairs, "anna", 1)


@pytest.mark.parametrize("rater", ["anna", "ben", "лиса"])
def test_sides_are_balanced_for_every_two_models(pairs: list[Pair], rater: str) -> None:
    left = Counter((turn.pair.models, turn.left) for turn in turns(pairs, rater, 0))
    assert set(left.values()) == {3}
    odd = pairs[:5]
    assert sorted(Counter(turn.left for turn in turns(odd, rater, 0)).values()) == [2, 3]


def test_sides_do_not_follow_from_the_order(pairs: list[Pair]) -> None:
    patterns = {tuple(turn.left for turn in turns(pairs, f"rater {i}", 0)) for i in range(20)}
    assert len(patterns) > 15


def test_a_choice_has_as_many_prompts_and_meetings_as_it_can(pairs: list[Pair]) -> None:
    six = choose(pairs, 6, seed=0)
    assert {pair.prompt for pair in six} == set(PROMPTS)
    assert set(Counter(pair.models for pair in six).values()) == {2}
    assert choose(pairs, 6, seed=0) == six
    assert {pair.id for pair in choose(pairs, 6, seed=1)} != {pair.id for pair in six}
    assert [pair.id for pair in choose(pairs, 9, seed=0)][:6] == [pair.id for pair in six]


def test_without_a_limit_every_pair_is_chosen(pairs: list[Pair]) -> None:
    assert {pair.id for pair in choose(pairs, None, 0)} == {pair.id for pair in pairs}
    assert len(choose(pairs, 10**6, 0)) == 18


def test_a_pair_is_the_same_whatever_the_order_of_the_folders(tmp_path: Path) -> None:
    folders = [relay_folder(tmp_path / name, PROMPTS, [0, 1]) for name in ("a", "b")]
    there, back = (make_pairs(read_entries(way))[0] for way in (folders, folders[::-1]))
    assert {pair.id for pair in there} == {pair.id for pair in back}
    assert len({pair.id for pair in there}) == 12
    by_id = {pair.id: pair for pair in back}
    assert all(pair.token(0, b"s") == by_id[pair.id].token(1, b"s") for pair in there)
    tokens = {pair.token(side, b"s") for pair in there for side in (0, 1)}
    assert len(tokens) == 24
    assert not tokens & {pair.token(side, b"t") for pair in there for side in (0, 1)}
