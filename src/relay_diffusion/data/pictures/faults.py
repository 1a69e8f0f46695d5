"""What can be wrong with one record of a data set, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "not a picture",
    "no picture",
    "broken shard",
    "broken line",
    "unreadable",
    "truncated",
    "broken",
    "too large",
    "too small",
    "extreme aspect",
    "pixels not handled",
    "no caption",
    "caption is not UTF-8",
    "caption is not JSON",
    "blocked caption",
    "blocked link",
    "duplicate",
    "latents not finite",
]


PASSING: Kind = "unreadable"
"""What the next try may find otherwise, so it is never kept: a disk or a network that failed, or a
file that may not be read."""


class Fault(Exception):
    """Why something cannot be used.

    Attributes:
        kind: the reason, to count by.
        detail: more of it, such as "100x80, needs 512x512"; may be empty.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


class PictureFault(Fault):
    """A record that cannot be used. It is counted, listed and left out, and never ends a run."""

    kind: Kind

    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(kind, detail)


def unread(error: OSError, absent: Kind = "no picture", name: str = "") -> PictureFault:
    """The fault of a record with a file that the system does not give.

    Args:
        absent: its kind where there is no such file, which is known of the data set's state.
        name: of the file, where the record does not say it.
    """
    gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
    what = error.strerror or str(error)
    return PictureFault(absent if gone else PASSING, f"{name}: {what}" if name else what)


def lasting(faults: Iterable[Sequence[Any]]) -> bool:
    """Whether faults, as (record, kind, detail), may be kept."""
    return all(kind != PASSING for _, kind, _ in faults)


@dataclass(frozen=True)
class BadRecord:
    """A record that was left out, and why."""

    key: str
    kind: Kind
    detail: str = ""

    @property
    def reason(self) -> str:
        return str(PictureFault(self.kind, self.detail))

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"
