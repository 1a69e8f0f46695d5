"""What a language model answered, made into a prompt or refused."""

from __future__ import annotations

import unicodedata

from relay_diffusion.models.answers import is_refusal, plain
from relay_diffusion.pipelines.prompts.expander import UnusableAnswer
from relay_diffusion.pipelines.prompts.languages import is_foreign

MAX_WORDS = 400
"""Twice what is asked for. An answer beyond it has run away, or is about something else."""


def usable(answer: str) -> str:
    """The text of an answer in one line, without thoughts, labels and quotation marks around it.

    Raises: UnusableAnswer if it is empty, a refusal, longer than :data:`MAX_WORDS`, or in a
        language other than English, which no cascade was trained on: mostly in letters that are not
        Latin, or with the small words of that language, see :func:`is_foreign`.
    """
    text = plain(answer)
    if not text:
        raise UnusableAnswer("the answer is empty")
    num_words = len(text.split())
    if num_words > MAX_WORDS:
        raise UnusableAnswer(f"the answer has {num_words} words, allowed is {MAX_WORDS}")
    if is_refusal(text):
        raise UnusableAnswer(f"the answer is a refusal: {text[:60]!r}")
    letters = [character for character in text if character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if latin < len(letters) / 2 or is_foreign(text):
        raise UnusableAnswer(f"the answer is not in English: {text[:40]!r}")
    return text
