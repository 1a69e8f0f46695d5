"""Scores of commands, kept from run to run: they may take hours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.lines import add_line, read_lines
from relay_diffusion.evaluation.scorers.command import Row, Scorer, Scores


def kept_scores(
    scorer: Scorer, rows: Sequence[Row], contents: Sequence[str], folder: Path
) -> Scores:
    """A command's scores of pictures: those of before where they are kept, the others from it.

    A score belongs to all that the command is told and to the content of the picture, wherever that
    lies. It is kept as soon as it arrives, so that a failure costs no other.

    Args:
        rows: as ``Scorer.score`` takes them.
        contents: SHA-256 of each picture.
        folder: where they are kept, in a file for each command.
    Raises: RelayError as ``Scorer.score`` does, and if the kept ones are of another version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{scorer.name}-{_digest(scorer.command)}.jsonl"
    noted = read_lines(file)
    values = {entry["picture"]: entry["score"] for entry in noted}
    versions = {entry["version"] for entry in noted}
    names = [_name(row, content) for row, content in zip(rows, contents, strict=True)]
    by_path = {str(row["path"]): name for row, name in zip(rows, names, strict=True)}

    def keep(path: str, score: float, version: str) -> None:
        if path not in by_path:
            return
        versions.add(version)
        if len(versions) > 1:
            raise RelayError(
                f"scorer {scorer.name} is {version} now, and {file} has scores of another version: "
                "delete it, and all pictures are scored by this one"
            )
        values[by_path[path]] = score
        add_line(file, {"picture": by_path[path], "score": score, "version": version})

    missing = [row for row, name in zip(rows, names, strict=True) if name not in values]
    if missing:
        scorer.score(missing, keep)
    return Scores([values[name] for name in names], next(iter(versions), "unknown"))


def _name(row: Row, content: str) -> str:
    """Of a picture among kept scores."""
    told = {key: value for key, value in row.items() if key != "path"}
    return _digest(json.dumps(told, sort_keys=True) + content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
