"""A budget that holds whatever servers do: what requests under way may cost is held back."""

from __future__ import annotations

import asyncio
import math
from itertools import chain

from relay_diffusion.data.recaption.journal import Entry, Journal
from relay_diffusion.data.recaption.settings import Prices, Settings
from relay_diffusion.data.recaption.tokens import Tokens
from relay_diffusion.data.recaption.writer import Answer, Writer


class Budget:
    """What is spent, what may have to be, and what is left.

    A request that times out is repeated, and each try may have to be paid for. So every request
    takes a number of tries out of the budget before it starts, each at the most that a picture can
    cost, and gives them back when it has ended and been charged. Before the first answer nobody
    knows how the server counts, so requests go one by one until it is there.

    Args:
        journal: whose cost counts.
        expected: tokens of a picture, until some are counted.
    Attributes:
        used_up: whether not even one try has room.
    """

    def __init__(
        self, settings: Settings, journal: Journal, writer: Writer, expected: Tokens
    ) -> None:
        self._prices = settings.prices or Prices(0.0, 0.0)
        self._limit = math.inf if settings.budget is None else settings.budget
        self._journal, self._writer, self._expected = journal, writer, expected
        self._cost, self._num_paid = 0.0, 0
        self._num_held = 0
        self._ended = asyncio.Event()
        known = [e for e in chain(*journal.entries.values()) if e.model == writer.model]
        self._is_unknown = settings.budget is not None and not any(map(_tells, known))
        self._read = max((e.prompt_tokens for e in known), default=0)
        self._written = max((e.completion_tokens for e in known), default=0)
        self.used_up = False

    @property
    def each(self) -> float:
        """What a picture costs, as far as is known: charged where the server does not count."""
        if self._num_paid:
            return self._cost / self._num_paid
        return self._prices.of(self._expected.prompt, self._expected.completion)

    @property
    def most(self) -> float:
        """What one try can cost: as many tokens read as for any picture so far, and an answer as
        long as it may be."""
        written = max(self._written, self._writer.max_tokens)
        return max(self.each, self._prices.of(self._read or self._expected.prompt, written))

    async def take(self) -> int:
        """Holds the tries of one request back, and waits for others to end where there is no room
        for all that the writer makes; what is left at the very end may be fewer.

        Returns: how many the request may make; 0 if none, when ``used_up``.
        """
        tries = self._room()
        while self._num_held and (self._is_unknown or tries < self._writer.tries):
            await self._ended.wait()
            tries = self._room()
        self.used_up = self.used_up or not tries
        self._num_held += tries
        return tries

    def give_back(self, tries: int) -> None:
        """When the request has ended, and been charged."""
        self._num_held -= tries
        self._ended.set()
        self._ended = asyncio.Event()

    def cost(self, answer: Answer) -> float:
        """Of an answer and the tries that it took."""
        counted = self._prices.of(answer.prompt_tokens, answer.completion_tokens)
        return counted + answer.num_uncounted * self.each

    def learn(self, entry: Entry) -> None:
        """What pictures cost, from what one did."""
        self._is_unknown = self._is_unknown and not _tells(entry)
        self._read = max(self._read, entry.prompt_tokens)
        self._written = max(self._written, entry.completion_tokens)
        if entry.cost and not entry.estimated:
            self._cost, self._num_paid = self._cost + entry.cost, self._num_paid + 1

    def _room(self) -> int:
        """Tries that there is room for, up to those of one request."""
        left = (self._limit - self._journal.cost) / self.most if self.most else math.inf
        return int(max(0, min(self._writer.tries, left - self._num_held)))


def _tells(entry: Entry) -> bool:
    """Whether it says how the server counts, or that it does not."""
    return entry.prompt_tokens > 0 or entry.estimated
