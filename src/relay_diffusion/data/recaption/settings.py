"""What captions are wanted, and how pictures are asked about."""

from __future__ import annotations

from dataclasses import dataclass

from relay_diffusion.data.recaption.instruction import Instruction


@dataclass(frozen=True)
class Prices:
    """In any currency, for a million tokens read and written."""

    read: float
    written: float

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.read + completion_tokens * self.written) / 1e6


@dataclass(frozen=True)
class Settings:
    """Of a run.

    Attributes:
        field: of the data, that captions are written to.
        original: field of the caption that goes along; None for none.
        renew: ask again where an answer was to another instruction.
        num: ask about so many pictures; None for all.
        side: of a picture as it is sent, at most, in pixels.
        min_words, max_words: of a caption that is taken.
        parallel: requests at a time.
        budget: in the currency of ``prices``; what the journal has cost already counts.
    """

    field: str
    original: str | None
    instruction: Instruction
    renew: bool = False
    num: int | None = None
    side: int = 1024
    min_words: int = 20
    max_words: int = 400
    parallel: int = 8
    prices: Prices | None = None
    budget: float | None = None
