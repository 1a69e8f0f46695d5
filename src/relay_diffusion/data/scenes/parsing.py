"""What a prompt asks for, read from whatever words somebody typed.

No grammar of English: words are looked up in a lexicon, adjectives go to the thing that follows or,
where none does, to the one before, and words of position are resolved by their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay_diffusion.data.scenes.drafts import Drafts, Pending
from relay_diffusion.data.scenes.facts import Asked, Facts
from relay_diffusion.data.scenes.lexicon import Kind, Token, load_lexicon, load_thesaurus
from relay_diffusion.data.scenes.standing import Element, ElementKind, read_standing
from relay_diffusion.data.scenes.vocabulary import load_vocabulary

_ADJECTIVES: tuple[Kind, ...] = ("number", "colour", "size")
_MATERIALS = ("paper", "canvas", "wall")
"""Words of backgrounds that things may be made for, or of."""
_PATTERNS = ("stripes", "polka dots")
"""Backgrounds that things may have on them."""


def parse(prompt: str) -> Facts:
    """The facts that a prompt states, in any words and any order, whatever the world.

    Nothing is refused: what is not understood is in ``left_out``.
    """
    read = list(load_lexicon().read(prompt))
    reader = _Reader([token for token, _ in read])
    reader.run()
    name_of = {word: token for token, word in read if word is not None}
    return reader.facts([(word, _meaning(token)) for word, token in name_of.items()])


def _meaning(token: Token) -> str:
    return (
        load_vocabulary().subjects[token.value[0]].name if token.kind == "subject" else token.text
    )


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.pending = Pending()
        self.drafts = Drafts()
        self.sentence = 0
        self.elements: list[Element] = []
        self.background: str | None = None
        self.supposed: tuple[str, str] | None = None  # a background that was not said to be one
        self.style: str | None = None
        self.vague_style = False
        self.row = False
        self.left_out: list[str] = []
        self.read_as: list[tuple[str, str]] = []

    def run(self) -> None:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            # A kind of token with a method of its name here is read by it.
            getattr(self, "_" + token.kind.replace(" ", "_"), self._other)(token)
            self.at += 1
        self._settle()
        if self.supposed is not None:
            self._set_background(*self.supposed)

    def facts(self, read_as: list[tuple[str, str]]) -> Facts:
        standing = read_standing(self.elements)
        things = []
        for number, draft in enumerate(self.drafts.things):
            place = standing.places.get(number) if draft.count == 1 else None
            things.append(Asked(draft.subject, draft.count, draft.tint, draft.size, place))
        return Facts(
            tuple(things),
            tuple(standing.relations),
            self.row or standing.row,
            self.background,
            self.style,
            tuple(dict.fromkeys(self.left_out + self.drafts.left_out + standing.left_out)),
            tuple(self.read_as + read_as),
        )

    # Words that wait.

    def _article(self, token: Token) -> None:
        if self.pending.adjectives and not self.pending.negated:
            self._settle()
        self.pending.article = token.value

    def _number(self, token: Token) -> None:
        if token.text == "one" and (self.pending.colour or self.pending.size):
            self.pending.article = None  # "a guitar, a red one"
            self._settle()
        else:
            self.pending.count = token.value

    def _colour(self, token: Token) -> None:
        self.pending.colour = self.pending.colour or token.value
        self.pending.words.append(token.text)

    def _size(self, token: Token) -> None:
        self.pending.size = self.pending.size or token.value

    def _on(self, token: Token) -> None:
        self._settle()
        if token.text != "against":  # nothing stands above what it leans against
            self._add("on")
        self.pending.on = True

    def _not(self, token: Token) -> None:
        self._settle()
        self.pending.negated = True

    def _only(self, token: Token) -> None:
        self.pending.negated = False

    # Words that end a waiting.

    def _subject(self, token: Token) -> None:
        identifier, several = token.value
        if self._is_adjective(token, identifier):
            return
        if self._is_pencil_style(token):
            self._style(Token("style", "pencil sketch", token.text))
            return
        pending, self.pending = self.pending, Pending()
        if pending.negated:
            return
        kinds = load_thesaurus()["kinds"]
        general = next((w for w in (token.text, token.text.removesuffix("s")) if w in kinds), None)
        if general:
            self.read_as.append((token.text, load_vocabulary().subjects[identifier].name))
        after_is = self._kind(-1) == "is" or (self._kind(-2) == "is" and bool(pending.article))
        number = self.drafts.mention(identifier, several, pending, self.sentence, after_is)
        self._add("mention", number)

    def _unknown(self, token: Token) -> None:
        self.left_out.append(token.text)
        ahead = 1
        while self._kind(ahead) == "filler":
            ahead += 1
        if self._kind(ahead) in (*_ADJECTIVES, "subject", "unknown", "style"):
            return
        pending = self.pending
        if pending.negated:  # "without a hat"
            self.pending = Pending()
        elif pending.article or pending.adjectives:
            self.pending = Pending()
            self.drafts.last = None
            self._add("mention", None)

    def _background(self, token: Token) -> None:
        if self._kind(1) == "subject":  # "a wooden house", on wood if nothing else is said
            self.supposed = self.supposed or (token.value, token.text)
            return
        pending, self.pending = self.pending, Pending()
        if pending.negated:
            return
        if token.value in _PATTERNS and (pending.colour or self._kind(-1) == "with"):
            self.left_out.extend(pending.words)  # "a tiger with blue stripes"
            self.supposed = self.supposed or (token.value, token.text)
            return
        self._drop_position()
        self._set_background(token.value, token.text)

    def _ground(self, token: Token) -> None:
        """ "yellow backdrop", "background: yellow", "behind it everything is yellow"."""
        if token.text in _MATERIALS and self._kind(1) == "subject":
            self.left_out.append(token.text)  # "a red paper plane"
            return
        colour, self.pending = self.pending.colour, Pending()
        if colour is None:
            for ahead in range(1, 5):
                kind = self._kind(ahead)
                if kind == "colour" and self._kind(ahead + 1) != "subject":
                    colour = self.tokens[self.at + ahead].value
                    self.at += ahead
                if kind not in ("is", "filler", "article", "only"):
                    break
        if colour is not None:
            self._drop_position()
            self._set_background(colour, token.text)

    def _drop_position(self) -> None:
        """ "under a starry sky" is no position."""
        if self.elements and self.elements[-1].kind in ("relation", "on"):
            self.elements.pop()

    def _style(self, token: Token) -> None:
        if self.pending.negated:
            self.pending = Pending()
        elif self.style is None or self.vague_style:
            self.style = token.value
            self.vague_style = token.text in load_thesaurus()["vague_styles"]
        elif self.style != token.value:
            self.left_out.append(token.text)

    def _row(self, token: Token) -> None:
        self._settle()
        self.row = True

    def _bears(self, token: Token) -> None:
        self._settle()
        self._add("relation", "below")

    def _filler(self, token: Token) -> None:
        if token.text == "of" and not self.pending.count:
            self.pending = Pending()

    def _and(self, token: Token) -> None:
        # "a big, red rocket" waits on.
        first = self.drafts.last is None
        if first or self.pending.article is None:
            self._settle(keep=first)
        self._add("and")

    def _stop(self, token: Token) -> None:
        self._settle()
        self.sentence += 1
        self._add("stop")

    def _other(self, token: Token) -> None:
        if token.text in ("coloured", "colored") and self.pending.colour:
            return  # "a red-coloured owl"
        one = self.pending.count == 1 and not (self.pending.colour or self.pending.size)
        if not (token.kind == "is" and one):  # "two cats, one is red and one is blue"
            self._settle()
        kinds: dict[Kind, ElementKind] = {
            "relation": "relation",
            "relation to it": "relation to it",
            "place": "place",
            "left out": "left out",
            "it": "it",
            "is": "is",
            "with": "with",
        }
        self._add(kinds[token.kind], token.text if token.kind == "left out" else token.value)

    def _settle(self, keep: bool = False) -> None:
        """Adjectives that no thing follows: a background's colour, or of the thing before."""
        pending = self.pending
        if keep and pending.adjectives:
            return
        self.pending = Pending()
        if not pending.adjectives or pending.negated:
            return
        if pending.colour is not None and pending.on:
            self._set_background(pending.colour, pending.colour)
        elif pending.article == "a":
            self.left_out.extend(pending.words)  # "an orange"
        else:
            self.drafts.describe(pending)

    def _set_background(self, name: str, text: str) -> None:
        if self.background is None:
            self.background = name
        elif self.background != name:
            self.left_out.append(text)

    def _is_adjective(self, token: Token, identifier: str) -> bool:
        """ "apple tree" is a tree, and a "sweet fox" a fox."""
        if self._kind(1) != "subject":
            return False
        head = self.tokens[self.at + 1].value[0]
        thesaurus = load_thesaurus()
        return head in thesaurus["compounds"] or token.text in thesaurus["also_adjectives"]

    def _is_pencil_style(self, token: Token) -> bool:
        """ "kangaroo, pencil", but "a pencil and an owl"."""
        alone = not self.pending.article and not self.pending.adjectives
        ends = self._kind(1) in (None, "stop")
        return token.text == "pencil" and alone and ends and self._kind(-1) is not None

    def _kind(self, offset: int) -> Kind | None:
        at = self.at + offset
        return self.tokens[at].kind if 0 <= at < len(self.tokens) else None

    def _add(self, kind: ElementKind, value: str | int | None = None) -> None:
        self.elements.append(Element(kind, value))
