"""Captions into a folder of pictures: rows of the ``captions.jsonl`` at its top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relay_diffusion.data.pictures.folder import table_rows
from relay_diffusion.data.recaption.lines import json_line
from relay_diffusion.data.recaption.replacing import replacing

TABLE = "captions.jsonl"


def add_to_folder(folder: Path, field: str, captions: Mapping[str, str]) -> Path:
    """Add captions by the path of their picture; what the table says already stays.

    Returns: the table.
    Raises: RelayError.
    """
    left = dict(captions)
    lines = []
    for path, row in table_rows(folder, TABLE) if (folder / TABLE).exists() else ():
        if path in captions:
            row[field] = captions[path]
            left.pop(path, None)  # a picture may have several rows
        lines.append(json_line(row))
    lines += [json_line({"file_name": path, field: text}) for path, text in left.items()]
    with replacing(folder / TABLE) as new:
        new.write_text("".join(lines), encoding="utf-8")
    return folder / TABLE
