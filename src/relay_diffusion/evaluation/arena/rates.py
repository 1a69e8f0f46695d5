"""How often one model's pictures are preferred to another's, with an interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from relay_diffusion.evaluation.arena.votes import Vote
from relay_diffusion.evaluation.bootstrap import interval


@dataclass(frozen=True)
class Tally:
    """Votes for model A, for neither, and for model B."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def num(self) -> int:
        return self.wins + self.ties + self.losses

    def percent(self) -> tuple[float, float, float]:
        """Of all votes, ties included, as the paper's figures show them."""
        return (
            100 * self.wins / self.num,
            100 * self.ties / self.num,
            100 * self.losses / self.num,
        )


@dataclass(frozen=True)
class Rate:
    """A win rate in [0, 1] with the 95% interval of a bootstrap over prompts."""

    rate: float
    low: float
    high: float
    num_prompts: int


def tally(votes: Iterable[Vote], a: str) -> Tally:
    """Count votes, all of them between ``a`` and one other model."""
    outcomes = [None if vote.winner is None else vote.winner == a for vote in votes]
    return Tally(outcomes.count(True), outcomes.count(None), outcomes.count(False))


def by_prompt(votes: Iterable[Vote], a: str) -> dict[str, Tally]:
    """A tally for each prompt, in the order of the first votes."""
    groups: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        groups[vote.prompt].append(vote)
    return {prompt: tally(group, a) for prompt, group in groups.items()}


def win_rate(tallies: Sequence[Tally], seed: int = 0) -> Rate | None:
    """The pooled win rate over tallies, one a prompt:

        rate = wins of A / (wins of A + wins of B)

    Ties are left out. Over the votes on both questions together this is the win rate of CogView3
    (arXiv:2403.05121): its percentages of wins, ties and losses against SDXL, 49.5 / 31 / 19.5 for
    alignment and 72.5 / 10.5 / 17 for aesthetics, give (49.5 + 72.5) / (49.5 + 72.5 + 19.5 + 17),
    the 77.0% of its abstract.

    The interval is the percentile bootstrap over prompts: votes on one prompt, its two questions
    included, are not independent. Resamples of nothing but ties are left out of it.

    Returns: None if every vote is a tie.
    """
    decided = np.array([(tally.wins, tally.wins + tally.losses) for tally in tallies])
    if not decided.size or not decided[:, 1].any():
        return None
    low, high = interval(decided, seed)
    wins, num = decided.sum(0)
    return Rate(float(wins / num), low, high, len(decided))
