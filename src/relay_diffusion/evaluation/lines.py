"""Files that are only added to, a line of JSON for each thing that was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What is noted there; nothing, if there is no file. A line that was being written when a run
    was killed is cut off.

    Raises: RelayError if the file holds something else.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        path.write_bytes(whole)
    try:
        return [json.loads(line) for line in whole.split(b"\n")[:-1]]
    except ValueError as error:
        raise RelayError(f"{path} is damaged; delete it, or give another --out") from error


def add_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Note a thing, at once."""
    with path.open("a", encoding="ascii") as file:
        file.write(json.dumps(entry) + "\n")
