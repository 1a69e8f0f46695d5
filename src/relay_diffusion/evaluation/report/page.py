"""``report.html``: a run on one page that needs nothing else, no network and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from relay_diffusion.evaluation.report.plots import Point, are_numbered, intervals, key, scatter
from relay_diffusion.evaluation.report.style import STYLE
from relay_diffusion.evaluation.report.tables import (
    DISTANCES,
    Result,
    Table,
    details,
    measure_of,
    measures,
    summary,
)

THUMBNAIL = 224
"""Pixels of a thumbnail's longer side."""

NUM_SHOWN = 12
"""Prompts of each suite whose pictures are on the page."""


def page(result: Result, out: Path) -> str:
    """The page; ``out`` is the folder that the files of pictures are named from."""
    labels = [model["label"] for model in result["models"]]
    parts = [f"<h1>{escape(' · '.join(labels))}</h1>", f"<p>{_asked(result)}</p>"]
    parts += [
        f"<p class=note>Left out: <b>{escape(one['what'])}</b>: {escape(one['why'])}</p>"
        for one in result["skipped"]
    ]
    parts += [f"<p class=note>{escape(note)}</p>" for note in result["notes"]]
    parts += [_table(table) for table in summary(result)]
    names = [_with_steps(model) for model in result["models"]]
    numbered = are_numbered(names)
    parts += ["<h2>Quality against time</h2>", key(names, numbered)]
    plots = "".join(f"<figure>{plot}</figure>" for plot in _against_time(result, numbered))
    parts.append(f"<div class=plots>{plots}</div>")
    for suite in result["suites"]:
        for kind, title in (("tasks", "by task"), ("questions", "by question")):
            plot = _intervals(result, suite, kind)
            if plot:
                parts += [f"<h2>{escape(suite)}: {title}</h2>", key(labels)]
                parts.append(
                    f"<figure>{plot}<figcaption>95% intervals, bootstrap over prompts."
                    "</figcaption></figure>"
                )
    parts += [_table(table) for table in details(result)]
    for suite in result["suites"]:
        parts += [f"<h2>{escape(suite)}: pictures</h2>", _pictures(result, suite, out)]
    parts.append(_sources(result))
    title = escape(", ".join(labels))
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>relay evaluate: {title}</title>\n<style>{STYLE}</style>\n"
        f"<main>{''.join(part + chr(10) for part in parts)}</main></html>\n"
    )


def _asked(result: Result) -> str:
    settings = result["settings"]
    suites = ", ".join(
        f"{escape(name)} ({suite['num_prompts']} prompts)"
        for name, suite in result["suites"].items()
    )
    each = "One picture" if settings["num_images"] == 1 else f"{settings['num_images']} pictures"
    return f"Suites: {suites}. {each} of each prompt, seeds from {settings['seed']}."


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2>{note}"
        f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"
    )


def _with_steps(model: Mapping[str, Any]) -> str:
    return f"{model['label']} ({model['settings']['steps']})"


def _against_time(result: Result, numbered: bool) -> list[str]:
    """A plot for every measure of every suite."""
    plots = []
    for suite in result["suites"]:
        for name in measures(result, suite):
            points = []
            for series, model in enumerate(result["models"]):
                score = measure_of(model["suites"][suite], name)
                if score is not None:
                    points.append(
                        Point(
                            _with_steps(model),
                            series,
                            score["value"],
                            score["low"],
                            score["high"],
                            max(model["speed"]["seconds_per_picture"], 1e-4),
                        )
                    )
            if points:
                better = " (lower is better)" if name in DISTANCES else ""
                title = f"{suite}: {name}{better}"
                plots.append(scatter(points, "seconds a picture", title, numbered))
    return plots


def _intervals(result: Result, suite: str, kind: str) -> str:
    found = [model["suites"][suite][kind] for model in result["models"]]
    labels = [model["label"] for model in result["models"]]
    rows = []
    for name in sorted({name for one in found for name in one}):
        points = [
            Point(labels[series], series, *(one[name][part] for part in ("value", "low", "high")))
            for series, one in enumerate(found)
            if name in one
        ]
        rows.append((name, points))
    return intervals(rows, f"{suite} by {kind}") if rows else ""


def _pictures(result: Result, suite: str, out: Path) -> str:
    """The first picture of the first prompts, all models side by side."""
    num = result["settings"]["num_images"]
    by_model = [model["suites"][suite]["pictures"][::num][:NUM_SHOWN] for model in result["models"]]
    blocks = []
    for same_prompt in zip(*by_model, strict=True):
        cells = "".join(
            f'<figure><img alt="{escape(model["label"])}" src="{_thumbnail(out / row["file"])}">'
            f"<figcaption>{escape(model['label'])}{_said(row)}</figcaption></figure>"
            for model, row in zip(result["models"], same_prompt, strict=True)
        )
        prompt = escape(same_prompt[0]["prompt"])
        blocks.append(f"<section><p>{prompt}</p><div class=row>{cells}</div></section>")
    return "".join(blocks)


def _said(row: Mapping[str, Any]) -> str:
    scores = row.get("scores", {})
    return "".join(f"<br>{escape(name)} {value:.3g}" for name, value in sorted(scores.items()))


def _thumbnail(path: Path) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sources(result: Result) -> str:
    """What it takes to do it again."""
    lines = []
    for name, suite in result["suites"].items():
        said = "; ".join(f"{key_} {value}" for key_, value in suite["source"].items())
        lines.append(f"{name}: prompts {suite['prompts_sha256'][:16]}; {said}")
    for model in result["models"]:
        said = "; ".join(f"{key_} {value}" for key_, value in model["settings"].items())
        weights = ", ".join(digest[:16] for digest in model["asked"]["weights"])
        device = model["asked"]["device"]
        lines.append(f"{model['label']}: {model['source']}; weights {weights}; {said}; on {device}")
    for name, scorer in result["scorers"].items():
        lines.append(f"{name}: {scorer.get('version', 'failed')}; {scorer.get('command', '')}")
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    version = escape(result["relay_diffusion"])
    return f"<h2>Made with</h2><ul class=small>{items}<li>relay-diffusion {version}</li></ul>"
