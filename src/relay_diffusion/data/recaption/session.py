"""From a data set to the same data set with one more caption field."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.recaption.budget import Budget
from relay_diffusion.data.recaption.journal import Journal
from relay_diffusion.data.recaption.merging import merge
from relay_diffusion.data.recaption.plan import failing, make_plan
from relay_diffusion.data.recaption.request import make_request
from relay_diffusion.data.recaption.run import Run
from relay_diffusion.data.recaption.settings import Settings
from relay_diffusion.data.recaption.summary import (
    counts,
    example,
    expectation,
    failures,
    out_of_money,
    spent,
    unread,
)
from relay_diffusion.data.recaption.tokens import Tokens, expected_tokens
from relay_diffusion.data.recaption.writer import Writer
from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class Watch:
    """Who is told what.

    Attributes:
        say: a line for the user.
        advance: pictures asked about, and of how many.
    """

    say: Callable[[str], None]
    advance: Callable[[int, int], None] = lambda done, total: None


def rehearse(
    records: Records,
    journal: Journal,
    settings: Settings,
    model: str | None,
    per_minute: float | None,
    say: Callable[[str], None],
) -> None:
    """Say what :func:`recaption` would do, and what it would take. Raises: RelayError."""
    if passed_over := unread(records.bad_lines()):
        say(passed_over)
    plan = make_plan(records, journal, settings)
    ask = plan.ask[: settings.num]
    for i in ask:
        try:
            request = make_request(records, i, settings)
        except PictureFault:
            continue
        say(example(request, model))
        break
    say(counts(plan, len(records), len(ask)))
    if ask:
        tokens = expected_tokens(journal.answered(), records, ask, settings)
        say(expectation(len(ask), tokens, settings.prices, per_minute))


def recaption(
    records: Records, journal: Journal, settings: Settings, writer: Writer, watch: Watch
) -> signal.Signals | None:
    """Ask about all pictures that lack a caption, and write what was answered into the data.

    Args:
        journal: held.
    Returns: the signal that ended it early, after which the data are as they were.
    Raises: RelayError if the model cannot be asked any more, when what it answered is in the data,
        or if the data cannot be written; the answers are in the journal.
    """
    if passed_over := unread(records.bad_lines()):
        watch.say(passed_over)
    plan = make_plan(records, journal, settings)
    ask = plan.ask[: settings.num]
    watch.say(counts(plan, len(records), len(ask)))
    run, error = _run(records, journal, settings, writer, ask, watch)
    if run.entries:
        watch.say(spent(run.entries, journal.cost))
    listed = journal.path.with_suffix(".failed")  # stays where nothing was asked
    if (run.entries or not error) and (
        failed := failures(failing(records, journal, plan), plan.bad, listed)
    ):
        watch.say(failed)
    if run.signal and not error:
        watch.say(
            f"stopped by {run.signal.name}: all answers are kept in {journal.path}; the same "
            "command goes on, and in the end writes them into the data"
        )
        return run.signal
    captions = make_plan(records, journal, settings).merge
    files = merge(records, settings.field, captions)
    if captions:
        where = files[0] if len(files) == 1 else f"{len(files)} files"
        watch.say(f"{len(captions)} captions written as {settings.field} to {where}")
    if error:
        raise error
    if run.budget.used_up:
        left = len(ask) - len(run.entries)
        watch.say(out_of_money(left, journal.cost, run.budget.most, settings.budget))
    return None


def _run(
    records: Records,
    journal: Journal,
    settings: Settings,
    writer: Writer,
    ask: Sequence[int],
    watch: Watch,
) -> tuple[Run, RelayError | None]:
    """What came, and what ended it, which says how to go on."""
    tokens = Tokens(0.0, 0.0)
    if settings.prices:
        tokens = expected_tokens(journal.answered(), records, ask, settings)
    budget = Budget(settings, journal, writer, tokens)
    run = Run(
        records, writer, journal, settings, budget, lambda done: watch.advance(done, len(ask))
    )

    async def talk() -> None:
        try:
            await writer.check()
            await run.ask_about(ask)
        finally:
            await writer.close()

    try:
        if ask:
            watch.advance(0, len(ask))
            asyncio.run(talk())
    except RelayError as error:
        if not run.entries:
            return run, error
        return run, RelayError(
            f"{error}; the {len(run.entries)} answers of this run are kept in {journal.path}, and "
            "the same command goes on"
        )
    return run, None
