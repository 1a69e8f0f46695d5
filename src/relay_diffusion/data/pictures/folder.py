"""A folder of pictures with captions beside them."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.records import SUFFIXES, Place, Records, Texts, sidecar_texts
from relay_diffusion.errors import RelayError

TABLES = ("metadata.jsonl", "captions.jsonl")
"""Rows of {"file_name": ..., captions by field}, as Hugging Face's imagefolder has them."""


class FolderRecords(Records):
    """Pictures of a folder and its subfolders, by path; hidden files and folders are passed over.

    Captions are in ``NAME.txt`` (one, of the field ``caption``), in ``NAME.json`` (fields), and in
    the rows of a ``metadata.jsonl`` or ``captions.jsonl``, whose ``file_name`` is relative to it.
    The later of these win, field by field.

    Raises: RelayError if there is no picture, or a table has a line that is no such row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []
        self._sidecars: set[str] = set()
        self._tables: list[str] = []
        for root, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = Path(root).relative_to(folder)
            for name in sorted(names):
                path = (inside / name).as_posix()
                suffix = os.path.splitext(name)[1].lower()
                if name in TABLES:
                    self._tables.append(path)
                elif suffix in SUFFIXES and not name.startswith("."):
                    self._names.append(path)
                elif suffix in (".txt", ".json"):
                    self._sidecars.add(path)
        if not self._names:
            raise RelayError(f"no pictures in {folder}; known are {', '.join(SUFFIXES)}")
        self._rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for table in self._tables:
            for path, row in table_rows(folder, table):
                del row["file_name"]
                self._rows[path].append(row)

    def __len__(self) -> int:
        return len(self._names)

    def key(self, i: int) -> str:
        return os.path.splitext(self._names[i])[0]

    def texts(self, i: int) -> Texts:
        key = self.key(i)
        return sidecar_texts(
            self._sidecar(f"{key}.txt"),
            self._sidecar(f"{key}.json"),
            self._rows.get(self._names[i], ()),
        )

    def open(self, i: int) -> BinaryIO:
        try:
            return (self.folder / self._names[i]).open("rb")
        except OSError as error:
            raise PictureFault("unreadable", str(error.strerror)) from error

    def place(self, i: int) -> Place:
        return Place(self.folder, self._names[i])

    def files(self) -> Iterable[Path]:
        names = [*self._names, *sorted(self._sidecars), *self._tables]
        return (self.folder / name for name in names)

    def _sidecar(self, name: str) -> bytes | None:
        if name not in self._sidecars:
            return None
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise PictureFault("no caption", f"{name}: {error.strerror}") from error


def table_rows(folder: Path, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a table, each with the path of its picture in the folder. Raises: RelayError."""
    try:
        lines = (folder / table).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"cannot read {folder / table}, which must be UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path = os.path.normpath(Path(table).parent / row["file_name"])
        except (ValueError, KeyError, TypeError) as error:
            raise RelayError(
                f'{folder / table}, line {number}: must be {{"file_name": "...", "text": "..."}}'
            ) from error
        yield Path(path).as_posix(), row
