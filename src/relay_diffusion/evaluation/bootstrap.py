"""Means over pictures and differences of them, and how far they can be trusted: the bootstrap over
prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000

FEWEST = 6
"""Prompts that must differ before a difference is decided: of five, all in favour of one model, one
toss in sixteen comes out so too (a sign test), however far from 0 the interval lies."""

Sums = Mapping[int, tuple[float, int]]
"""By the number of a prompt that is asked: the sum over its pictures, and how many they are."""


@dataclass(frozen=True)
class Score:
    """A mean over pictures with the 95% interval of a percentile bootstrap over prompts.

    Prompts are drawn, not pictures, since the pictures of one prompt are not independent.

    Attributes:
        value: a share in [0, 1] for questions; what the scorer gives for scorers.
        num_prompts, num_pictures: that it was asked of.
    """

    value: float
    low: float
    high: float
    num_prompts: int
    num_pictures: int


@dataclass(frozen=True)
class Difference:
    """A model's mean less that of another with the 95% interval of a paired bootstrap over prompts.

    Attributes:
        value: in the unit of the means; above 0 is in favour of the model.
        num_prompts: asked of one or both. num_differing: whose pictures did not get the same.
        word: "better" or "worse" if the interval lies on one side of 0 and ``FEWEST`` prompts
            differ, else "undecided".
    """

    value: float
    low: float
    high: float
    num_prompts: int
    num_differing: int
    word: str


def scores_of(sums: Mapping[str, Sums]) -> dict[str, Score]:
    """``score`` of each name, in the order of the alphabet."""
    return {name: score(list(sums[name].values())) for name in sorted(sums)}


def score(by_prompt: Sequence[tuple[float, int]], seed: int = 0) -> Score:
    """The ratio of sums of (sum over a prompt's pictures, how many they are), one pair a prompt."""
    pairs = np.array(by_prompt, dtype=np.float64)
    low, high = interval(pairs, seed)
    total, num = pairs.sum(0)
    return Score(float(total / num), low, high, len(pairs), int(num))


def interval(pairs: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of a ratio of sums over resampled rows (numerator, denominator).

    Resamples whose denominators are all 0 are left out; not all rows may have 0.
    """
    chosen = _resampled(pairs, seed)
    chosen = chosen[chosen[:, 1] > 0]
    low, high = np.quantile(chosen[:, 0] / chosen[:, 1], [0.025, 0.975])
    return float(low), float(high)


def difference(model: Sums, other: Sums, seed: int = 0) -> Difference:
    """Of the ratios of sums that ``score`` takes, ``model`` less ``other``.

    Each resample of the prompts is put to both, so what makes a prompt hard for both cancels out:
    two intervals that overlap may well differ for certain. A prompt asked of one model only counts
    in its ratio alone. Neither may be empty, nor have no pictures at all.
    """
    asked = sorted({*model, *other})
    rows = np.array(
        [(*model.get(i, (0, 0)), *other.get(i, (0, 0))) for i in asked], dtype=np.float64
    )
    sums = _resampled(rows, seed)
    gaps = _gap(sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)])
    # Sums of shares that are equal may differ in the last bit: a bound of 0 must be one.
    low, high = np.quantile(gaps, [0.025, 0.975]).round(12) + 0.0
    num_differing = sum(_differs(model.get(i), other.get(i)) for i in asked)
    word = "undecided"
    if num_differing >= FEWEST and not low <= 0 <= high:
        word = "better" if low > 0 else "worse"
    value = float(_gap(rows.sum(0)[None])[0])
    return Difference(value, float(low), float(high), len(rows), num_differing, word)


def _differs(one: tuple[float, int] | None, two: tuple[float, int] | None) -> bool:
    """Whether a prompt came out differently; by its ratio where both have pictures of it, since one
    may have been asked about more of them."""
    if one is None or two is None or not one[1] or not two[1]:
        return one != two
    return abs(one[0] / one[1] - two[0] / two[1]) > 1e-9


def _resampled(rows: np.ndarray, seed: int) -> np.ndarray:
    """Sums of ``NUM_RESAMPLES`` draws of as many rows, with replacement."""
    rng = np.random.default_rng(seed)
    num = len(rows)
    return np.array([rows[rng.integers(num, size=num)].sum(0) for _ in range(NUM_RESAMPLES)])


def _gap(sums: np.ndarray) -> np.ndarray:
    """Of rows (numerator, denominator, other's numerator, other's denominator)."""
    gap: np.ndarray = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
    return gap
