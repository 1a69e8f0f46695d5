"""Prompts from a file: a text with one a line, or JSONL."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from relay_diffusion.data.pictures.records import escaped
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge.partial import PartialScene
from relay_diffusion.evaluation.suites.prompt import Prompt, Suite

FREE = Path(__file__).parents[1] / "suites_data" / "free.jsonl"
_KEYS = ("prompt", "id", "task", "reference", "facts")
_MOST_NAMED = 5


def free_suite() -> Suite:
    """Prompts about the scene world as people put them, written by hand: no template made them.
    The judge is asked only what a prompt says."""
    suite = prompt_file(FREE)
    return Suite("free", suite.prompts, {**suite.source, "file": FREE.name})


def prompt_file(path: Path) -> Suite:
    """The suite that a file holds, named after it.

    ``.jsonl``: an object a line, {"prompt": ...} with, optionally, "id", "task", "reference" (a
    picture, its path taken from the folder of the file) and "facts" (``PartialScene.from_dict``).
    Any other ending: a prompt a line. Blank lines are passed over.
    Raises: RelayError naming the lines that are wrong, or if the file cannot be read or is empty.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").split("\n")  # a prompt may hold any other kind of break
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"{path} cannot be read as a list of prompts: {error}") from error
    prompts: list[Prompt] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            prompts.append(Prompt(line.strip(), id=str(number)))
            continue
        try:
            prompts.append(_from_json(json.loads(line), number, path.parent))
        except ValueError as error:
            reason = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            wrong.append(f"line {number}: {reason}")
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise RelayError(f"{path}: {'; '.join(wrong[:_MOST_NAMED])}{more}")
    if not prompts:
        raise RelayError(f"{path} holds no prompt; write one a line")
    source = {"file": path.name, "sha256": hashlib.sha256(raw).hexdigest()}
    return Suite(path.stem, tuple(prompts), source)


def _from_json(entry: Any, number: int, folder: Path) -> Prompt:
    if not isinstance(entry, dict):
        raise ValueError('it is no object like {"prompt": "a red fox"}')
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ValueError(f"there is no {unknown[0]!r}; allowed is {', '.join(_KEYS)}")
    text = entry.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise ValueError('"prompt" is missing or empty')
    for key, value in entry.items():
        if isinstance(value, str) and value != escaped(value):
            raise ValueError(f'"{key}" has half of a surrogate pair: {escaped(value)}')
    task = entry.get("task")
    if task is not None and not isinstance(task, str):
        raise ValueError(f'"task" is {json.dumps(task)}, which is no text in quotes')
    reference = entry.get("reference")
    if reference is not None and not (folder / str(reference)).is_file():
        raise ValueError(f"there is no picture {folder / str(reference)}")
    facts = entry.get("facts")
    if facts is not None and not isinstance(facts, dict):
        raise ValueError('"facts" is no object')
    return Prompt(
        text.strip(),
        None if facts is None else PartialScene.from_dict(facts),
        str(entry.get("id", number)),
        task,
        None if reference is None else folder / str(reference),
    )
