"""What the words of a prompt mean to the scene world: the vocabulary's own and everyday ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from relay_diffusion.data.scenes.vocabulary import load_vocabulary

Kind = Literal[
    "subject",  # (identifier, whether several)
    "number",  # int
    "colour",  # name of a tint or of a plain background
    "size",  # "small" or "large"
    "background",  # name of a background that is no plain colour
    "ground",  # "backdrop": a colour beside it is that of the background
    "style",  # name of a style
    "relation",  # how what stands before it is to what follows
    "relation to it",  # "on its left": how something is to what was spoken of before
    "bears",  # "topped with": what follows is above
    "place",  # "top left": where in the picture
    "row",
    "left out",  # "behind": a relation that no scene has
    "article",  # "a" or "the"
    "and",
    "stop",
    "with",
    "is",
    "it",
    "on",
    "not",
    "only",
    "filler",
    "unknown",
]
SIDES = ("left", "right")
_VOWELS = frozenset("aeiouy")


@dataclass(frozen=True)
class Token:
    """A word or phrase; ``value`` is what :data:`Kind` says, None for the kinds without."""

    kind: Kind
    value: Any
    text: str


@dataclass(frozen=True)
class Lexicon:
    """Phrases by their words, and the words that misspelt ones may stand for."""

    tokens: dict[tuple[str, ...], Token]
    guesses: dict[str, list[str]]  # by their first letter, which nobody gets wrong
    not_typos: frozenset[str]
    longest: int

    def read(self, text: str) -> Iterator[tuple[Token, str | None]]:
        """Tokens of a text, the longest phrase first, each with the word it was misspelt as."""
        words = words_in(text)
        start = 0
        while start < len(words):
            for end in range(min(len(words), start + self.longest), start, -1):
                token = self.tokens.get(tuple(words[start:end]))
                if token is None or self._cuts_a_name(token, words[end - 1 : end + 1]):
                    continue
                yield token, None
                start = end
                break
            else:
                word = words[start]
                meant = self._meant_by(word)
                if meant is None:
                    yield Token("unknown", None, word), None
                else:
                    yield self.tokens[(meant,)], word
                start += 1

    def _cuts_a_name(self, token: Token, last_two: list[str]) -> bool:
        """ "on the top hat" speaks of a thing, not of the top."""
        name = self.tokens.get(tuple(last_two))
        return token.kind == "place" and name is not None and name.kind == "subject"

    def _meant_by(self, word: str) -> str | None:
        """The known word that an unknown one is a misspelling of, if that is plain.

        Plain are two letters exchanged, a letter doubled or not, f for ph, and in longer words a
        vowel too few, too many or wrong. "moose" and "elegant" are words of their own.
        """
        guarded = self.not_typos & {word, word.removesuffix("s")}
        if len(word) < 5 or guarded or word.endswith(("ing", "ed")):
            return None
        known = self.guesses.get(word[0], ())
        return next((near for near in known if _misspelt(word, near)), None)


def _misspelt(word: str, known: str) -> bool:
    longer = len(word) > 5
    word, known = _sounds(word), _sounds(known)
    if word == known:
        return True
    if abs(len(word) - len(known)) > 1:
        return False
    differ = (i for i, (x, y) in enumerate(zip(word, known, strict=False)) if x != y)
    start = next(differ, min(len(word), len(known)))
    a, b = word[start:], known[start:]
    if len(a) == len(b):
        exchanged = a[:2] == b[1::-1] and a[2:] == b[2:]
        return exchanged or (longer and _VOWELS.issuperset((a[0], b[0])) and a[1:] == b[1:])
    long, short = (a, b) if len(a) > len(b) else (b, a)
    return longer and long[0] in _VOWELS and long[1:] == short


def _sounds(word: str) -> str:
    """With one letter for what is heard as one."""
    return re.sub(r"(.)\1", r"\1", word.replace("ph", "f").replace("c", "k"))


def words_in(text: str) -> list[str]:
    """Lower case words and single marks; hyphens and apostrophes part words, dashes are commas.

    "blue-eyed" and "16:9" are one word each: their halves say nothing of what is drawn."""
    text = re.sub(r"\s[-\N{EN DASH}\N{EM DASH}]+\s", " , ", text.lower())
    text = _COMPOUND.sub(lambda found: f"{found[1]}{_KEPT}{found[2]}", text)
    text = re.sub(r"['\N{RIGHT SINGLE QUOTATION MARK}`_\-\N{EN DASH}\N{EM DASH}]", " ", text)
    return [word.replace(_KEPT, "-") for word in _WORD.findall(text)]


_COMPOUND = re.compile(
    r"\b(\w+)-(?!(?:red|colou?red|tinted|toned|styled|sized|shaped|themed)\b)(\w+ed)\b"
)
_KEPT = "\N{HYPHEN}"
_QUOTES = '"\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}'
_WORD = re.compile(rf"\d+:\d+|\w+(?:{_KEPT}\w+)?|[^\w\s{_QUOTES}]")


@lru_cache(maxsize=1)
def load_thesaurus() -> dict[str, Any]:
    """The packaged everyday words, by what they stand for."""
    text = files("relay_diffusion.data.scenes").joinpath("thesaurus.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@lru_cache(maxsize=1)
def load_lexicon() -> Lexicon:
    """All phrases. Where one has two meanings, that of the vocabulary comes first."""
    thesaurus = load_thesaurus()
    tokens: dict[tuple[str, ...], Token] = {}
    guesses: dict[str, list[str]] = {}
    for kind, value, phrase in _phrases(thesaurus):
        words = tuple(words_in(phrase))
        if words in tokens:
            continue
        tokens[words] = Token(kind, value, phrase)
        guessed = kind in ("subject", "colour", "background", "style") and len(words) == 1
        if guessed and len(phrase) > 3:
            guesses.setdefault(phrase[0], []).append(phrase)
    return Lexicon(tokens, guesses, frozenset(thesaurus["not_typos"]), max(map(len, tokens)))


def _phrases(thesaurus: dict[str, Any]) -> Iterator[tuple[Kind, Any, str]]:
    vocabulary = load_vocabulary()
    for subject in vocabulary.subjects.values():
        yield from (("subject", (subject.id, False), name) for name in subject.singulars)
        yield "subject", (subject.id, True), subject.plural
    for subject in vocabulary.subjects.values():
        yield from _named(
            subject.id, (*subject.synonyms, *thesaurus["subjects"].get(subject.id, ()))
        )
    for word, name in thesaurus["irregular_plurals"].items():
        yield "subject", (name, True), word
    for word, name in thesaurus["kinds"].items():
        yield from _named(name, (word,))
    for name, phrases in vocabulary.styles.items():
        yield from (("style", name, phrase) for phrase in phrases)
    for name, phrases in vocabulary.backgrounds.items():
        if name not in {*vocabulary.tints, *thesaurus["other_colours"]}:
            yield from (("background", name, phrase) for phrase in phrases)
    for colour in (*vocabulary.tints, *thesaurus["other_colours"]):
        yield "colour", colour, colour
    by_value: tuple[tuple[Kind, str], ...] = (
        ("colour", "tints"),
        ("size", "sizes"),
        ("background", "backgrounds"),
        ("style", "styles"),
        ("relation", "relations"),
        ("article", "articles"),
    )
    for kind, key in by_value:
        for value, phrases in thesaurus[key].items():
            yield from ((kind, value, phrase) for phrase in phrases)
    for number, phrases in thesaurus["numbers"].items():
        yield from (("number", int(number), phrase) for phrase in phrases)
    yield from _positions(thesaurus)
    without_value: tuple[tuple[Kind, str], ...] = (
        ("ground", "background_words"),
        ("bears", "bears"),
        ("row", "row"),
        ("left out", "left_out"),
        ("and", "and"),
        ("stop", "stops"),
        ("with", "with"),
        ("is", "is"),
        ("it", "it"),
        ("on", "on"),
        ("not", "not"),
        ("only", "only"),
        ("filler", "fillers"),
    )
    for kind, key in without_value:
        yield from ((kind, None, phrase) for phrase in thesaurus[key])


def _named(subject: str, names: Iterable[str]) -> Iterator[tuple[Kind, Any, str]]:
    for name in names:
        yield "subject", (subject, False), name
        yield "subject", (subject, True), plural_of(name)


def _positions(thesaurus: dict[str, Any]) -> Iterator[tuple[Kind, Any, str]]:
    for side in SIDES:
        for pattern in thesaurus["sides"]:
            yield "relation", f"{side} of", pattern.format(side=side)
        for pattern in thesaurus["sides_of_it"]:
            for its in thesaurus["its"]:
                yield "relation to it", f"{side} of", pattern.format(side=side, its=its)
    places = thesaurus["places"]
    phrases = [
        (place, f"{preposition} {name}".strip())
        for place, names in places.items()
        for name in names
        for preposition in thesaurus["in_places"]
    ]
    phrases += [
        (place, name) for place, names in thesaurus["more_places"].items() for name in names
    ]
    for place, phrase in phrases:
        yield "place", place, phrase
        for picture in thesaurus["of_the_picture"]:
            yield "place", place, f"{phrase} {picture}"


def plural_of(name: str) -> str:
    """As English makes plurals; of the last word, or of "piece" in "piece of cheese"."""
    head, of, rest = name.partition(" of ")
    if head.endswith("y") and head[-2:-1] not in tuple("aeiou"):
        head = head[:-1] + "ies"
    elif head.endswith(("s", "x", "ch", "sh")):
        head += "es"
    else:
        head += "s"
    return head + of + rest
