"""What of a prompt's facts a world can show, and what to tell about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relay_diffusion.data.scenes.facts import Asked, Facts
from relay_diffusion.data.scenes.lexicon import load_thesaurus
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.data.scenes.world import World


def fit(facts: Facts, world: World) -> tuple[Facts, list[str]]:
    """The facts within a world: the nearest that it has, where that is plain, else left out.

    Returns: facts that ``World.compose`` takes if anything is left in ``things``, and a line for
        each change, and for each word that was not understood.
    """
    remarks = [f"{word!r} is read as {name!r}" for word, name in facts.read_as]
    kept = _subjects(facts.things, world, remarks)
    numbers = {old: new for new, (old, _) in enumerate(kept)}
    things = _counts([thing for _, thing in kept], world, remarks)
    relations = tuple(
        (numbers[i], relation, numbers[j])
        for i, relation, j in facts.relations
        if max(numbers.get(i, len(things)), numbers.get(j, len(things))) < len(things)
    )
    fitted = replace(
        facts,
        things=things,
        relations=relations,
        background=_nearest("background", facts.background, world.backgrounds, remarks),
        style=_nearest("style", facts.style, world.styles, remarks),
    )
    if fitted.num_things > 2 and relations:
        remarks.append("of more than two things this cascade draws no relation but a row")
    if facts.left_out:
        remarks.append(f"not understood, left out: {', '.join(map(repr, facts.left_out))}")
    return fitted, remarks


def _subjects(things: Sequence[Asked], world: World, remarks: list[str]) -> list[tuple[int, Asked]]:
    """Things that the world has, with their numbers in ``things``."""
    subjects = load_vocabulary().subjects
    asked = {thing.subject for thing in things}
    kept: list[tuple[int, Asked]] = []
    for number, thing in enumerate(things):
        name = subjects[thing.subject].name
        near = load_thesaurus()["nearest_subjects"].get(thing.subject)
        if thing.subject in world.subjects:
            kept.append((number, thing))
        elif near in world.subjects and near not in asked:
            asked.add(near)
            kept.append((number, replace(thing, subject=near)))
            remarks.append(f"this cascade draws no {name!r}: {subjects[near].name!r} instead")
        else:
            remarks.append(f"this cascade draws no {name!r}: it is left out")
    return kept


def _counts(things: Sequence[Asked], world: World, remarks: list[str]) -> tuple[Asked, ...]:
    """No more than the world draws: of each kind one at least, as far as that goes."""
    fewer = list(things[: world.max_things])
    while sum(thing.count for thing in fewer) > world.max_things:
        largest = max(range(len(fewer)), key=lambda index: fewer[index].count)
        fewer[largest] = replace(fewer[largest], count=fewer[largest].count - 1)
    if fewer != list(things):
        names = [load_vocabulary().subjects[thing.subject] for thing in fewer]
        drawn = ", ".join(
            f"{thing.count} {name.plural if thing.count > 1 else name.name}"
            for thing, name in zip(fewer, names, strict=True)
        )
        remarks.append(f"this cascade draws at most {world.max_things} things: {drawn} here")
    return tuple(fewer)


def _nearest(kind: str, name: str | None, known: Sequence[str], remarks: list[str]) -> str | None:
    if name is None or name in known:
        return name
    near: str | None = load_thesaurus()[f"nearest_{kind}s"].get(name)
    if near in known:
        remarks.append(f"this cascade has no {kind} {name!r}: {near!r} instead")
        return near
    remarks.append(f"this cascade has no {kind} {name!r}: it is left out")
    return None
