"""What an expander is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class ExpansionError(Exception):
    """Why a prompt could not be expanded, in words that follow "the prompt is not expanded:"."""


class UnusableAnswer(ExpansionError):
    """The language model answered, with what is no long form: a refusal, another language."""


class NothingToExpand(ExpansionError):
    """The prompt has nothing that the expander knows: no failure, and the same another time."""


@runtime_checkable
class Expander(Protocol):
    """Anything that rewrites a prompt."""

    def expand(self, prompt: str, seed: int) -> str:
        """The long form of a prompt: equal arguments give equal texts, as far as that can be had.

        Raises: ExpansionError, after which the picture is made of the prompt as it was typed.
        """
        ...
