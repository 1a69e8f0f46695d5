"""Differences between models: paired by prompt, with an interval that decides or does not."""

from __future__ import annotations

from typing import Any

import pytest

from relay_diffusion.evaluation.bootstrap import FEWEST, difference, score

NUM = 100


def shares(values: list[float]) -> dict[int, tuple[float, int]]:
    """Four pictures of each prompt."""
    return {i: (4 * value, 4) for i, value in enumerate(values)}


def test_the_interval_is_that_of_a_binomial() -> None:
    """Twenty prompts of a hundred differ, each by 1: resamples hold Binomial(100, 0.2) of them,
    whose 2.5% and 97.5% quantiles are 12.5 (between 12 and 13) and 28."""
    found = difference(shares([1.0] * 20 + [0.0] * 80), shares([0.0] * NUM))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.125, abs=0.011)
    assert found.high == pytest.approx(0.28, abs=0.011)
    assert (found.num_prompts, found.num_differing, found.word) == (NUM, 20, "better")


def test_pairs_decide_where_separate_intervals_overlap() -> None:
    """Prompts from easy to hard, and a model that is better by 0.02 on each."""
    hard = [0.9 * i / NUM for i in range(NUM)]
    first, better = shares(hard), shares([value + 0.02 for value in hard])
    apart = [score(list(one.values())) for one in (first, better)]
    assert apart[0].high > apart[1].low  # by themselves, they say nothing
    found = difference(better, first)
    assert (found.low, found.value, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert found.word == "better"
    assert difference(first, better).word == "worse"


def test_what_goes_both_ways_is_undecided() -> None:
    won, lost = [1.0] * 11 + [0.0] * 89, [0.0] * 91 + [1.0] * 9
    found = difference(shares(won), shares(lost))
    assert found.value == pytest.approx(0.02)
    assert found.low < 0 < found.high
    assert found.word == "undecided"


def test_equal_models_and_sums_in_another_order_are_undecided() -> None:
    thirds = shares([1 / 3, 0.1, 0.7] * 10)
    assert difference(thirds, thirds).word == "undecided"
    jittered = {i: (total * (1 + 2e-16), num) for i, (total, num) in thirds.items()}
    found = difference(jittered, thirds)
    assert (found.low, found.high, found.word) == (0.0, 0.0, "undecided")


@pytest.mark.parametrize("num", [1, FEWEST - 1, FEWEST])
def test_few_prompts_decide_nothing(num: int) -> None:
    found = difference(shares([1.0] * num), shares([0.0] * num))
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.word == ("better" if num == FEWEST else "undecided")


def test_a_prompt_asked_about_more_pictures_did_not_come_out_differently() -> None:
    """As of position, which is asked only where the things are there."""
    first = {i: (4.0, 4) for i in range(10)}
    second = {i: (3.0, 3) for i in range(10)} | {0: (0.0, 4)}
    found = difference(second, first)
    assert (found.num_differing, found.word) == (1, "undecided")


def test_a_prompt_asked_of_one_model_counts_in_its_ratio_alone() -> None:
    """As positions are, where only one of them shows the things: 3 of 4 less 1 of 2."""
    found = difference({0: (2, 2), 1: (1, 2)}, {1: (1, 2)})
    assert found.value == pytest.approx(3 / 4 - 1 / 2)
    assert (found.num_prompts, found.num_differing) == (2, 1)


def test_a_run_differs_from_its_first_model_in_all_that_was_measured() -> None:
    from relay_diffusion.evaluation.results import _row
    from relay_diffusion.evaluation.scoring import Measured

    def measured(value: float, **more: Any) -> Measured:
        sums = {"questions": {"facts": shares([value] * 8)}, "clip by task": {}, **more}
        return Measured({}, {}, {}, {}, {}, None, [], [], sums)

    first, second = measured(0.5), measured(0.75, scores={"clip": shares([30.0] * 8)})
    assert _row(first, None)["differences"] == {}
    row = _row(second, first)
    assert "sums" not in row
    assert row["differences"]["questions"]["facts"] == {
        "value": 0.25,
        "low": 0.25,
        "high": 0.25,
        "num_prompts": 8,
        "num_differing": 8,
        "word": "better",
    }
    assert "scores" not in row["differences"]  # measured of one only
