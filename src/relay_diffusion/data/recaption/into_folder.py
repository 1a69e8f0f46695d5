"""Captions into a folder of pictures: rows of the ``captions.jsonl`` at its top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relay_diffusion.data.pictures.folder import table_lines
from relay_diffusion.data.recaption.lines import json_line
from relay_diffusion.data.recaption.replacing import replacing

TABLE = "captions.jsonl"


def add_to_folder(folder: Path, field: str, captions: Mapping[str, str]) -> Path:
    """Add captions by the path of their picture; what the table says already stays, as do
    lines that cannot be read.

    Returns: the table.
    Raises: RelayError.
    """
    left = dict(captions)
    lines = []
    for line in table_lines(folder, TABLE) if (folder / TABLE).exists() else ():
        if line.fault:
            lines.append(line.data + b"\n")
            continue
        if line.path in captions:
            line.row[field] = captions[line.path]
            left.pop(line.path, None)  # a picture may have several rows
        lines.append(json_line(line.row).encode())
    lines += [json_line({"file_name": path, field: text}).encode() for path, text in left.items()]
    with replacing(folder / TABLE) as new:
        new.write_bytes(b"".join(lines))
    return folder / TABLE
