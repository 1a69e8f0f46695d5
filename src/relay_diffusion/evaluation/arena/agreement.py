"""Whether raters agree, beyond what chance would give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import evalica
import pandas as pd

from relay_diffusion.evaluation.arena.votes import Vote

TIE = ""


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha over the pairs on which two raters or more have voted."""

    alpha: float
    num_pairs: int
    num_raters: int


def agreement(votes: Sequence[Vote]) -> Agreement | None:
    """Krippendorff's alpha, nominal, of the votes on one question.

        alpha = 1 - D_o / D_e

    D_o is the share of differing answers among the pairs of answers that raters gave to the same
    pair of pictures, D_e that share among all answers, whatever the pictures. The answers are A, B
    and tie. 1 is agreement, 0 is chance. Raters need not have seen the same pairs.
    Krippendorff, Content Analysis (2018), chapter 12; computed by evalica.

    Returns: None if no pair has two raters, or all their answers are the same (0 / 0).
    """
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for vote in votes:
        # Sides and not names: of three models, chance would be measured against answers that a pair
        # of two of them does not have.
        side = TIE if vote.winner is None else "AB"[vote.models.index(vote.winner)]
        answers[vote.pair][vote.rater] = side
    return krippendorff(answers)


def krippendorff(answers: Mapping[str, Mapping[str, str]]) -> Agreement | None:
    """Alpha of nominal answers, by what was asked and by rater; as :func:`agreement`."""
    shared = {pair: given for pair, given in answers.items() if len(given) > 1}
    if len({answer for given in shared.values() for answer in given.values()}) < 2:
        return None
    raters = sorted({rater for given in shared.values() for rater in given})
    table = pd.DataFrame(
        [[given.get(rater) for given in shared.values()] for rater in raters], dtype=object
    )
    return Agreement(float(evalica.alpha(table).alpha), len(shared), len(raters))
