"""What a folder of pictures was made with, so that a second run can go on where one stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.entries import file_name
from relay_diffusion.evaluation.lines import add_line, read_lines
from relay_diffusion.files import put_text

_SETTINGS, _BATCHES = "run.json", "batches.jsonl"


@dataclass(frozen=True)
class Batch:
    """A batch that was made.

    Attributes:
        number: its place among those of the model and suite.
        seconds: of painting, without what comes before and after.
        peak_bytes: the most memory up to then.
        expansion_seconds: of expanding its prompts, before; not part of ``seconds``.
        num_typed: how many prompts stayed as they were typed.
    """

    model: str
    suite: str
    number: int
    num_pictures: int
    seconds: float
    peak_bytes: int
    expansion_seconds: float = 0.0
    num_typed: int = 0


class Unwritable(RelayError):
    """The folder of the run takes no more: the end of the run, whatever model it is at."""


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Raises: Unwritable for an OSError, which comes of the folder and not of a model here."""
    try:
        yield
    except OSError as error:
        raise Unwritable(
            f"{out} cannot be written to ({error.strerror or error}): mend that and run the same "
            "command again, it goes on from here"
        ) from error


class Logbook:
    """``run.json`` with the settings, ``batches.jsonl`` with a line for each batch."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.settings: dict[str, Any] = {}
        if (out / _SETTINGS).is_file():
            try:
                self.settings = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
            except ValueError as error:
                raise RelayError(f"{out / _SETTINGS} is damaged; give another --out") from error
        self.batches = {(b.model, b.suite, b.number): b for b in self._read_batches()}
        self._forget_the_unused()

    def agree(self, kind: str, name: str, now: Mapping[str, Any]) -> None:
        """Note what is asked for, or check that it is what the pictures here were made with.

        Args:
            kind, name: "model" and its label, "suite" and its name, "run" and "".
        Raises: RelayError naming the first setting that has changed, or another name in here whose
            pictures are in the same folder.
        """
        for other in self.settings.get(kind, {}):
            if other != name and file_name(other) == file_name(name):
                raise RelayError(
                    f"{self.out} has pictures of {kind} {other!r} where those of {name!r} would "
                    "be: give that another name"
                )
        now = json.loads(json.dumps(now))
        before = self.settings.setdefault(kind, {}).setdefault(name, now)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                what = f"{kind} {name!r}" if name else f"this {kind}"
                raise RelayError(
                    f"{self.out} has pictures of {what} with {key} {_short(before.get(key))}, and "
                    f"now it is {_short(now.get(key))}: give what it was, or another --out"
                )

    def save(self) -> None:
        """Write the settings, whole or not at all."""
        with writing_to(self.out):
            put_text(self.out / _SETTINGS, json.dumps(self.settings, indent=1) + "\n")

    def add(self, batch: Batch) -> None:
        """Note a batch, at once."""
        with writing_to(self.out):
            add_line(self.out / _BATCHES, asdict(batch))
        self.batches[batch.model, batch.suite, batch.number] = batch

    def of(self, model: str) -> list[Batch]:
        """The batches of a model."""
        return [batch for key, batch in sorted(self.batches.items()) if key[0] == model]

    def _forget_the_unused(self) -> None:
        """Drop settings that no picture was made with: those of models and suites without a batch,
        and all if there is none. Whoever guessed wrong may change them."""
        models, suites = ({key[i] for key in self.batches} for i in range(2))
        used: dict[str, set[Any]] = {"run": {""} if models else set(), "suite": suites}
        for kind, named in self.settings.items():
            for name in set(named) - used.get(kind, models):
                del named[name]

    def _read_batches(self) -> list[Batch]:
        path = self.out / _BATCHES
        try:
            return [Batch(**entry) for entry in read_lines(path)]
        except TypeError as error:
            raise RelayError(f"{path} is damaged; give another --out") from error


def _short(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value)
    return text if len(text) < 60 else f"{text[:30]}..."
