"""Scores of commands, kept from run to run: they may take hours."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relay_diffusion.evaluation.scorers.command import Scorer, Scores
from relay_diffusion.files import put_text


def kept_scores(scorer: Scorer, rows: Sequence[Mapping[str, Any]], folder: Path) -> Scores:
    """A command's scores of pictures, those of before if neither it nor the pictures changed.

    Args:
        rows: as ``Scorer.score`` takes them.
        folder: where they are kept.
    Raises: RelayError as ``Scorer.score`` does.
    """
    asked = [scorer.command]
    for row in rows:
        state = os.stat(row["path"])
        asked.append(f"{row['path']} {state.st_size} {state.st_mtime_ns} {row['prompt']}")
    digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()[:16]
    path = folder / f"{scorer.name}-{digest}.json"
    if path.is_file():
        return Scores(**json.loads(path.read_text(encoding="utf-8")))
    given = scorer.score(rows)
    folder.mkdir(parents=True, exist_ok=True)
    put_text(path, json.dumps(asdict(given)) + "\n")
    return given
