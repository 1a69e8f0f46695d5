"""Things while a prompt is being read: words that wait for one, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relay_diffusion.data.scenes.lexicon import load_thesaurus
from relay_diffusion.data.scenes.vocabulary import load_vocabulary


@dataclass
class Pending:
    """Words that wait for the thing they belong to.

    Attributes:
        article: "a", "another" or "the".
        on: "on" or "against" came before: a colour may be that of the background.
        words: those of the colour, as they were typed.
    """

    article: str | None = None
    count: int | None = None
    colour: str | None = None
    size: Any = None
    on: bool = False
    negated: bool = False
    words: list[str] = field(default_factory=list)

    @property
    def adjectives(self) -> bool:
        return self.count is not None or self.colour is not None or self.size is not None


@dataclass
class Draft:
    """A thing, or several alike; ``counted`` if their number was said, ``sentence`` the last."""

    subject: str
    count: int
    counted: bool
    tint: str | None
    size: Any
    sentence: int


class Drafts:
    """The things read about so far.

    Attributes:
        last: the one spoken of last, None after something that no scene has.
        left_out: colours that nothing is painted in.
    """

    def __init__(self) -> None:
        self.things: list[Draft] = []
        self.last: Draft | None = None
        self.left_out: list[str] = []

    def mention(
        self, subject: str, several: bool, pending: Pending, sentence: int, after_is: bool
    ) -> int:
        """The number of a thing that is spoken of, for the first time or again."""
        tint = self._tint(pending)
        draft = self._again(subject, several, tint, pending, sentence, after_is)
        if draft is None:
            count = pending.count or (2 if several else 1)
            counted = pending.count is not None
            draft = Draft(subject, count, counted, tint, pending.size, sentence)
            self.things.append(draft)
        draft.sentence = sentence
        self.last = draft
        return next(number for number, thing in enumerate(self.things) if thing is draft)

    def describe(self, pending: Pending) -> None:
        """What is said of the last thing after it was named, as far as it is not said yet."""
        draft = self.last
        if draft is None:
            return
        tint = self._tint(pending)
        if pending.count == 1 and draft.count > 1 and (tint or pending.size):
            draft.count -= 1  # "two owls, one red and one blue"
            self.things.append(Draft(draft.subject, 1, True, tint, pending.size, draft.sentence))
            return
        draft.tint, draft.size = draft.tint or tint, draft.size or pending.size
        if pending.count and not draft.counted:
            draft.count, draft.counted = pending.count, True

    def _again(
        self,
        subject: str,
        several: bool,
        tint: str | None,
        pending: Pending,
        sentence: int,
        after_is: bool,
    ) -> Draft | None:
        """The thing spoken of before that a mention is of, with what the mention adds."""
        for draft in self.things:
            differs = tint and draft.tint and tint != draft.tint
            resized = pending.size and draft.size and pending.size != draft.size
            if draft.subject != subject or differs or resized:
                continue
            alike = (tint, pending.size) == (draft.tint, draft.size)
            known = pending.article == "the" or after_is or draft.sentence < sentence
            bare = not (pending.article or pending.adjectives or several or alike)
            if pending.article != "another" and (known or bare):  # "teapot, owl. owl on top"
                self.last = draft
                self.describe(pending)
                return draft
            if alike:  # "a fox and a fox"
                draft.count += pending.count or (2 if several else 1)
                return draft
        return None

    def _tint(self, pending: Pending) -> str | None:
        colour = pending.colour
        if colour is None or colour in load_vocabulary().tints:
            return colour
        nearest: str | None = load_thesaurus()["other_colours"][colour]
        if nearest is None:
            self.left_out.extend(pending.words)
        return nearest
