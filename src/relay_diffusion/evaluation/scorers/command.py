"""Scoring pictures with a command."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.scorers.packaged import as_command, environment

PLACE = "{}"
"""Stands in a command for the file of pictures; without it, they come on standard input."""


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

    def score(self, rows: Sequence[Mapping[str, Any]]) -> Scores:
        """Scores of pictures; a row has "prompt" and "path", and whatever else may be of use.

        Raises: RelayError, with the last line of its complaint, if the command fails or leaves out
        a picture.
        """
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        words = shlex.split(self.command)
        with tempfile.TemporaryDirectory() as folder:
            if PLACE in self.command:
                file = Path(folder) / "pictures.jsonl"
                file.write_text(lines, encoding="utf-8")
                words, lines = [word.replace(PLACE, str(file)) for word in words], ""
            try:
                done = subprocess.run(
                    words,
                    input=lines,
                    capture_output=True,
                    encoding="utf-8",
                    env=environment(words, Path(folder)),
                )
            except OSError as error:
                raise RelayError(f"scorer {self.name} cannot be started: {error}") from error
        if done.returncode:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise RelayError(f"scorer {self.name} failed: {said}")
        return self._read(done.stdout, [str(row["path"]) for row in rows])

    def _read(self, output: str, paths: Sequence[str]) -> Scores:
        version, given = "unknown", {}
        for line in output.splitlines():
            try:
                entry = json.loads(line)
                if "path" in entry:
                    given[entry["path"]] = float(entry["score"])
                elif "scorer" in entry:
                    version = f"{entry['scorer']} {entry.get('version', '')}".strip()
            except (ValueError, TypeError, KeyError):
                continue  # what its libraries print
        missing = [path for path in paths if path not in given]
        if missing:
            raise RelayError(f"scorer {self.name} left out {len(missing)} pictures: {missing[0]}")
        bad = [path for path in paths if not math.isfinite(given[path])]
        if bad:
            raise RelayError(f"scorer {self.name} gave no number for {len(bad)} pictures: {bad[0]}")
        return Scores([given[path] for path in paths], version)
