"""A folder of pictures with captions beside them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from relay_diffusion.data.pictures.faults import BadRecord, PictureFault, unread
from relay_diffusion.data.pictures.records import (
    SUFFIXES,
    Place,
    Records,
    Texts,
    escaped,
    json_of,
    sidecar_texts,
    text_of,
)
from relay_diffusion.errors import RelayError
from relay_diffusion.files import files_below

TABLES = ("metadata.jsonl", "captions.jsonl")
"""Rows of {"file_name": ..., captions by field}, as Hugging Face's imagefolder has them."""


class FolderRecords(Records):
    """Pictures of a folder and its subfolders, by path; hidden files and folders are passed over.

    Captions are in ``NAME.txt`` (one, of the field ``caption``), in ``NAME.json`` (fields), and in
    the rows of a ``metadata.jsonl`` or ``captions.jsonl``, whose ``file_name`` is relative to it.
    The later of these win, field by field. Suffixes may be in capitals.

    Raises: RelayError if there is no picture, or a table whose lines are all no such rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []
        self._sidecars: dict[str, str] = {}  # by the name with its suffix in small letters
        self._tables: list[str] = []
        for file in files_below(folder):
            path = file.relative_to(folder).as_posix()
            stem, suffix = os.path.splitext(path)
            suffix = suffix.lower()
            if file.name in TABLES:
                self._tables.append(path)
            elif suffix in SUFFIXES:
                self._names.append(path)
            elif suffix in (".txt", ".json"):
                self._sidecars[f"{stem}{suffix}"] = path
        if not self._names:
            raise RelayError(f"no pictures in {folder}; known are {', '.join(SUFFIXES)}")
        self._rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._bad_lines: list[BadRecord] = []
        for table in self._tables:
            for line in table_lines(folder, table):
                if line.fault:
                    where = escaped(f"{table}, line {line.number}")
                    self._bad_lines.append(BadRecord(where, "broken line", line.fault))
                else:
                    del line.row["file_name"]
                    self._rows[line.path].append(line.row)

    def __len__(self) -> int:
        return len(self._names)

    def key(self, i: int) -> str:
        return escaped(os.path.splitext(self._names[i])[0])

    def texts(self, i: int) -> Texts:
        stem = os.path.splitext(self._names[i])[0]
        return sidecar_texts(
            self._sidecar(f"{stem}.txt"),
            self._sidecar(f"{stem}.json"),
            self._rows.get(self._names[i], ()),
        )

    def open(self, i: int) -> BinaryIO:
        try:
            return (self.folder / self._names[i]).open("rb")
        except OSError as error:
            raise unread(error) from error

    def place(self, i: int) -> Place:
        return Place(self.folder, self._names[i])

    def bad_lines(self) -> Sequence[BadRecord]:
        return self._bad_lines

    def places(self) -> Sequence[Path]:
        return [self.folder]

    def files(self) -> Iterable[Path]:
        names = [*self._names, *sorted(self._sidecars.values()), *self._tables]
        return (self.folder / name for name in names)

    def _sidecar(self, name: str) -> bytes | None:
        if name not in self._sidecars:
            return None
        try:
            return (self.folder / self._sidecars[name]).read_bytes()
        except OSError as error:
            raise unread(error, "no caption", escaped(name)) from error


@dataclass(frozen=True)
class Line:
    """A line of a table that is not blank.

    Attributes:
        number: from 1 on.
        data: as it is in the file, without its end.
        path: of its picture, in the folder.
        row: what it says of that.
        fault: why it is no row; empty if it is one.
    """

    number: int
    data: bytes
    path: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def table_lines(folder: Path, table: str) -> Iterator[Line]:
    """The lines of a table of captions that are not blank, rows and faulty ones, in order.

    Raises: RelayError if the file cannot be read, or, after the last line, if none was a row.
    """
    try:
        lines = (folder / table).read_bytes().split(b"\n")
    except OSError as error:
        raise RelayError(f"cannot read {folder / table}: {error.strerror}") from error
    first_bad: Line | None = None
    any_row = False
    for number, data in enumerate(lines, start=1):
        try:
            text = text_of(data)
            if not text.strip():
                continue
            row = json_of(text)
            if not isinstance(row.get("file_name"), str):
                raise PictureFault("no picture", "no file_name")
        except PictureFault as fault:
            line = Line(number, data, fault=str(fault))
            first_bad = first_bad or line
            yield line
            continue
        any_row = True
        path = os.path.normpath(Path(table).parent / row["file_name"])
        yield Line(number, data, Path(path).as_posix(), row)
    if first_bad and not any_row:
        raise RelayError(
            f'no line of {folder / table} is {{"file_name": "...", "text": "..."}} in UTF-8; '
            f"of line {first_bad.number}: {first_bad.fault}"
        )
