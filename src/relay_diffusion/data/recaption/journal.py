"""Every answer, written down as it comes: what was paid for is not lost, whatever ends a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from relay_diffusion.data.pictures.records import Place, Records
from relay_diffusion.data.recaption.lines import json_line
from relay_diffusion.errors import RelayError
from relay_diffusion.locks import lock


@dataclass(frozen=True)
class Entry:
    """What came of asking about a picture. Those with a text are the paper's triplets of a picture,
    its old caption and its new one.

    Attributes:
        file: of :class:`Place`, relative to the journal's folder, so that data may be moved.
        name: of :class:`Place`.
        original: the caption that went along, None if there was none.
        instruction: its version.
        text: the caption, None if there is none that can be used.
        fault: why there is none; empty if there is one.
        cost: None if no prices were given.
        estimated: whether some of the cost is what a picture takes on average.
    """

    file: str
    name: str
    original: str | None
    instruction: str
    model: str
    text: str | None
    fault: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    estimated: bool = False


class Journal:
    """A file with one JSON object a line, only ever added to.

    Attributes:
        entries: all of each place, oldest first.
        cost: of all of them.
    Raises: RelayError if it cannot be read, or a line is damaged. A last line without an end was
        being written when a run was killed, and is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[tuple[str, str], list[Entry]] = {}
        self.cost = 0.0
        self._file: IO[str] | None = None
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise RelayError(f"cannot read {path}: {error}") from error
        for number, line in enumerate(lines, start=1):
            try:
                self._note(Entry(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RelayError(
                    f"{path}, line {number} is damaged: take the line out, or give another "
                    "--journal"
                ) from error

    @classmethod
    @contextmanager
    def held(cls, path: Path) -> Iterator[Journal]:
        """A journal to add to; no other process can at the same time.

        Raises: RelayError if one does, or the file cannot be written.
        """
        try:
            file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise RelayError(
                f"cannot write {path} ({error.strerror}): the data must lie where they can be "
                "changed"
            ) from error
        with file:
            lock(
                file,
                f"another relay recaption is at work on {path}; to share the work, give each its "
                "own shards and its own --journal",
            )
            content = path.read_bytes()
            file.truncate(content.rfind(b"\n") + 1)
            journal = cls(path)
            journal._file = file
            yield journal

    def of(self, place: Place) -> list[Entry]:
        """The entries of a record, oldest first."""
        return self.entries.get((self.relative(place.file), place.name), [])

    def failed(self, place: Place) -> bool:
        """Whether a record was asked about in vain, once or more."""
        return any(entry.text is None for entry in self.of(place))

    def answered(self) -> Iterator[Entry]:
        """Those with a caption."""
        return (e for entries in self.entries.values() for e in entries if e.text)

    def relative(self, file: Path) -> str:
        """How a file is named in here."""
        return Path(os.path.relpath(file, self.path.parent)).as_posix()

    def is_there(self, entry: Entry) -> bool:
        """Whether the file of an entry is: the shard, or the picture in a folder."""
        file = self.path.parent / entry.file
        return file.is_file() or (file / entry.name).exists()

    def add(self, entry: Entry) -> None:
        """Write an entry down, at once; only where the journal is held. Raises: RelayError."""
        assert self._file is not None
        try:
            self._file.write(json_line(asdict(entry)))
            self._file.flush()
        except OSError as error:
            raise RelayError(f"cannot write {self.path} ({error.strerror})") from error
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        self.entries.setdefault((entry.file, entry.name), []).append(entry)
        self.cost += entry.cost or 0


def journal_path(records: Records, field: str) -> Path:
    """Where the journal of a data set lies: hidden, in its folder, or above all of its files."""
    places = records.places()
    folder = os.path.commonpath([path if path.is_dir() else path.parent for path in places])
    return Path(folder) / f".recaption.{field}.jsonl"
