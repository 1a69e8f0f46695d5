"""Models x suites x seeds: pictures, scores and a report, in a folder where a run can go on."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from relay_diffusion import __version__
from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.evaluation.asked import asked_of
from relay_diffusion.evaluation.cascades import CascadePainter
from relay_diffusion.evaluation.entries import Entry, check_labels
from relay_diffusion.evaluation.instruments import Instruments, check_judge, check_references
from relay_diffusion.evaluation.logbook import Logbook, Unwritable
from relay_diffusion.evaluation.making import Maker, Planned, plan
from relay_diffusion.evaluation.painters import Painter, Where
from relay_diffusion.evaluation.peers import PeerPainter
from relay_diffusion.evaluation.report import write_report
from relay_diffusion.evaluation.results import gather
from relay_diffusion.evaluation.suites.prompt import Suite
from relay_diffusion.locks import alone_in
from relay_diffusion.pipelines.grid import Grid

GRID_SIDE = 8


@dataclass(frozen=True)
class Settings:
    """What all models are asked for alike: pictures of each prompt, the first one's seed, and how
    many are made at once."""

    num_images: int = 4
    seed: int = 0
    batch_size: int = 8


@dataclass(frozen=True)
class Watch:
    """What is told while a run goes on: lines, and pictures done of those of a model and suite."""

    say: Callable[[str], None] = print
    progress: Callable[[str, str, int, int], None] = lambda model, suite, done, total: None


@dataclass
class _Made:
    """What a run has so far."""

    pictures: dict[str, dict[str, list[Planned]]] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)


def evaluate(
    entries: Sequence[Entry],
    suites: Sequence[Suite],
    settings: Settings,
    out: Path,
    tools: Instruments,
    where: Where | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Make every model's pictures of every suite and measure them.

    Pictures are kept in ``out/pictures/MODEL/SUITE`` as soon as they are made; a second call makes
    what is missing and comes to the same result. Writes ``scores.json`` with every verdict and
    score, the tables (``scores.md``), ``report.html``, and ``grid.png`` with the first 64 pictures,
    in order. A peer that cannot be had, or does not fit into memory, is left out and named.

    Returns: what ``scores.json`` holds.
    Raises: RelayError if a model cannot be run, settings differ from those of the pictures in
        ``out``, another run is in there, or nothing is left to compare.
    """
    where, watch = where or Where(tools.device), watch or Watch()
    check_labels(entries)
    _check_suites(suites)
    for suite in suites:
        check_references(tools, suite)
        if tools.judge is not None:
            check_judge(tools.judge, suite)
    refusal = f"another relay evaluate is at work in {out}: wait for it, or give another --out"
    with alone_in(out, refusal):  # it would write the settings of its own over those of this one
        return _evaluate(entries, suites, settings, out, tools, where, watch)


def _evaluate(
    entries: Sequence[Entry],
    suites: Sequence[Suite],
    settings: Settings,
    out: Path,
    tools: Instruments,
    where: Where,
    watch: Watch,
) -> dict[str, Any]:
    logbook, made = Logbook(out), _Made()
    logbook.agree("run", "", asdict(settings))
    for suite in suites:
        logbook.agree("suite", suite.name, {"prompts": suite.sha256, **suite.source})
    taking_part = []
    for entry in entries:
        try:
            asked = asked_of(entry, where)
        except RelayError as error:
            _skip(entry, error, made, watch)
            continue
        logbook.agree("model", entry.label, asked)
        taking_part.append(entry)
    plans = {entry.label: _plan(entry, suites, settings, out) for entry in taking_part}
    if not all(one.path.is_file() for by_suite in plans.values() for one in _all(by_suite)):
        for scorer in tools.scorers:
            scorer.probe()
    logbook.save()
    for entry in taking_part:
        _make(entry, plans[entry.label], settings, where, logbook, made, watch)
    taking_part = [entry for entry in taking_part if entry.label in made.pictures]
    if not taking_part:
        raise RelayError(f"no model could be run: {made.skipped[-1]['why']}")
    with tools.on_device():
        found = gather(taking_part, suites, made.pictures, tools, logbook, watch.say)
    result = {
        "relay_diffusion": __version__,
        "settings": asdict(settings),
        **found,
        "skipped": made.skipped,
    }
    text = json.dumps(result, indent=1)
    result = json.loads(text)
    (out / "scores.json").write_text(text + "\n", encoding="utf-8")
    write_report(result, out)
    for entry in taking_part:
        for suite in suites:
            planned = made.pictures[entry.label][suite.name]
            is_first = entry is taking_part[0] and suite is suites[0]
            name = "grid" if is_first else f"grid-{entry.folder_name}-{suite.folder_name}"
            _grid([one.path for one in planned[: GRID_SIDE**2]]).save(out / f"{name}.png")
    return result


def _plan(
    entry: Entry, suites: Sequence[Suite], settings: Settings, out: Path
) -> dict[str, list[Planned]]:
    """A model's pictures by suite."""
    folder = out / "pictures" / entry.folder_name
    return {
        suite.name: plan(suite, folder / suite.folder_name, settings.num_images, settings.seed)
        for suite in suites
    }


def _all(by_suite: Mapping[str, Sequence[Planned]]) -> Iterator[Planned]:
    return chain.from_iterable(by_suite.values())


def _make(
    entry: Entry,
    pictures: dict[str, list[Planned]],
    settings: Settings,
    where: Where,
    logbook: Logbook,
    made: _Made,
    watch: Watch,
) -> None:
    """All pictures of a model, or the reason why there are none."""

    def open_painter() -> Painter:
        painter = (PeerPainter if entry.is_peer else CascadePainter)(entry, where)
        resolved = logbook.settings.setdefault("resolved", {})
        resolved[entry.label] = painter.resolved
        logbook.save()
        return painter

    maker = Maker(entry.label, open_painter, where.device, settings.batch_size, logbook)
    try:
        for suite, planned in pictures.items():
            for done in maker.make(suite, planned):
                watch.progress(entry.label, suite, done, len(planned))
    except Unwritable:
        raise
    except Exception as error:
        _skip(entry, error, made, watch)
    else:
        made.pictures[entry.label] = pictures
    del maker  # its weights go before the next model's come
    gc.collect()
    if where.device.type == "cuda":
        torch.cuda.empty_cache()


def _skip(entry: Entry, error: Exception, made: _Made, watch: Watch) -> None:
    """Leave a peer out; a model of one's own that fails ends the run, unless memory is short."""
    too_large = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if not entry.is_peer and not too_large:
        raise error
    why = "there is not enough memory for it" if too_large else first_line(error)
    made.skipped.append({"what": entry.label, "why": " ".join(why.split())})
    watch.say(f"left out: {entry.label}: {made.skipped[-1]['why']}")


def _check_suites(suites: Sequence[Suite]) -> None:
    if not suites:
        raise RelayError("name a suite")
    twice = [
        name for name, num in Counter(suite.folder_name for suite in suites).items() if num > 1
    ]
    if twice:
        names = " and ".join(s.name for s in suites if s.folder_name == twice[0])
        raise RelayError(
            f"suites {names} would share their folder of pictures, {twice[0]}: give one of them, "
            "or rename a file of prompts"
        )


def _grid(paths: Sequence[Path]) -> Image.Image:
    """The first 64 pictures, eight in a row."""
    with Image.open(paths[0]) as picture:
        grid = Grid(len(paths), GRID_SIDE, picture.size)
    for path in paths:
        with Image.open(path) as picture:
            grid.add(picture)
    return grid.image
