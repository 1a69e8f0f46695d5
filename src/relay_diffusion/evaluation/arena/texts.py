"""The prompts of pictures that do not carry their own, from a text file."""

from __future__ import annotations

import json
from pathlib import Path

from relay_diffusion.errors import RelayError

NAMES = ("prompts.jsonl", "prompts.txt")


def one_line(text: str) -> str:
    """Prompts are the same if they differ in white space only."""
    return " ".join(text.split())


def texts_in(folder: Path) -> dict[str, str]:
    """Prompts by picture name from the folder's own text file; empty if it has none."""
    for name in NAMES:
        if (folder / name).is_file():
            return read_texts(folder / name)
    return {}


def read_texts(path: Path) -> dict[str, str]:
    """Prompts by picture name, with or without its ending.

    A line is ``{"file": "0001.png", "prompt": "a red fox"}`` in a .jsonl file, and the name, a tab
    and the prompt in any other. Blank lines are skipped.

    Raises: RelayError if the file cannot be read or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"{path} cannot be read as a list of prompts: {error}") from error
    texts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, prompt = _json(line) if path.suffix == ".jsonl" else _tabbed(line)
        if not name or not prompt:
            form = (
                '{"file": NAME, "prompt": TEXT}' if path.suffix == ".jsonl" else "NAME, tab, TEXT"
            )
            raise RelayError(f"{path}, line {number}: a line is {form}, one for each picture")
        texts[name] = prompt
    return texts


def _tabbed(line: str) -> tuple[str, str]:
    name, _, prompt = line.partition("\t")
    return name.strip(), prompt.strip()


def _json(line: str) -> tuple[str, str]:
    try:
        value = json.loads(line)
    except ValueError:
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    name, prompt = value.get("file"), value.get("prompt")
    return (name, prompt.strip()) if isinstance(name, str) and isinstance(prompt, str) else ("", "")
