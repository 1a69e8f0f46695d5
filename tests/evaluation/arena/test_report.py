from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.rates import Tally
from relay_diffusion.evaluation.arena.report import make_report, write_report
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import some_pairs, vote


def test_the_report_of_two_models_says_who_won_where(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path, prompts=["a fox", "an | owl", "<b>a drum</b>"])
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    for pair, alignment, beauty in zip(
        pairs, ["ours", None, "theirs"], ["ours", "ours", "theirs"], strict=True
    ):
        vote(store, pair, "alignment", alignment, "anna")
        vote(store, pair, "beauty", beauty, "anna")
    vote(store, pairs[0], "alignment", "theirs", "ben")

    report = make_report(store)
    (meeting,) = report.meetings
    assert (meeting.a, meeting.b, meeting.num_pairs) == ("ours", "theirs", 3)
    assert meeting.tallies == {"alignment": Tally(1, 1, 2), "beauty": Tally(2, 0, 1)}
    assert meeting.win_rate is not None
    assert meeting.win_rate.rate == pytest.approx(3 / 6)
    assert meeting.prompts["an | owl"] == {"alignment": Tally(0, 1, 0), "beauty": Tally(1, 0, 0)}
    assert (report.num_votes, report.num_raters, report.rankings) == (7, 2, [])
    assert report.left == Tally(3, 1, 3)  # ours was always on the left
    assert report.agreement["beauty"] is None

    files = write_report(report, tmp_path / "report")
    assert sorted(file.name for file in files) == ["report.html", "report.json", "report.md"]
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "Win rate of ours: **50.0% (" in markdown
    assert "| alignment | 25.0 / 25.0 / 50.0 | 1 / 1 / 2 | 33.3% (" in markdown
    assert "| an \\| owl | 0 / 1 / 0 | 1 / 0 / 0 |" in markdown
    html = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;b&gt;a drum&lt;/b&gt;" in html
    assert "http" not in html and "<script" not in html
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert numbers["meetings"][0]["tallies"]["beauty"] == {"wins": 2, "ties": 0, "losses": 1}
    assert "anna" not in markdown + html + json.dumps(numbers)


def test_more_models_are_ranked(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path, ("good", "fair", "poor"))
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    order = ["good", "fair", "poor"]
    for index, pair in enumerate(pairs):
        better, worse = sorted(pair.models, key=order.index)
        vote(store, pair, "alignment", better if index % 3 else worse, "anna")
        vote(store, pair, "beauty", better, "anna")
    report = make_report(store)
    assert [(m.a, m.b) for m in report.meetings] == [
        ("good", "fair"),
        ("good", "poor"),
        ("fair", "poor"),
    ]
    (ranking,) = report.rankings
    assert isinstance(ranking["beauty"], str)  # good never lost
    assert not isinstance(ranking["both"], str)
    assert [row.model for row in ranking["both"]] == order
    write_report(report, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "Beauty: not defined" in text
        assert "good" in text.split("Ranking")[1]


def test_each_arena_of_a_file_has_a_ranking_of_its_own(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    for number, models in enumerate([("a", "b", "c"), ("d", "e", "f"), ("g", "h")]):
        pairs = some_pairs(tmp_path / str(number), models)
        store.register(pairs)
        for pair in pairs:
            vote(store, pair, "beauty", None, "anna")
    report = make_report(store)
    assert [sorted(row.model for row in one["beauty"]) for one in report.rankings] == [
        ["a", "b", "c"],
        ["d", "e", "f"],
    ]
    assert report.rankings[0]["alignment"] == "some models never met the others"
    write_report(report, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "Ranking 1" in text and "Ranking 2" in text
        assert "Alignment: not defined, some models never met the others." in text


def test_the_order_of_the_folders_does_not_split_a_meeting(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    first = some_pairs(tmp_path / "1", ("ours", "theirs"), prompts=["a fox"])
    then = some_pairs(tmp_path / "2", ("theirs", "ours"), prompts=["an owl"])
    for pairs in (first, then):
        store.register(pairs)
        vote(store, pairs[0], "beauty", "ours", "anna")
    (meeting,) = make_report(store).meetings
    assert (meeting.a, meeting.tallies["beauty"]) == ("ours", Tally(wins=2))


def test_the_time_a_pair_takes_is_the_median_of_each_raters_gaps(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    with sqlite3.connect(store.path) as file:
        for rater, start in (("anna", 0), ("ben", 30)):
            for pair, second in zip(pairs, [0, 4, 10, 14], strict=False):
                for question, delay in (("alignment", 0), ("beauty", 1)):
                    time = f"2026-01-01T00:00:{start + second + delay:02d}.000+00:00"
                    row = (pair.id, rater, question, "ours", "ours", time)
                    file.execute(
                        "INSERT INTO votes (pair, rater, question, winner, left_model, time) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        row,
                    )
    assert make_report(store).seconds_per_pair == pytest.approx(4)


def test_no_votes_make_no_report(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="holds no vote yet"):
        make_report(VoteStore(tmp_path / "votes.sqlite"))


def test_only_ties_make_a_report_without_rates(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path, prompts=["a fox"])
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    vote(store, pairs[0], "alignment", None, "anna")
    report = make_report(store)
    write_report(report, tmp_path)
    assert "no decided vote" in (tmp_path / "report.md").read_text()
    assert "Every vote is a tie" in (tmp_path / "report.html").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(RelayError, match="the report cannot be written"):
        write_report(report, tmp_path / "file")
