"""All pictures are asked about, many at a time, until done, stopped or out of money."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.recaption.answers import Unusable, caption_of
from relay_diffusion.data.recaption.budget import Budget
from relay_diffusion.data.recaption.journal import Entry, Journal
from relay_diffusion.data.recaption.request import make_request
from relay_diffusion.data.recaption.settings import Settings
from relay_diffusion.data.recaption.writer import Answer, Writer
from relay_diffusion.errors import RelayError

FAILURES_IN_A_ROW = 20
"""Of the model: more are no bad luck, and may cost money. Pictures that failed in an earlier run do
not count: they may fail for ever, and stand one behind the other."""

GRACE_SECONDS = 20.0
"""For answers under way when a run is stopped. They are paid for; preempted machines have 30."""


class Run:
    """Asks a writer about records, and writes down what comes of each.

    Args:
        budget: in which requests are made, and by which they are charged.
        report: told how many have been asked about.
    Attributes:
        entries: what came, in that order.
        signal: that ended it early, if one did.
    """

    def __init__(
        self,
        records: Records,
        writer: Writer,
        journal: Journal,
        settings: Settings,
        budget: Budget,
        report: Callable[[int], None],
    ) -> None:
        self.records, self.writer, self.journal = records, writer, journal
        self.settings, self.budget, self.report = settings, budget, report
        self.entries: list[Entry] = []
        self.signal: signal.Signals | None = None
        self._error: RelayError | None = None
        self._num_failed_in_a_row = 0

    async def ask_about(self, rows: Sequence[int]) -> None:
        """Returns when all have been asked about, or one of the attributes says why not. The first
        signal lets answers under way come in, for a while; a second does not.

        Raises: RelayError if the model will answer no more.
        """
        left = iter(rows)
        workers = [self._work(left) for _ in range(self.settings.parallel)]
        everyone = asyncio.gather(*workers)
        stopped = asyncio.Event()

        def stop(number: signal.Signals) -> None:
            if stopped.is_set():
                everyone.cancel()
            self.signal = number
            stopped.set()

        stopping = asyncio.ensure_future(stopped.wait())
        with _on_signals(stop):
            either: list[asyncio.Future[Any]] = [everyone, stopping]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not everyone.done():  # stopped
                await asyncio.wait([everyone], timeout=GRACE_SECONDS)
                everyone.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await everyone
        if self._error:
            raise self._error

    async def _work(self, left: Iterator[int]) -> None:
        while not (self.signal or self._error):
            i = next(left, None)
            if i is None:
                return
            tries = await self.budget.take()
            try:
                if not tries or self.signal or self._error:
                    return
                entry = await self._ask(i, tries)
                self.journal.add(entry)
                self.budget.learn(entry)
            except RelayError as error:
                self._error = self._error or error
                return
            finally:
                self.budget.give_back(tries)
            self.entries.append(entry)
            self.report(len(self.entries))

    async def _ask(self, i: int, tries: int) -> Entry:
        settings, place = self.settings, self.records.place(i)
        file, version = self.journal.relative(place.file), settings.instruction.version
        entry = Entry(file, place.name, None, version, self.writer.model, None)
        try:
            request = await asyncio.to_thread(make_request, self.records, i, settings)
            entry = replace(entry, original=request.original)
            answer = await self.writer.write(request, tries)
            entry = self._charged(entry, answer)
            if answer.flaw:
                raise Unusable(answer.flaw, answer.text[-60:])
            text = caption_of(answer.text, settings.min_words, settings.max_words)
        except PictureFault as fault:
            return replace(entry, fault=str(fault))
        except Unusable as fault:
            self._num_failed_in_a_row += not self.journal.failed(place)
            if self._num_failed_in_a_row >= FAILURES_IN_A_ROW:
                self._error = self._error or RelayError(
                    f"the last {FAILURES_IN_A_ROW} answers were of no use, the very last: {fault}"
                )
            return replace(entry, fault=str(fault))
        self._num_failed_in_a_row = 0
        return replace(entry, text=text)

    def _charged(self, entry: Entry, answer: Answer) -> Entry:
        read, written = answer.prompt_tokens, answer.completion_tokens
        entry = replace(entry, prompt_tokens=read, completion_tokens=written)
        if not self.settings.prices:
            return entry
        cost = self.budget.cost(answer)
        return replace(entry, cost=cost, estimated=answer.num_uncounted > 0)


@contextlib.contextmanager
def _on_signals(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGINT and SIGTERM, where they can be caught: not on Windows, nor off the main thread."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, act, number)
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
