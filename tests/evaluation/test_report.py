"""The report: tables that say what was measured, and a page that needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from relay_diffusion.evaluation.report import write_report
from relay_diffusion.evaluation.report.plots import Point, are_numbered, intervals, key, scatter
from relay_diffusion.evaluation.report.tables import tables_of

DIFFERENCES = {
    "questions": {
        "count": {"value": -0.25, "low": -0.3, "high": 0.0, "word": "undecided"},
        "facts": {"value": -0.25, "low": -0.4, "high": -0.1, "word": "worse"},
    },
    "scores": {"clip": {"value": 2.5, "low": 1.25, "high": 12.5, "word": "better"}},
}


def score(value: float) -> dict[str, float]:
    spread = 0.1
    interval = {"low": value - spread, "high": value + spread}
    return {"value": value, **interval, "num_prompts": 2, "num_pictures": 4}


def model(label: str, value: float, seconds: float, file: str) -> dict[str, Any]:
    return {
        "label": label,
        "source": f"runs/{label}",
        "settings": {"steps": "50+10", "size": [64, 64]},
        "asked": {"weights": ["0" * 64], "device": "cpu"},
        "speed": {
            "seconds_per_picture": seconds,
            "seconds_per_batch": 4 * seconds,
            "batch_size": 4,
            "peak_bytes": 2e9,
        },
        "suites": {
            "tasks": {
                "questions": {
                    "count": score(value),
                    "facts": score(value),
                    "everything": score(value / 2),
                },
                "tasks": {"counting": score(value)},
                "scores": {"clip": score(30.0 + value)},
                "scores_by_task": {"clip": {"counting": score(31.0)}},
                "distances": {"frechet": 26.29, "kernel": 0.0123},
                "differences": {},
                "pictures": [{"prompt": "two <b>owls</b>", "seed": 0, "file": file}],
            }
        },
    }


@pytest.fixture
def result(tmp_path: Path) -> dict[str, Any]:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "0.png")
    models = [model("slow", 0.75, 7.0, "0.png"), model("fast & small", 0.5, 0.5, "0.png")]
    models[1]["suites"]["tasks"]["differences"] = DIFFERENCES
    return {
        "relay_diffusion": "1",
        "settings": {"num_images": 1, "seed": 0, "batch_size": 4},
        "suites": {
            "tasks": {"num_prompts": 1, "prompts_sha256": "1" * 64, "source": {"file": "x"}}
        },
        "against": "slow",
        "models": models,
        "judge_accuracy": {"rendered": {"count": 0.9}},
        "truth": {"tasks": {"tasks": {"counting": score(0.95)}}},
        "scorers": {"clip": {"version": "ViT"}},
        "skipped": [{"what": "sdxl", "why": "its weights need 7 GB"}],
        "notes": [],
    }


def test_the_comparison_has_the_columns_of_the_paper(result: dict[str, Any]) -> None:
    first, *others = tables_of(result)
    assert first.header == [
        "model",
        "steps",
        "s/picture",
        "s/batch",
        "peak GB",
        "facts",
        "everything",
        "Fréchet",
        "kernel x1000",
        "clip",
    ]
    assert first.rows[0] == [
        "slow",
        "50+10",
        "7.00",
        "28.00",
        "2.00",
        "0.750",
        "0.375",
        "26.3",
        "12.3",
        "30.8",
    ]
    assert [table.title for table in others] == [
        "tasks: differences from slow",
        "tasks: by question",
        "tasks: by task",
        "tasks: clip by task",
    ]


def test_the_time_of_expansion_stands_where_there_was_one(result: dict[str, Any]) -> None:
    assert not any("expansion" in name for name in tables_of(result)[0].header)
    slow = result["models"][0]
    slow["settings"]["expand"] = "openai"
    slow["speed"]["expansion_seconds_per_picture"] = 1.25
    first = tables_of(result)[0]
    place = list(first.header).index("expansion s/picture")
    assert [row[place] for row in first.rows] == ["1.250", ""]
    assert "Expanding prompts comes before" in first.note


def test_the_judges_accuracy_stands_beside_every_task(result: dict[str, Any]) -> None:
    by_question, by_task, _ = tables_of(result)[2:]
    assert by_task.header[-2:] == ["judge on these scenes, drawn", "judge on rendered scenes"]
    assert by_task.rows[0][0] == "counting" and by_task.rows[0][-2:] == ["0.950", "0.900"]
    assert by_question.rows[0][1] == "0.750 (0.650 to 0.850)"
    result["models"] = result["models"][:1]
    assert tables_of(result)[1].rows[0][:3] == ["count", "0.750", "0.650 to 0.850"]


def test_the_page_needs_no_network_and_no_script(result: dict[str, Any], tmp_path: Path) -> None:
    write_report(result, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)|<script|@import|url\(", page)
    assert page.count("data:image/jpeg;base64,") == 2
    assert "two &lt;b&gt;owls&lt;/b&gt;" in page and "fast &amp; small" in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    assert "Left out" in page and "its weights need 7 GB" in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(drawing)
    text = (tmp_path / "scores.md").read_text(encoding="utf-8")
    assert "| slow | 50+10 | 7.00 |" in text and "Left out: sdxl" in text
    assert "-0.250 (-0.300 to 0.000) undecided" in text
    assert "-0.250 (-0.300 to 0.000) undecided" in page


def test_a_difference_stands_with_its_interval_and_a_word(result: dict[str, Any]) -> None:
    table = tables_of(result)[1]
    assert table.header == ["score", "fast & small"]
    assert table.rows == [
        ["questions: facts", "-0.250 (-0.400 to -0.100) worse"],
        ["questions: count", "-0.250 (-0.300 to 0.000) undecided"],
        ["scores: clip", "+2.50 (1.25 to 12.5) better"],
    ]
    assert "less that of slow on the same prompts" in table.note


def test_points_stand_where_their_values_are() -> None:
    points = [Point("a", 0, 0.2, 0.1, 0.3, 1.0), Point("b", 1, 0.8, 0.8, 0.8, 100.0)]
    root = ElementTree.fromstring(scatter(points, "seconds", "score"))
    circle, square = root.find("circle"), root.find("polygon")
    assert circle is not None and square is not None
    x, y = float(circle.get("cx", 0)), float(circle.get("cy", 0))
    corner_x, corner_y = map(float, square.get("points", "").split()[0].split(","))
    assert x < corner_x and y > corner_y
    alone = scatter([Point("only", 0, 0.0, 0.0, 0.0, 2.0)], "seconds", "score")
    ElementTree.fromstring(alone)
    assert ">-" not in alone  # no ticks below zero


def test_many_points_have_numbers_that_the_key_explains() -> None:
    names = [f"a model of the name {i}" for i in range(8)]
    few, many = (
        [Point(name, i, 0.5, 0.4, 0.6, 1.0 + i) for i, name in enumerate(names[:num])]
        for num in (5, 8)
    )
    assert not are_numbered(names[:5])
    texts = [text.text for text in ElementTree.fromstring(scatter(few, "s", "q")).iter("text")]
    assert set(names[:5]) <= set(texts)
    assert names[3] in key(names[:5]) and f"4 {names[3]}" not in key(names[:5])
    assert are_numbered(names) and are_numbered(["a long name" * 4])
    drawn = ElementTree.fromstring(scatter(many, "s", "q", numbered=True))
    labels = [text.text for text in drawn.iter("text") if text.get("class") == "name"]
    assert labels == [str(i + 1) for i in range(8)]
    assert all(f"{i + 1} {name}" in key(names, numbered=True) for i, name in enumerate(names))


def test_every_row_of_intervals_names_its_task() -> None:
    rows = [("counting", [Point("a", 0, 0.5, 0.4, 0.6)]), ("style", [Point("a", 0, 1.2, 1, 2)])]
    drawing = intervals(rows, "by task")
    assert "counting" in drawing and "style" in drawing
    ElementTree.fromstring(drawing)
