"""More than two models on one scale: Bradley-Terry strengths."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import evalica
import pandas as pd

from relay_diffusion.evaluation.arena.votes import Vote

TOLERANCE, MOST_ITERATIONS = 1e-9, 100_000


@dataclass(frozen=True)
class Strength:
    """Of a model: geometric mean 1 over the models; ``points`` is 400 log10 of it, as in Elo."""

    model: str
    strength: float
    points: float


def bradley_terry(votes: Sequence[Vote], models: Sequence[str]) -> list[Strength] | str:
    """Strengths p, strongest first, of maximum likelihood in

        P(i is preferred to j) = p_i / (p_i + p_j)

    Bradley and Terry, Biometrika 39 (1952), by evalica with Newman's iteration (JMLR 24, 2023). A
    tie counts as half a win for each side.

    Returns: why there are none, where the likelihood has no maximum: some group of models never met
        the rest, or never lost a vote, nor drew one, against it (Hunter, Annals of Statistics 32,
        2004, assumption 1).
    """
    if len(groups(votes, models)) > 1:
        return "some models never met the others"
    if not _all_connected(votes, models):
        return "some models never lost or drew against the others"
    winner = {0: evalica.Winner.X, 1: evalica.Winner.Y}
    result = evalica.bradley_terry(
        xs=[vote.models[0] for vote in votes],
        ys=[vote.models[1] for vote in votes],
        winners=[
            evalica.Winner.Draw if vote.winner is None else winner[vote.models.index(vote.winner)]
            for vote in votes
        ],
        index=pd.Index(models),
        tolerance=TOLERANCE,
        limit=MOST_ITERATIONS,
    )
    scores = {model: float(result.scores[model]) for model in models}
    mean = math.exp(sum(math.log(score) for score in scores.values()) / len(scores))
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return [Strength(name, s / mean, 400 * math.log10(s / mean)) for name, s in ordered]


def _all_connected(votes: Sequence[Vote], models: Sequence[str]) -> bool:
    """Whether every model can be reached from every other along "was not beaten by"."""
    held: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        a, b = vote.models
        if vote.winner != b:
            held[a].add(b)
        if vote.winner != a:
            held[b].add(a)
    return all(_reached(start, held) == set(models) for start in models)


def groups(votes: Sequence[Vote], models: Sequence[str]) -> list[list[str]]:
    """The models, those together that votes connect: a file of votes may hold several arenas."""
    met: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        a, b = vote.models
        met[a].add(b)
        met[b].add(a)
    found: list[list[str]] = []
    for model in models:
        if not any(model in group for group in found):
            reached = _reached(model, met)
            found.append([name for name in models if name in reached])
    return found


def _reached(start: str, ways: Mapping[str, set[str]]) -> set[str]:
    reached, border = {start}, [start]
    while border:
        new = ways.get(border.pop(), set()) - reached
        reached |= new
        border += new
    return reached
