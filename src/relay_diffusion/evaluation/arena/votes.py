"""Votes in a SQLite file that is only ever added to: the newest vote on a question counts."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.pairs import Pair

Question = Literal["alignment", "beauty"]
QUESTIONS: tuple[Question, ...] = ("alignment", "beauty")

_tables = sa.MetaData()
_pairs = sa.Table(
    "pairs",
    _tables,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, unique=True, nullable=False),
    sa.Column("prompt", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("model_a", sa.String, nullable=False),
    sa.Column("model_b", sa.String, nullable=False),
)
_votes = sa.Table(
    "votes",
    _tables,
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("pair", sa.String, sa.ForeignKey("pairs.id"), nullable=False),
    sa.Column("rater", sa.String, nullable=False),
    sa.Column("question", sa.String, nullable=False),
    sa.Column("winner", sa.String),  # name of a model; null is a tie
    sa.Column("left_model", sa.String, nullable=False),
    sa.Column("time", sa.String, nullable=False),  # ISO 8601, UTC
)
_secrets = sa.Table(
    "secrets",
    sa.MetaData(),  # older files do not have it, and reports do without
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
for _event in ("UPDATE", "DELETE"):
    sa.event.listen(
        _votes,
        "after_create",
        sa.DDL(
            f"CREATE TRIGGER no_{_event.lower()} BEFORE {_event} ON votes "
            "BEGIN SELECT RAISE(ABORT, 'votes are only added'); END"
        ),
    )


@dataclass(frozen=True)
class Vote:
    """The answer of a rater to a question about a pair; ``winner`` is a model, None is a tie."""

    pair: str
    prompt: str
    models: tuple[str, str]
    rater: str
    question: Question
    winner: str | None
    left: str
    time: datetime


class VoteStore:
    """The file of votes. A vote is on the disk when ``add`` returns."""

    def __init__(self, path: Path, create: bool = True) -> None:
        """Open the file, or make it.

        Raises: RelayError if it is missing and not to be made, is something else, or cannot be
            written.
        """
        if not create and not path.is_file():
            raise RelayError(
                f"there are no votes in {path}; relay arena A B --db {path} asks for them"
            )
        self.path = path
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 30}
        )
        # SQLite checks foreign keys only where it is told to, on each connection.
        sa.event.listen(
            self._engine,
            "connect",
            lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"),
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = set(sa.inspect(self._engine).get_table_names())
            if found and not {"pairs", "votes"} <= found:
                raise RelayError(f"{path} is a database of something else; give --db another file")
            _tables.create_all(self._engine)
        except (OSError, sa.exc.DatabaseError) as error:
            why = getattr(error, "orig", error)
            raise RelayError(
                f"{path} cannot be opened as a file of votes ({why}); give --db another file"
            ) from error

    @cached_property
    def secret(self) -> bytes:
        """Random, and this file's own from the first time on: pictures are named with it, and keep
        their names when the arena is started again."""
        with self._engine.begin() as connection:
            _secrets.create(connection, checkfirst=True)
            drawn = {"row": 1, "value": secrets.token_bytes(32)}
            connection.execute(_secrets.insert().prefix_with("OR IGNORE"), drawn)
            return bytes(connection.execute(sa.select(_secrets.c.value)).scalar_one())

    def close(self) -> None:
        self._engine.dispose()

    def register(self, pairs: Sequence[Pair]) -> None:
        """Make pairs known, before votes on them are added; known ones stay as they are.

        Raises: RelayError if there are votes on other pictures of the same models and prompt: the
            folder has changed, and the two must not be counted as one.
        """
        voted = sa.select(_pairs).where(_pairs.c.id.in_(sa.select(_votes.c.pair)))
        with self._engine.begin() as connection:
            known = set(connection.scalars(sa.select(_pairs.c.id)))
            taken = {
                (row.prompt, row.number, frozenset((row.model_a, row.model_b))): row.id
                for row in connection.execute(voted)
            }
            for pair in pairs:
                before = taken.get((pair.prompt, pair.number, frozenset(pair.models)), pair.id)
                if before != pair.id:
                    raise RelayError(
                        f"{self.path} has votes on other pictures of {pair.models[0]} and "
                        f"{pair.models[1]} (prompt {pair.prompt!r}); give --db another file, or "
                        "the folder of the new pictures another name"
                    )
            new = [
                {
                    "id": pair.id,
                    "prompt": pair.prompt,
                    "number": pair.number,
                    "model_a": pair.models[0],
                    "model_b": pair.models[1],
                }
                for pair in pairs
                if pair.id not in known
            ]
            if new:
                connection.execute(_pairs.insert(), new)

    def add(
        self, pair: Pair, rater: str, question: Question, left: int, winner: int | None
    ) -> None:
        """Write down a vote.

        Args:
            left, winner: indices in ``pair.models``; None is a tie.
        """
        with self._engine.begin() as connection:
            connection.execute(
                _votes.insert(),
                {
                    "pair": pair.id,
                    "rater": rater,
                    "question": question,
                    "winner": None if winner is None else pair.models[winner],
                    "left_model": pair.models[left],
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                },
            )

    def votes(self, rater: str | None = None) -> list[Vote]:
        """The votes that count, oldest first, of everybody or of one rater."""
        newest = sa.select(sa.func.max(_votes.c.row)).group_by(
            _votes.c.pair, _votes.c.rater, _votes.c.question
        )
        query = (
            sa.select(_votes, _pairs.c.prompt, _pairs.c.model_a, _pairs.c.model_b)
            .join(_pairs, _votes.c.pair == _pairs.c.id)
            .where(_votes.c.row.in_(newest))
            .order_by(_votes.c.row)
        )
        if rater is not None:
            query = query.where(_votes.c.rater == rater)
        with self._engine.connect() as connection:
            return [
                Vote(
                    pair=row.pair,
                    prompt=row.prompt,
                    models=(row.model_a, row.model_b),
                    rater=row.rater,
                    question=row.question,
                    winner=row.winner,
                    left=row.left_model,
                    time=datetime.fromisoformat(row.time),
                )
                for row in connection.execute(query)
            ]

    def models(self) -> list[str]:
        """Every model that pairs were made of, in the order in which the folders were given."""
        query = sa.select(_pairs.c.model_a, _pairs.c.model_b).order_by(_pairs.c.row)
        with self._engine.connect() as connection:
            return list(dict.fromkeys(name for row in connection.execute(query) for name in row))
