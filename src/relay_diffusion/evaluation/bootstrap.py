"""A mean over pictures, and how far it can be trusted: the bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000


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
    rng = np.random.default_rng(seed)
    chosen = pairs[rng.integers(len(pairs), size=(NUM_RESAMPLES, len(pairs)))].sum(1)
    chosen = chosen[chosen[:, 1] > 0]
    low, high = np.quantile(chosen[:, 0] / chosen[:, 1], [0.025, 0.975])
    return float(low), float(high)
