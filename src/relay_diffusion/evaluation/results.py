"""All that a run found out, as one table of tables that ``scores.json`` and the report hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image

from relay_diffusion.evaluation.bootstrap import Sums, difference
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.logbook import Logbook
from relay_diffusion.evaluation.making import Planned, speed
from relay_diffusion.evaluation.scoring import Instruments, Measured, measure, truth
from relay_diffusion.evaluation.suites.prompt import Suite

Pictures = Mapping[str, Mapping[str, Sequence[Planned]]]
"""By model and suite."""


def gather(
    entries: Sequence[Entry],
    suites: Sequence[Suite],
    pictures: Pictures,
    tools: Instruments,
    logbook: Logbook,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure everything.

    Returns: "suites" with where their prompts come from; "models", a row each, with settings, speed
    and what ``measure`` found by suite, "differences" from the first model among it; "against",
    the label of that model; "truth", the judge's scores of true pictures of the same
    scenes, by suite; "judge_accuracy" as measured in its training; "scorers" with their versions;
    "notes" on what could not be measured, or expanded.
    """
    versions = {scorer.name: {"command": scorer.command} for scorer in tools.scorers}
    if tools.clip is not None:
        versions["clip"] = {}
    notes: list[str] = []
    models = []
    first: dict[str, Measured] = {}
    for entry in entries:
        resolved = logbook.settings["resolved"][entry.label]
        typed = sum(batch.num_typed for batch in logbook.of(entry.label))
        if resolved.get("expand") and typed:
            notes.append(f"{entry.label}: prompts that were not expanded: {typed}")
            say(notes[-1])
        found = {}
        for suite in suites:
            measured = measure(suite, pictures[entry.label][suite.name], tools, logbook.out)
            for name, version in measured.versions.items():
                versions[name]["version"] = version
            for note in measured.notes:
                if note not in notes:
                    notes.append(note)
                    say(note)
            found[suite.name] = _row(measured, first.get(suite.name))
            first.setdefault(suite.name, measured)
        models.append(
            {
                "label": entry.label,
                "source": entry.source,
                "settings": resolved,
                "asked": logbook.settings["model"][entry.label],
                "speed": speed(logbook.of(entry.label)),
                "suites": found,
            }
        )
    true_scores = {}
    for suite in suites:
        with Image.open(pictures[entries[0].label][suite.name][0].path) as picture:
            known = truth(suite, tools, picture.size)
        if known:
            true_scores[suite.name] = {
                kind: {name: asdict(score) for name, score in scores.items()}
                for kind, scores in known.items()
            }
    return {
        "suites": {
            suite.name: {
                "num_prompts": len(suite.prompts),
                "prompts_sha256": suite.sha256,
                "source": dict(suite.source),
            }
            for suite in suites
        },
        "against": entries[0].label,
        "models": models,
        "judge_accuracy": tools.judge.accuracy if tools.judge else {},
        "truth": true_scores,
        "scorers": versions,
        "notes": notes,
    }


def _row(measured: Measured, first: Measured | None) -> dict[str, Any]:
    row = asdict(measured)
    del row["versions"], row["notes"]  # the same for all, and told once
    del row["sums"]
    row["differences"] = _differences(measured.sums, first.sums) if first else {}
    return row


def _differences(
    sums: Mapping[str, Mapping[str, Sums]], first: Mapping[str, Mapping[str, Sums]]
) -> dict[str, dict[str, Any]]:
    """Of a model from the first one, by kind and name, where both were measured."""
    return {
        kind: {
            name: asdict(difference(named[name], first[kind][name]))
            for name in sorted(named)
            if name in first[kind]
        }
        for kind, named in sums.items()
        if kind in first
    }
