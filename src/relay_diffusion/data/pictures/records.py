"""Records by index, whatever they are stored in: a picture, its captions, its key."""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from relay_diffusion.data.pictures.faults import BadRecord, PictureFault

SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".jpeg",
    ".jpg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
"""Of picture files. Pillow reads HEIC with the plug-in pillow-heif; without, it is counted."""

CAPTION = "caption"
"""Name of the field where there is one caption without a name of its own."""

UNNAMED = ("text", "txt")
"""Other names of that field, in JSON and in tables."""


@dataclass(frozen=True)
class Texts:
    """What is written about a picture.

    Attributes:
        captions: by field; blank ones are left out.
        original_size: (height, width) before it was stored smaller, if known.
    """

    captions: dict[str, str]
    original_size: tuple[int, int] | None = None


class Place(NamedTuple):
    """What tells a record from all others of a data set, as its key need not.

    Attributes:
        file: the shard or table that holds the record, or the folder.
        name: the record's in there.
    """

    file: Path
    name: str


class Records(abc.ABC):
    """A data set by index, in an order that depends on its files alone.

    ``texts`` and ``open`` raise :class:`PictureFault`, and may be called in forked processes.
    """

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def key(self, i: int) -> str:
        """Its name within the data set, :func:`escaped`; the split goes by it."""

    @abc.abstractmethod
    def texts(self, i: int) -> Texts: ...

    @abc.abstractmethod
    def open(self, i: int) -> BinaryIO:
        """The encoded picture, seekable; of which decoders often need the beginning only."""

    @abc.abstractmethod
    def place(self, i: int) -> Place:
        """Where its captions are written."""

    def broken(self) -> Sequence[BadRecord]:
        """Files that could not be read to their end, and why; what is behind is not here."""
        return ()

    def bad_lines(self) -> Sequence[BadRecord]:
        """Lines of tables of captions that are no rows, and why; they are passed over."""
        return ()

    def parts(self) -> Iterable[tuple[Sequence[Path], range]]:
        """Files, and the records that depend on these alone: what was found out about them stays
        true when other files change."""
        return [(list(self.files()), range(len(self)))]

    @abc.abstractmethod
    def files(self) -> Iterable[Path]:
        """All files that it is stored in; when one of them changes, what is known is outdated."""

    @abc.abstractmethod
    def places(self) -> Sequence[Path]:
        """The shards, the tables or the folder that captions are written to."""


def escaped(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates become ``\\udce9``. JSON may have them, and Python
    reads names of files with them where the bytes are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_of(data: bytes) -> str:
    """Text of a caption file. Raises: PictureFault if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PictureFault("caption is not UTF-8", f"byte {error.start}") from error


def json_of(text: str) -> dict[str, Any]:
    """A JSON object. Raises: PictureFault if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PictureFault("caption is not JSON", str(error)) from error
    if not isinstance(value, dict):
        raise PictureFault("caption is not JSON", f"an object, but {type(value).__name__}")
    return value


def texts_of(fields: Mapping[str, Any]) -> Texts:
    """Captions of the fields of JSON or of a table: all that are strings and not blank.

    ``text`` is ``caption`` if there is no ``caption``. ``original_size`` is [width, height].

    Raises: PictureFault if one cannot be written in UTF-8, as tokenizers want it.
    """
    captions = {
        name: value.strip()
        for name, value in fields.items()
        if isinstance(value, str) and value.strip()
    }
    for name, text in captions.items():
        if escaped(name + text) != name + text:
            detail = f"half of a surrogate pair in {escaped(name)}"
            raise PictureFault("caption is not UTF-8", detail)
    for other in UNNAMED:
        if other in captions and CAPTION not in captions:
            captions[CAPTION] = captions.pop(other)
    size = fields.get("original_size")
    match size:
        case [int(width), int(height)] if width > 0 and height > 0:
            return Texts(captions, (height, width))
    return Texts(captions)


def sidecar_texts(
    txt: bytes | None, json_text: bytes | None, rows: Iterable[Mapping[str, Any]] = ()
) -> Texts:
    """Captions of a .txt and a .json file and of rows of metadata; the later ones win, field by
    field, but for those that are empty."""
    fields: dict[str, Any] = {}
    if txt is not None:
        fields[CAPTION] = text_of(txt)
    for given in (json_of(text_of(json_text)) if json_text is not None else {}, *rows):
        named = {name: value for name, value in given.items() if str(value or "").strip()}
        if fields.get(CAPTION) and CAPTION not in named and any(n in named for n in UNNAMED):
            del fields[CAPTION]
        fields |= named
    return texts_of(fields)
