"""One JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def json_line(row: Mapping[str, Any]) -> str:
    """A row with its end of line, in letters as they are, unless some of them cannot be printed:
    names that are not UTF-8, and separators that other readers take for the end of a line."""
    text = json.dumps(row, ensure_ascii=False)
    return f"{text if text.isprintable() else json.dumps(row)}\n"
