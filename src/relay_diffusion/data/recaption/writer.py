"""What writes captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relay_diffusion.data.recaption.request import Request


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        prompt_tokens, completion_tokens: as the server counts them; 0 if it does not say.
        flaw: why the text is not whole, such as "cut off"; empty if it is.
        num_uncounted: tries that may have to be paid for and of which no tokens are known: those
            that had no response, and one whose answer came without a count.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    flaw: str = ""
    num_uncounted: int = 0


class Writer(Protocol):
    """A model that describes pictures.

    Attributes:
        model: its name.
        max_tokens: of an answer.
        tries: of a request, at most.
    """

    model: str
    max_tokens: int
    tries: int

    async def check(self) -> None:
        """Whether it can be asked at all, at no cost. Raises: RelayError."""

    async def write(self, request: Request, tries: int | None = None) -> Answer:
        """Ask for one caption.

        Args:
            tries: no more than these, each of which may have to be paid for; None for the writer's.
        Returns: also an answer of no use, with its flaw, where the tries that it took are charged.
        Raises: Unusable if there is no answer for this picture; RelayError if there will be none
            for any.
        """
        ...

    async def close(self) -> None: ...
