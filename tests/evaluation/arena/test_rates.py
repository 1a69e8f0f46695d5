from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest

from relay_diffusion.evaluation.arena.agreement import agreement, krippendorff
from relay_diffusion.evaluation.arena.ranking import bradley_terry, groups
from relay_diffusion.evaluation.arena.rates import Tally, by_prompt, tally, win_rate
from relay_diffusion.evaluation.arena.votes import Question, Vote


def a_vote(
    winner: str | None,
    models: tuple[str, str] = ("A", "B"),
    question: Question = "alignment",
    prompt: str = "a fox",
    pair: str = "0",
    rater: str = "anna",
) -> Vote:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return Vote(pair, prompt, models, rater, question, winner, models[0], time)


def votes_on(question: Question, wins: int, ties: int, losses: int) -> list[Vote]:
    """One vote on each prompt."""
    winners = ["A"] * wins + [None] * ties + ["B"] * losses
    return [a_vote(w, question=question, prompt=f"prompt {i}") for i, w in enumerate(winners)]


# The percentages of CogView3's human evaluation (wins, ties, losses), of 200 prompts each.
SDXL = votes_on("alignment", 99, 62, 39) + votes_on("beauty", 145, 21, 34)
CASCADE = votes_on("alignment", 92, 71, 37) + votes_on("beauty", 150, 19, 31)


@pytest.mark.parametrize(
    ("votes", "alignment", "beauty", "published"),
    [
        (SDXL, (49.5, 31, 19.5), (72.5, 10.5, 17), 77.0),
        (CASCADE, (46, 35.5, 18.5), (75, 9.5, 15.5), 78.1),
    ],
)
def test_the_papers_percentages_give_its_win_rates(
    votes: list[Vote],
    alignment: tuple[float, ...],
    beauty: tuple[float, ...],
    published: float,
) -> None:
    assert tally([v for v in votes if v.question == "alignment"], "A").percent() == alignment
    assert tally([v for v in votes if v.question == "beauty"], "A").percent() == beauty
    rate = win_rate(list(by_prompt(votes, "A").values()))
    assert rate is not None
    assert round(100 * rate.rate, 1) == published
    by_hand = (alignment[0] + beauty[0]) / (alignment[0] + beauty[0] + alignment[2] + beauty[2])
    assert rate.rate == pytest.approx(by_hand)
    assert rate.num_prompts == 200
    other = win_rate(list(by_prompt(votes, "B").values()))
    assert other is not None
    assert other.rate == pytest.approx(1 - rate.rate)


@pytest.mark.slow
def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        # Two votes on a prompt that always agree: prompts, not votes, are what is drawn.
        tallies = [Tally(wins=2 * won, losses=2 * (1 - won)) for won in rng.random(60) < 0.7]
        rate = win_rate(tallies)
        assert rate is not None
        covered += rate.low <= 0.7 <= rate.high
    assert 0.9 <= covered / 100 <= 0.98


def test_the_interval_is_the_same_every_time_and_depends_on_the_seed() -> None:
    tallies = list(by_prompt(SDXL, "A").values())
    assert win_rate(tallies) == win_rate(tallies)
    assert win_rate(tallies, seed=1) != win_rate(tallies)


def test_nothing_but_ties_has_no_win_rate() -> None:
    assert win_rate([Tally(ties=3)]) is None
    assert win_rate([]) is None
    # Resamples without a decided vote are left out.
    rate = win_rate([Tally(ties=1)] * 9 + [Tally(wins=1)])
    assert rate is not None
    assert (rate.rate, rate.low, rate.high) == (1, 1, 1)


def hunter(wins: np.ndarray, num_steps: int = 5000) -> np.ndarray:
    """Bradley-Terry by the MM iteration of Hunter (2004), eq. 3: an independent second opinion.

    wins[i, j]: how often i beat j. Returns strengths of geometric mean 1.
    """
    strengths = np.ones(len(wins))
    met = wins + wins.T
    for _ in range(num_steps):
        strengths = wins.sum(1) / (met / (strengths[:, None] + strengths)).sum(1)
        strengths /= np.exp(np.log(strengths).mean())
    return strengths


def random_votes(strengths: Sequence[float], num: int, seed: int) -> list[Vote]:
    rng = np.random.default_rng(seed)
    names = "ABCDE"[: len(strengths)]
    votes = []
    for _ in range(num):
        i, j = (int(k) for k in rng.permutation(len(strengths))[:2])
        first_wins = rng.random() < strengths[i] / (strengths[i] + strengths[j])
        tied = rng.random() < 0.2
        winner = None if tied else names[i] if first_wins else names[j]
        votes.append(a_vote(winner, models=(names[i], names[j])))
    return votes


def test_strengths_agree_with_a_second_implementation() -> None:
    true = [4.0, 2.0, 1.0, 0.25]
    votes = random_votes(true, 600, seed=3)
    wins = np.zeros((4, 4))
    for vote in votes:
        i, j = ("ABCD".index(name) for name in vote.models)
        if vote.winner is None:
            wins[i, j] += 0.5
            wins[j, i] += 0.5
        else:
            winner = "ABCD".index(vote.winner)
            wins[winner, i + j - winner] += 1
    ranked = bradley_terry(votes, list("ABCD"))
    assert not isinstance(ranked, str)
    assert [row.model for row in ranked] == list("ABCD")
    assert [row.strength for row in ranked] == pytest.approx(hunter(wins).tolist(), rel=1e-5)
    assert ranked[0].points == pytest.approx(400 * np.log10(ranked[0].strength))
    assert sum(row.points for row in ranked) == pytest.approx(0, abs=1e-6)


def test_two_models_have_the_odds_of_their_votes() -> None:
    ranked = bradley_terry([a_vote("A")] * 3 + [a_vote("B")], ["A", "B"])
    assert not isinstance(ranked, str)
    assert ranked[0].strength / ranked[1].strength == pytest.approx(3)


def test_a_model_that_never_lost_has_no_strength() -> None:
    votes = [a_vote("A"), a_vote("A", ("A", "C")), a_vote("B", ("B", "C")), a_vote("C", ("B", "C"))]
    assert (
        bradley_terry(votes, ["A", "B", "C"]) == "some models never lost or drew against the others"
    )
    tied = bradley_terry([*votes, a_vote(None, ("C", "A"))], ["A", "B", "C"])
    assert not isinstance(tied, str)


def test_models_that_never_met_are_not_said_to_have_won() -> None:
    votes = [a_vote(None), a_vote(None, ("C", "D")), a_vote("C", ("C", "E"))]
    assert groups(votes, list("ABCDEF")) == [["A", "B"], ["C", "D", "E"], ["F"]]
    assert bradley_terry(votes, list("ABCDE")) == "some models never met the others"


def test_agreement_is_krippendorffs() -> None:
    """His example of nominal data with four raters and missing answers: Computing Krippendorff's
    Alpha-Reliability (2011), section C, where alpha is 0.743."""
    table = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    answers = {
        str(unit): {str(rater): row[unit] for rater, row in enumerate(table) if row[unit] != "."}
        for unit in range(12)
    }
    found = krippendorff(answers)
    assert found is not None
    assert round(found.alpha, 3) == 0.743
    assert (found.num_pairs, found.num_raters) == (11, 4)


def test_agreement_by_chance_is_0_however_many_models_there_are() -> None:
    """Each pair of three models, and each pair of answers without a tie, once."""
    votes = [
        a_vote(models[side], models, pair=f"{models} {sides}", rater=rater)
        for models in (("A", "B"), ("B", "C"), ("C", "A"))
        for sides in product((0, 1), repeat=2)
        for rater, side in zip(("anna", "ben"), sides, strict=True)
    ]
    found = agreement(votes)
    assert found is not None
    # D_o = 1/2; of 24 answers half are A: D_e = 12 / 23.
    assert found.alpha == pytest.approx(1 - (1 / 2) / (12 / 23))


def test_agreement_counts_a_tie_as_an_answer() -> None:
    answers = [("A", "A"), (None, None), ("B", "B"), (None, "B")]
    votes = [
        a_vote(answer, pair=str(unit), rater=rater)
        for unit, both in enumerate(answers)
        for rater, answer in zip(("anna", "ben"), both, strict=True)
    ]
    found = agreement(votes)
    assert found is not None
    # Coincidences: D_o = 2/8; of 8 answers 2 are A, 3 tie, 3 B: D_e = 2 (6 + 6 + 9) / (8 * 7).
    assert found.alpha == pytest.approx(1 - (2 / 8) / (42 / 56))


def test_one_rater_or_one_answer_has_no_agreement() -> None:
    assert agreement([a_vote("A", pair=str(unit)) for unit in range(3)]) is None
    assert agreement([a_vote("A", rater=rater) for rater in ("anna", "ben")]) is None
    assert agreement([]) is None
