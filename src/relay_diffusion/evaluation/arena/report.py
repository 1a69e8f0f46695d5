"""The outcome of an arena, from its votes: numbers, and the files that show them."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.agreement import Agreement, agreement
from relay_diffusion.evaluation.arena.ranking import Strength, bradley_terry, groups
from relay_diffusion.evaluation.arena.rates import Rate, Tally, by_prompt, tally, win_rate
from relay_diffusion.evaluation.arena.votes import QUESTIONS, Vote, VoteStore

Ranking = dict[str, list[Strength] | str]


@dataclass(frozen=True)
class Meeting:
    """Two models.

    Attributes:
        win_rate: of ``a``, over both questions.
        tallies, rates: by question.
        prompts: by prompt and question.
    """

    a: str
    b: str
    num_pairs: int
    win_rate: Rate | None
    tallies: dict[str, Tally]
    rates: dict[str, Rate | None]
    prompts: dict[str, dict[str, Tally]]


@dataclass(frozen=True)
class Report:
    """What the votes say.

    Attributes:
        rankings: of each group of three models or more that met, by question, and over both: the
            strengths, or why there are none.
        left: votes for the picture on the left, ties, and for the one on the right: should balance.
        seconds_per_pair: median time between a rater's finished pairs; None below two pairs.
    """

    num_votes: int
    num_raters: int
    seconds_per_pair: float | None
    meetings: list[Meeting]
    rankings: list[Ranking]
    agreement: dict[str, Agreement | None]
    left: Tally


def make_report(store: VoteStore) -> Report:
    """Raises: RelayError if there is no vote."""
    votes = store.votes()
    if not votes:
        raise RelayError(f"{store.path} holds no vote yet; relay arena A B --db {store.path}")
    voted = {name for vote in votes for name in vote.models}
    models = [name for name in store.models() if name in voted]
    meetings = []
    for a, b in combinations(models, 2):
        met = [vote for vote in votes if set(vote.models) == {a, b}]
        if met:
            meetings.append(_meeting(met, a, b))
    decided = [vote.left == vote.winner for vote in votes if vote.winner is not None]
    return Report(
        num_votes=len(votes),
        num_raters=len({vote.rater for vote in votes}),
        seconds_per_pair=_seconds_per_pair(votes),
        meetings=meetings,
        rankings=[_ranking(votes, group) for group in groups(votes, models) if len(group) > 2],
        agreement={question: agreement(_on(votes, question)) for question in QUESTIONS},
        left=Tally(decided.count(True), len(votes) - len(decided), decided.count(False)),
    )


def _ranking(votes: Sequence[Vote], models: Sequence[str]) -> Ranking:
    own = [vote for vote in votes if vote.models[0] in models]
    return {
        "both": bradley_terry(own, models),
        **{question: bradley_terry(_on(own, question), models) for question in QUESTIONS},
    }


def _meeting(votes: Sequence[Vote], a: str, b: str) -> Meeting:
    prompts = {
        question: by_prompt([vote for vote in votes if vote.question == question], a)
        for question in QUESTIONS
    }
    return Meeting(
        a=a,
        b=b,
        num_pairs=len({vote.pair for vote in votes}),
        win_rate=win_rate(list(by_prompt(votes, a).values())),
        tallies={question: tally(_on(votes, question), a) for question in QUESTIONS},
        rates={question: win_rate(list(prompts[question].values())) for question in QUESTIONS},
        prompts={
            prompt: {question: prompts[question].get(prompt, Tally()) for question in QUESTIONS}
            for prompt in dict.fromkeys(vote.prompt for vote in votes)
        },
    )


def _on(votes: Sequence[Vote], question: str) -> list[Vote]:
    return [vote for vote in votes if vote.question == question]


def _seconds_per_pair(votes: Sequence[Vote]) -> float | None:
    """The median is not moved by pauses, unless they are as frequent as pairs."""
    finished: dict[str, dict[str, float]] = defaultdict(dict)
    for vote in votes:
        finished[vote.rater][vote.pair] = vote.time.timestamp()
    times = [sorted(of_rater.values()) for of_rater in finished.values()]
    gaps = [b - a for ends in times for a, b in pairwise(ends)]
    return statistics.median(gaps) if gaps else None


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.md, report.json and report.html, which needs no other file.

    Raises: RelayError if they cannot be written.
    """
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    texts = {
        name: environment.get_template(name).render(report=report, questions=QUESTIONS)
        for name in ("report.md", "report.html")
    }
    texts["report.json"] = json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RelayError(f"the report cannot be written into {folder}: {error.strerror}") from error
    return [folder / name for name in texts]
