"""How often pictures show what was asked for, question by question, with an interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relay_diffusion.evaluation.judge import Verdict, agreement
from relay_diffusion.evaluation.suites import Prompt

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """A rate in [0, 1] with the 95% interval of a bootstrap over prompts.

    Attributes:
        num_prompts, num_pictures: that asked the question.
    """

    rate: float
    low: float
    high: float
    num_prompts: int
    num_pictures: int


def alignment(
    prompts: Sequence[Prompt], read: Sequence[Sequence[Verdict]], seed: int = 0
) -> dict[str, Score]:
    """Scores by question (see ``judge.agreement``); ``read[i]`` are the verdicts on the pictures of
    prompt i. A prompt counts by the mean over its pictures, weighted by how many were asked."""
    answers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for prompt, verdicts in zip(prompts, read, strict=True):
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for verdict in verdicts:
            for question, holds in agreement(prompt.scene, verdict).items():
                counts[question][0] += holds
                counts[question][1] += 1
        for question, (right, asked) in counts.items():
            answers[question].append((right, asked))
    return {question: _score(np.array(pairs), seed) for question, pairs in sorted(answers.items())}


def _score(pairs: np.ndarray, seed: int) -> Score:
    """From (right, asked) by prompt: the ratio of sums, and its percentile bootstrap interval."""
    rng = np.random.default_rng(seed)
    chosen = pairs[rng.integers(len(pairs), size=(NUM_RESAMPLES, len(pairs)))].sum(1)
    low, high = np.quantile(chosen[:, 0] / chosen[:, 1], [0.025, 0.975])
    right, asked = pairs.sum(0)
    return Score(float(right / asked), float(low), float(high), len(pairs), int(asked))
