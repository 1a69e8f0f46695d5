"""A prompt's long form, or the prompt itself where there is none to be had."""

from __future__ import annotations

import re
from typing import Any

from relay_diffusion.pipelines.notices import quoted, warn_once
from relay_diffusion.pipelines.prompts.answers import usable
from relay_diffusion.pipelines.prompts.expander import (
    Expander,
    ExpansionError,
    NothingToExpand,
    UnusableAnswer,
)

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def expand_prompt(
    expander: Expander, prompt: str, seed: int, tokenizer: Any, max_tokens: int
) -> str:
    """The long form of a prompt as :func:`long_form` makes it, where there is one to be had.

    Whatever goes wrong is one line of warning, and the prompt comes back as it was typed: a picture
    of a short prompt is better than none.
    """
    try:
        return long_form(expander, prompt, seed, tokenizer, max_tokens)
    except ExpansionError as error:
        return _as_typed(prompt, str(error))
    except Exception as error:  # an expander may call anything: a network, a library, a GPU
        return _as_typed(prompt, f"{type(error).__name__}: {error}")


def long_form(expander: Expander, prompt: str, seed: int, tokenizer: Any, max_tokens: int) -> str:
    """The long form of a prompt, no longer than the text encoder reads.

    An empty prompt, one with nothing in it that the expander knows, and one whose answer is of no
    use stay as they were typed.
    Raises: ExpansionError where the expander fails, and what it raises.
    """
    if not prompt.strip():
        return prompt
    try:
        text = usable(expander.expand(prompt, seed))
    except (NothingToExpand, UnusableAnswer) as error:
        return _as_typed(prompt, str(error))
    return shortened(text, tokenizer, max_tokens)


def shortened(text: str, tokenizer: Any, max_tokens: int) -> str:
    """As much of a text as fits, ending with a sentence where one fits, else with a word."""
    room = max_tokens - tokenizer.num_special_tokens_to_add()

    def fits(start: str) -> bool:
        return len(tokenizer(start, add_special_tokens=False, verbose=False).input_ids) <= room

    if fits(text):
        return text
    pieces = _SENTENCE_END.split(text)
    if not fits(pieces[0]):
        pieces = text.split()
    kept = next(
        " ".join(pieces[:num]) for num in range(len(pieces), -1, -1) if fits(" ".join(pieces[:num]))
    )
    cut = quoted(text[len(kept) :])
    warn_once(f"the expanded prompt is longer than {max_tokens} tokens: its end is cut: {cut}")
    return kept


def _as_typed(prompt: str, why: str) -> str:
    warn_once(f"the prompt is not expanded: {' '.join(why.split())}")
    return prompt
