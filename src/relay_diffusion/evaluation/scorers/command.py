"""Scoring pictures with a command."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.scorers.packaged import as_command, environment

PLACE = "{}"
"""Stands in a command for the file of pictures; without it, they come on standard input."""

Row = Mapping[str, Any]
"""Of a picture: "prompt" and "path", and whatever else may be of use."""

Keep = Callable[[str, float, str], None]
"""Takes a path, its score, and what the scorer calls itself."""


@dataclass(frozen=True)
class Scores:
    """What a scorer gave, one for each picture, and what it calls itself."""

    values: list[float]
    version: str


@dataclass(frozen=True)
class Scorer:
    """A command that reads {"prompt", "path"} a line and writes {"path", "score"} a line."""

    name: str
    command: str

    @classmethod
    def parse(cls, text: str) -> Scorer:
        """From NAME=COMMAND, or ADAPTER=PYTHON, see ``packaged``.

        Raises: RelayError if it has another form.
        """
        found = re.fullmatch(r"([\w.-]+)=(.*\S.*)", text)
        if not found:
            raise RelayError(
                f"scorer {text!r}; give NAME=COMMAND, or a packaged one with the Python of its "
                "environment, as in imagereward=envs/ir/bin/python"
            )
        return cls(found[1], as_command(found[1], found[2].strip()))

    @staticmethod
    def check_names(names: Sequence[str], reserved: Collection[str]) -> None:
        """Raise RelayError if two scorers, or one and a measure of ours, have the same name."""
        for i, name in enumerate(names):
            if name in names[:i] or name in reserved:
                what = "a measure of relay evaluate's own" if name in reserved else "two scorers"
                raise RelayError(
                    f"{what} would be called {name!r}: give the scorer another name, as in "
                    f"--scorer '{name}-2=COMMAND'"
                )

    def probe(self) -> None:
        """Run the command on no pictures, before hours go into making them.

        Raises: RelayError if it does not end well.
        """
        try:
            self.score([])
        except RelayError as error:
            raise RelayError(f"{error} (tried on an empty list before any picture is made)") from (
                error
            )

    def score(self, rows: Sequence[Row], keep: Keep = lambda path, score, version: None) -> Scores:
        """Scores of pictures.

        Args:
            keep: is told each score as it arrives; those before a failure are good, too.
        Raises: RelayError, with the last line of its complaint, if the command fails or leaves out
            a picture.
        """
        paths = [str(row["path"]) for row in rows]
        version, given = "unknown", dict[str, float]()
        with closing(self._lines(rows)) as lines:
            for entry in filter(None, map(_entry, lines)):
                if "path" in entry:
                    path = str(entry["path"])
                    given[path] = _number(entry.get("score"))
                    if math.isfinite(given[path]):
                        keep(path, given[path], version)
                elif "scorer" in entry:
                    version = f"{entry['scorer']} {entry.get('version', '')}".strip()
        missing = [path for path in paths if path not in given]
        if missing:
            raise RelayError(f"scorer {self.name} left out {len(missing)} pictures: {missing[0]}")
        bad = [path for path in paths if not math.isfinite(given[path])]
        if bad:
            raise RelayError(f"scorer {self.name} gave no number for {len(bad)} pictures: {bad[0]}")
        return Scores([given[path] for path in paths], version)

    def _lines(self, rows: Sequence[Row]) -> Generator[str, None, None]:
        """What the command writes, line by line as it does; it ends when nobody listens any more.

        Both what it reads and what it complains of are files: with a pipe each, one of the two
        programs might wait for the other for ever.
        """
        words = shlex.split(self.command)
        with tempfile.TemporaryDirectory() as folder:
            file, complaints = Path(folder) / "pictures.jsonl", Path(folder) / "complaints"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
            with file.open("rb") as source, complaints.open("wb") as errors:
                try:
                    process = subprocess.Popen(
                        [word.replace(PLACE, str(file)) for word in words],
                        stdin=subprocess.DEVNULL if PLACE in self.command else source,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        encoding="utf-8",
                        errors="replace",  # what its libraries print may be in any encoding
                        env=environment(words, Path(folder) / "adapter"),
                    )
                except OSError as error:
                    raise RelayError(f"scorer {self.name} cannot be started: {error}") from error
                with process:
                    assert process.stdout is not None
                    try:
                        yield from process.stdout
                    except BaseException:
                        process.kill()
                        raise
            if process.returncode:
                told = complaints.read_text(encoding="utf-8", errors="replace").strip()
                last = (told or f"exit code {process.returncode}").splitlines()[-1]
                raise RelayError(f"scorer {self.name} failed: {last}")


def _entry(line: str) -> dict[str, Any] | None:
    """An object of JSON; None for what the command's libraries print."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _number(score: Any) -> float:
    try:
        return float(score)
    except (ValueError, TypeError):
        return math.nan
