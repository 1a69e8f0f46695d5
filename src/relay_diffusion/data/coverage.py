"""How much of their captions the networks can read: words that the tokenizer lacks, ends cut off.

Nothing fails where they cannot: what is unknown becomes one and the same token, what is too long is
not there, and training goes on without either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NUM_WORDS = 100
"""Of the unknown ones, so many are kept."""

SHOWN = 5
"""And so many are named in a line."""

LIMIT = 0.1
"""Share of unknown tokens, or of cut captions, that is worth a warning."""


@dataclass(frozen=True)
class Coverage:
    """Counts over captions.

    Attributes:
        cut: captions with more tokens than the networks are given.
        tokens, unknown: of whole captions, without special ones; those that stand for no word.
        words: what these stood for, most frequent first, with counts; empty for a tokenizer that
            does not say where its tokens come from (a slow one of transformers).
    """

    captions: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0
    words: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            self.captions + other.captions,
            self.cut + other.cut,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            most_frequent(Counter(self.words) + Counter(other.words)),
        )

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(1, self.tokens)

    @property
    def cut_share(self) -> float:
        return self.cut / max(1, self.captions)

    @property
    def poor(self) -> bool:
        return max(self.unknown_share, self.cut_share) > LIMIT

    def __str__(self) -> str:
        """Such as "52% of tokens unknown (mostly sleek, lush), 97% of captions cut"."""
        shown = ", ".join(list(self.words)[:SHOWN])
        mostly = f" (mostly {shown})" if shown else ""
        return (
            f"{self.unknown_share:.1%} of tokens unknown{mostly}, "
            f"{self.cut_share:.1%} of captions cut"
        )


def coverage_of(tokenizer: Any, captions: Sequence[str], max_tokens: int) -> Coverage:
    """Of captions as ``models.text.tokenize`` would cut them.

    Args:
        tokenizer: of transformers.
        max_tokens: length of a tokenized caption, with the end token.
    """
    if not captions:
        return Coverage()
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    found = tokenizer(
        list(captions),
        add_special_tokens=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    words: Counter[str] = Counter()
    tokens = unknown = 0
    for row, (caption, ids) in enumerate(zip(captions, found.input_ids, strict=True)):
        strange = [i for i, token in enumerate(ids) if token == tokenizer.unk_token_id]
        tokens, unknown = tokens + len(ids), unknown + len(strange)
        if tokenizer.is_fast:
            spans = [found["offset_mapping"][row][i] for i in strange]
            words.update(caption[start:end].strip().lower() for start, end in spans)
    cut = sum(len(ids) > room for ids in found.input_ids)
    return Coverage(len(captions), cut, tokens, unknown, most_frequent(words))


def most_frequent(words: Counter[str]) -> dict[str, int]:
    """The ``NUM_WORDS`` first by count; of equal ones, by the alphabet, whatever came first."""
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:NUM_WORDS])
