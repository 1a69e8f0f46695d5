from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.entries import read_entries
from relay_diffusion.evaluation.arena.pairs import make_pairs
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import PROMPTS, relay_folder, some_pairs, vote


def test_votes_outlive_the_store(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "new" / "votes.sqlite")
    store.register(pairs)
    vote(store, pairs[0], "alignment", "ours", "anna")
    vote(store, pairs[0], "beauty", None, "anna")
    vote(store, pairs[1], "beauty", "theirs", "ben")
    # Read beside the open store, as after a crash: nothing waits to be written.
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM votes").fetchone() == (3,)
    store.close()

    again = VoteStore(store.path, create=False)
    again.register(pairs)
    assert [(v.prompt, v.rater, v.question, v.winner) for v in again.votes()] == [
        (pairs[0].prompt, "anna", "alignment", "ours"),
        (pairs[0].prompt, "anna", "beauty", None),
        (pairs[1].prompt, "ben", "beauty", "theirs"),
    ]
    assert [v.pair for v in again.votes("ben")] == [pairs[1].id]
    assert again.models() == ["ours", "theirs"]


def test_each_file_has_a_secret_of_its_own_that_stays(tmp_path: Path) -> None:
    """Who knew it could tell the models from the addresses of pictures."""
    store, other = (VoteStore(tmp_path / name) for name in ("one.sqlite", "two.sqlite"))
    assert len(store.secret) == 32
    assert store.secret == VoteStore(store.path).secret != other.secret


def test_the_newest_vote_counts_and_the_older_ones_stay(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    for winner in ("ours", "theirs", None):
        vote(store, pairs[0], "alignment", winner, "anna")
    vote(store, pairs[0], "alignment", "ours", "ben")
    assert [(v.rater, v.winner) for v in store.votes()] == [("anna", None), ("ben", "ours")]
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT count(*) FROM votes").fetchone() == (4,)


@pytest.mark.parametrize("statement", ["DELETE FROM votes", "UPDATE votes SET winner = NULL"])
def test_votes_cannot_be_taken_back(tmp_path: Path, statement: str) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    vote(store, pairs[0], "alignment", "ours", "anna")
    with (
        sqlite3.connect(store.path) as other,
        pytest.raises(sqlite3.IntegrityError, match="votes are only added"),
    ):
        other.execute(statement)


def test_votes_on_pictures_that_have_changed_are_not_mixed(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path)
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(pairs)
    folders = [tmp_path / "theirs", relay_folder(tmp_path / "ours", PROMPTS[::-1])]
    changed, _ = make_pairs(read_entries(folders))
    store.register(changed)  # nobody has voted yet
    vote(store, changed[0], "beauty", "ours", "anna")
    with pytest.raises(RelayError, match="votes on other pictures of ours and theirs"):
        store.register(pairs)


def test_a_vote_needs_a_known_pair(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.sqlite")
    with pytest.raises(sa.exc.IntegrityError):
        vote(store, some_pairs(tmp_path)[0], "beauty", "ours", "anna")


def test_files_that_are_no_votes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=r"there are no votes in .*relay arena A B --db"):
        VoteStore(tmp_path / "nothing.sqlite", create=False)
    assert not (tmp_path / "nothing.sqlite").exists()
    (tmp_path / "text").write_text("dear diary, " * 100)
    with pytest.raises(RelayError, match="cannot be opened as a file of votes"):
        VoteStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE songs (name)")
    with pytest.raises(RelayError, match="database of something else"):
        VoteStore(tmp_path / "other.sqlite")
    with pytest.raises(RelayError, match="cannot be opened"):
        VoteStore(tmp_path / "text" / "votes.sqlite")
