"""Which pictures of a data set are to be asked about, and which captions are to be written."""

from __future__ import annotations

from dataclasses import dataclass

from relay_diffusion.data.pictures.faults import BadRecord, PictureFault
from relay_diffusion.data.pictures.records import Place, Records
from relay_diffusion.data.recaption.journal import Entry, Journal
from relay_diffusion.data.recaption.settings import Settings
from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class Plan:
    """Of the records of a data set.

    Attributes:
        ask: those to ask about, the ones that failed before behind all others.
        merge: captions that were answered and are not in the data yet.
        num_done: those whose caption is in the data, or answered.
        bad: those that cannot be asked about.
    """

    ask: list[int]
    merge: dict[Place, str]
    num_done: int
    bad: list[BadRecord]


def make_plan(records: Records, journal: Journal, settings: Settings) -> Plan:
    """What is left to do, from what the data and the journal hold.

    An answer counts if the original caption is still the one that it was given for. A caption that
    is in the data and did not come from here is never replaced, nor one that was changed since.

    Raises: RelayError if no record has the original field, and some have others.
    """
    ask: list[int] = []
    again: list[int] = []
    to_merge: dict[Place, str] = {}
    bad: list[BadRecord] = []
    fields: set[str] = set()
    num_done = 0
    for i in range(len(records)):
        try:
            captions = records.texts(i).captions
        except PictureFault as fault:
            bad.append(BadRecord(records.key(i), fault.kind, fault.detail))
            continue
        fields |= captions.keys()
        place, present = records.place(i), captions.get(settings.field)
        original = captions.get(settings.original) if settings.original else None
        answers = [entry for entry in journal.of(place) if entry.text]
        if present is None or present in [entry.text for entry in answers]:
            answer = next((e for e in reversed(answers) if _counts(e, original, settings)), None)
            if answer and answer.text and answer.text != present:
                to_merge[place] = answer.text
            elif not answer and (present is None or settings.renew):
                (again if journal.failed(place) else ask).append(i)
                continue
        num_done += 1
    others = sorted(fields - {settings.field})
    if settings.original and others and settings.original not in fields:
        raise RelayError(
            f"no picture has a caption {settings.original!r} to go along, only "
            f"{', '.join(others)}: give --original {others[0]}, or --no-original"
        )
    return Plan(ask + again, to_merge, num_done, bad)


def failing(records: Records, journal: Journal, plan: Plan) -> list[Entry]:
    """The last entry of each picture that has no caption after all, also of earlier runs and of
    other shards, as long as the files are there.

    Args:
        plan: of ``records``; the journal may have become longer since.
    """
    ask = set(plan.ask)
    settled = set()
    for i in range(len(records)):
        if i not in ask:
            place = records.place(i)
            settled.add((journal.relative(place.file), place.name))
    last = ((at, entries[-1]) for at, entries in journal.entries.items() if at not in settled)
    return [entry for _, entry in last if entry.text is None and journal.is_there(entry)]


def _counts(entry: Entry, original: str | None, settings: Settings) -> bool:
    same = not settings.renew or entry.instruction == settings.instruction.version
    return same and entry.original == original
