"""Which of a picture's captions is taken."""

from __future__ import annotations

import difflib
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class CaptionMix:
    """Fields and how often each is taken; CogView3 (arXiv:2403.05121, section 3.1) trains on 95%
    recaptioned and 5% original texts. Where fields are missing, the others share in proportion;
    one of weight 0 is taken only where the rest are missing."""

    weights: Mapping[str, float]

    @classmethod
    def of(cls, weights: Mapping[str, float], fields: Collection[str]) -> CaptionMix:
        """Of a recipe's ``captions`` for data with ``fields``; may be empty if there is just one.

        Raises: RelayError if a field is not in the data, or it is not clear which to take.
        """
        known = ", ".join(sorted(fields))
        for name in weights:
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else "write one of these"
                raise RelayError(f"data.captions has {name}, the data have {known}: {hint}")
        if not weights and len(fields) > 1:
            raise RelayError(
                f"the data have several captions, {known}: say which, and how often, "
                f"as in captions = {{ {sorted(fields)[0]} = 1.0 }}"
            )
        return cls(dict(weights) or dict.fromkeys(fields, 1.0))

    def choose(self, captions: Mapping[str, str], draw: random.Random) -> str | None:
        """One of the captions; None if there is none of the fields."""
        present = [name for name in self.weights if name in captions]
        if not present:
            return None
        weights = [self.weights[name] for name in present]
        return captions[draw.choices(present, weights if any(weights) else None)[0]]

    def pair(self, captions: Mapping[str, str], draw: random.Random) -> tuple[str, str] | None:
        """Captions of two different fields, if there are two, or one twice; None without any."""
        first = self.choose(captions, draw)
        if first is None:
            return None
        rest = {name: text for name, text in captions.items() if text != first}
        return first, self.choose(rest, draw) or first

    def pairs(
        self, records: Iterable[Mapping[str, str]], seed: int, first: int
    ) -> list[tuple[str, str]]:
        """A pair of the captions of each record.

        Args:
            seed: of the stream.
            first: number of the first record in the stream, which the draws depend on.
        Raises: RelayError if there is one field only.
        """
        if len(self.weights) < 2:
            raise RelayError("pairs of captions need two fields: name two in data.captions")
        pairs = []
        for number, captions in enumerate(records, first):
            pair = self.pair(captions, random.Random(f"pair {seed} {number}"))
            assert pair is not None  # those without captions were left out
            pairs.append(pair)
        return pairs
