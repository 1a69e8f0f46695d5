"""What a language model answered, made into a prompt or refused."""

from __future__ import annotations

import re
import unicodedata

from relay_diffusion.pipelines.prompts.expander import ExpansionError

MAX_WORDS = 400
"""Twice what is asked for. An answer beyond it has run away, or is about something else."""

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_LABEL = re.compile(
    r"^\W*(?:(?:expanded|rewritten|final)\s+)?(?:prompt|caption)\W*:\s*", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"^(?:i['\u2019]?m sorry|i am sorry|sorry|i can(?:no|['\u2019])t)\b", re.IGNORECASE
)
_QUOTES = "\"'\u201c\u201d\u2018\u2019"


def usable(answer: str) -> str:
    """The text of an answer in one line, without thoughts, labels and quotation marks around it.

    Raises: ExpansionError if it is empty, a refusal, longer than :data:`MAX_WORDS`, or mostly in
        letters that are not Latin, which no text encoder of ours was trained on.
    """
    text = _FENCE.sub("", _THOUGHTS.sub("", answer).strip())
    text = " ".join(_LABEL.sub("", text).split())
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    if not any(map(str.isalnum, text)):
        raise ExpansionError("the answer is empty")
    num_words = len(text.split())
    if num_words > MAX_WORDS:
        raise ExpansionError(f"the answer has {num_words} words, allowed is {MAX_WORDS}")
    if _REFUSAL.match(text):
        raise ExpansionError(f"the answer is a refusal: {text[:60]!r}")
    letters = [character for character in text if character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if latin < len(letters) / 2:
        raise ExpansionError(f"the answer is not in English: {text[:40]!r}")
    return text
