"""What can be wrong with one record of a data set, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
