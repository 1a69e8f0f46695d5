"""Which two pictures are shown, in which order, and which of them on the left."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.entries import Entry, Picture


@dataclass(frozen=True)
class Pair:
    """Two models' pictures of one prompt.

    Attributes:
        number: counts the pictures of the prompt: a model's first is shown with the other's first.
        models, pictures: in the order in which the folders were given.
    """

    prompt: str
    number: int
    models: tuple[str, str]
    pictures: tuple[Picture, Picture]

    @property
    def id(self) -> str:
        """The same for the same pictures of the same models, in either order of the folders."""
        sides = sorted(
            (model, picture.digest)
            for model, picture in zip(self.models, self.pictures, strict=True)
        )
        return _hash(self.prompt, self.number, *sides)

    def token(self, side: int, secret: bytes) -> str:
        """Names a picture in addresses, and says nothing of the model to who lacks the secret: a
        plain hash of a model's name could be made by anybody who guesses it."""
        return hmac.digest(secret, _bytes(self.id, self.models[side]), "sha256").hex()[:32]


@dataclass(frozen=True)
class Turn:
    """A pair as one rater sees it; ``left`` is the index in the pair of the picture shown left."""

    pair: Pair
    left: int


def _hash(*parts: object) -> str:
    return hashlib.sha256(_bytes(*parts)).hexdigest()[:32]


def _bytes(*parts: object) -> bytes:
    return repr(parts).encode()


def make_pairs(entries: Sequence[Entry]) -> tuple[list[Pair], list[str]]:
    """Every picture with its counterpart of every other model.

    Returns: the pairs, and a line for each thing that the one who runs the arena should know:
        pictures without counterpart, without prompt, or of another size.
    Raises: RelayError if two of the models have no prompt in common.
    """
    pairs: list[Pair] = []
    notes = [
        f"{entry.model}: without a prompt, left out: {_some(entry.left_out)}"
        for entry in entries
        if entry.left_out
    ]
    for a, b in combinations(entries, 2):
        common = [prompt for prompt in a.pictures if prompt in b.pictures]
        if not common:
            raise RelayError(
                f"{a.model} and {b.model} have no prompt in common ({_some(a.pictures, 1)} here, "
                f"{_some(b.pictures, 1)} there); name the pictures of a prompt alike, or say what "
                "they show in a prompts.jsonl in each folder"
            )
        pairs += [
            Pair(prompt, number, (a.model, b.model), both)
            for prompt in common
            for number, both in enumerate(zip(a.pictures[prompt], b.pictures[prompt], strict=False))
        ]
        for entry, other in ((a, b), (b, a)):
            alone = [
                prompt if prompt not in other.pictures else f"{num} more of {prompt!r}"
                for prompt, pictures in entry.pictures.items()
                if (num := len(pictures) - len(other.pictures.get(prompt, ()))) > 0
            ]
            if alone:
                notes.append(f"{entry.model} has, {other.model} has not, skipped: {_some(alone)}")
    sizes = [{(picture.width, picture.height) for picture in pair.pictures} for pair in pairs]
    if different := sum(len(both) > 1 for both in sizes):
        notes.append(f"{different} of {len(pairs)} pairs differ in size: shown at the same height")
    return pairs, notes


def _some(names: Collection[str], most: int = 3) -> str:
    shown = [name if len(name) < 50 else f"{name[:48]}…" for name in list(names)[:most]]
    rest = len(names) - most
    return "; ".join(shown) + (f"; and {rest} more" if rest > 0 else "")


def choose(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    """At most ``limit`` pairs, the same for every rater, so that they can agree or not.

    No prompt comes twice before each has come once, and the models' meetings take turns.
    """
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: pair.number):
        by_prompt[pair.prompt].append(pair)
    groups = list(by_prompt.values())
    random.Random(f"choice {seed}").shuffle(groups)
    ranked = [
        (rank, index, group[(rank + index) % len(group)])
        for index, group in enumerate(groups)
        for rank in range(len(group))
    ]
    return [pair for _, _, pair in sorted(ranked, key=lambda item: item[:2])][:limit]


def turns(pairs: Sequence[Pair], rater: str, seed: int) -> list[Turn]:
    """Each pair once, in an order of the rater's own.

    Whenever two models meet, each is on the left in half of the pairs, give or take one.
    """
    rng = random.Random(f"turns {seed} {rater}")
    order = list(pairs)
    rng.shuffle(order)
    sides: dict[tuple[str, str], list[int]] = {}
    for models, num in sorted(Counter(pair.models for pair in order).items()):
        first = rng.randrange(2)
        sides[models] = [(first + index) % 2 for index in range(num)]
        rng.shuffle(sides[models])
    return [Turn(pair, sides[pair.models].pop()) for pair in order]
