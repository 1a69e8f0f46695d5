"""A run's results as tables, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay_diffusion.evaluation.alignment import EVERYTHING, FACTS, TASK_QUESTIONS
from relay_diffusion.evaluation.bootstrap import FEWEST

Result = Mapping[str, Any]
"""What ``scores.json`` holds."""


ALIGNMENT = (FACTS, EVERYTHING)

_KINDS = {"questions": 0, "tasks": 1, "scores": 2}
"""Of differences, in the order of their table."""

DISTANCES = ("Fréchet", "kernel x1000")
"""Of which less is better."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; ``note`` says how to read it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        table = "\n".join("| " + " | ".join(line) + " |" for line in cells)
        return "\n\n".join(filter(None, [f"## {self.title}", self.note, table]))


def tables_of(result: Result) -> list[Table]:
    """``summary``, then ``details``."""
    return [*summary(result), *details(result)]


def summary(result: Result) -> list[Table]:
    """The comparison, then the differences between models in each suite."""
    tables = [_differences(result, suite) for suite in result["suites"]]
    return [comparison(result), *(table for table in tables if table is not None)]


def details(result: Result) -> list[Table]:
    """Questions and tasks of each suite."""
    tables = []
    for suite in result["suites"]:
        tables += [
            table
            for kind in ("questions", "tasks")
            if (table := _judged(result, suite, kind)) is not None
        ]
        tables += [_by_scorer(result, suite, name) for name in _scorers_by_task(result, suite)]
    return tables


def comparison(result: Result) -> Table:
    """The paper's table: a row a model, its steps, its time, a column for each measure."""
    columns = [(suite, name) for suite in result["suites"] for name in measures(result, suite)]
    one_suite = len(result["suites"]) == 1
    expands = any(model["settings"].get("expand") for model in result["models"])
    header = ["model", "steps", "s/picture", "s/batch", "peak GB"]
    header += ["expansion s/picture"] if expands else []
    header += [name if one_suite else f"{suite}: {name}" for suite, name in columns]
    rows = []
    for model in result["models"]:
        speed = model["speed"]
        row = [
            model["label"],
            str(model["settings"]["steps"]),
            f"{speed['seconds_per_picture']:.2f}",
            f"{speed['seconds_per_batch']:.2f}",
            f"{speed['peak_bytes'] / 1e9:.2f}",
        ]
        if expands:
            expanded = model["settings"].get("expand")
            row.append(f"{speed['expansion_seconds_per_picture']:.3f}" if expanded else "")
        rows.append([*row, *(_value(model["suites"][suite], name) for suite, name in columns)])
    batch = max(model["speed"]["batch_size"] for model in result["models"])
    note = f"Medians of this run, {batch} pictures a batch, after a picture to warm up."
    if expands:
        note += " Expanding prompts comes before, in a time of its own."
    return Table("Comparison", header, rows, note)


def _differences(result: Result, suite: str) -> Table | None:
    """A row for each score, a column for each model after the first, from which it differs."""
    others = [model for model in result["models"] if model["label"] != result["against"]]
    found = [model["suites"][suite]["differences"] for model in others]
    names = list(dict.fromkeys((kind, name) for one in found for kind in one for name in one[kind]))
    if not names:
        return None
    rows = []
    for kind, name in sorted(names, key=lambda pair: (_KINDS.get(pair[0], 3), pair[1] != FACTS)):
        said = [one.get(kind, {}).get(name) for one in found]
        rows.append([f"{kind}: {name}", *(_difference(one) if one else "" for one in said)])
    note = (
        f"A model's score less that of {result['against']} on the same prompts and seeds, in "
        "brackets the 95% interval of a paired bootstrap over prompts. Undecided: the interval "
        f"holds 0, or fewer than {FEWEST} prompts differ. Distances have no interval."
    )
    header = ["score", *(model["label"] for model in others)]
    return Table(f"{suite}: differences from {result['against']}", header, rows, note)


def _difference(one: Mapping[str, Any]) -> str:
    value = number(one["value"])
    sign = "+" if one["value"] > 0 else ""
    return f"{sign}{value} ({number(one['low'])} to {number(one['high'])}) {one['word']}"


def measures(result: Result, suite: str) -> list[str]:
    """Names of what stands in the comparison for a suite, in order."""
    found = [model["suites"][suite] for model in result["models"]]
    names = [name for name in ALIGNMENT if any(name in one["questions"] for one in found)]
    if any(one["distances"] for one in found):
        names += DISTANCES
    return names + sorted({name for one in found for name in one["scores"]})


def measure_of(found: Mapping[str, Any], name: str) -> Mapping[str, float] | None:
    """The score behind a name of ``measures``; distances have no interval."""
    if name in ALIGNMENT:
        score: Mapping[str, float] | None = found["questions"].get(name)
        return score
    if name in DISTANCES:
        if found["distances"] is None:
            return None
        distance = found["distances"]
        value = distance["frechet"] if name == DISTANCES[0] else 1000 * distance["kernel"]
        return {"value": value, "low": value, "high": value}
    score = found["scores"].get(name)
    return score


def number(value: float) -> str:
    """With as many digits as mean something: 0.812, 5.97, 26.3."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def _value(found: Mapping[str, Any], name: str) -> str:
    score = measure_of(found, name)
    return "" if score is None else number(score["value"])


def _judged(result: Result, suite: str, kind: str) -> Table | None:
    """Scores by question or by task, the judge's own accuracy beside each."""
    models = result["models"]
    names = sorted({name for model in models for name in model["suites"][suite][kind]})
    if not names:
        return None
    truth = result["truth"].get(suite, {}).get(kind, {})
    accuracy = result["judge_accuracy"]
    one = len(models) == 1
    header = ["question" if kind == "questions" else "task"]
    if one:
        header += ["score", "95% interval"]
    else:
        header += [model["label"] for model in models]
    header += ["prompts", "pictures"]
    header += ["judge on these scenes, drawn"] if truth else []
    header += [f"judge on {shown} scenes" for shown in accuracy]
    rows = []
    for name in names:
        scores = [model["suites"][suite][kind].get(name) for model in models]
        nums = (_span(scores, num) for num in ("num_prompts", "num_pictures"))
        row = [name, *_cells(scores, one), *nums]
        row += [number(truth[name]["value"]) if name in truth else ""] if truth else []
        row += [_accuracy(accuracy[shown], name, kind) for shown in accuracy]
        rows.append(row)
    note = "The judge's columns are what it says of true pictures, which are all right."
    return Table(f"{suite}: by {'question' if kind == 'questions' else 'task'}", header, rows, note)


def _span(scores: Sequence[Mapping[str, float] | None], name: str) -> str:
    """A number of all models; "3 to 5" where they differ, as for position, which is asked only
    where the things are there."""
    numbers = sorted({int(score[name]) for score in scores if score is not None})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _cells(scores: Sequence[Mapping[str, float] | None], one: bool) -> list[str]:
    cells = []
    for score in scores:
        if score is None:
            cells += ["", ""] if one else [""]
            continue
        value, interval = f"{score['value']:.3f}", f"{score['low']:.3f} to {score['high']:.3f}"
        cells += [value, interval] if one else [f"{value} ({interval})"]
    return cells


def _accuracy(accuracy: Mapping[str, float], name: str, kind: str) -> str:
    """The judge's accuracy in a question; in a task, in the hardest of its questions."""
    questions = TASK_QUESTIONS.get(name, ()) if kind == "tasks" else (name,)
    known = [accuracy[question] for question in questions if question in accuracy]
    return f"{min(known):.3f}" if known else ""


def _scorers_by_task(result: Result, suite: str) -> list[str]:
    found = [model["suites"][suite]["scores_by_task"] for model in result["models"]]
    return sorted({name for one in found for name in one})


def _by_scorer(result: Result, suite: str, scorer: str) -> Table:
    found = [model["suites"][suite]["scores_by_task"].get(scorer, {}) for model in result["models"]]
    tasks = sorted({task for one in found for task in one})
    rows = [
        [task, *(number(one[task]["value"]) if task in one else "" for one in found)]
        for task in tasks
    ]
    header = ["task", *(model["label"] for model in result["models"])]
    return Table(f"{suite}: {scorer} by task", header, rows)
