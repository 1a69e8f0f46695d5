"""Scores of commands outlive failures, and pictures that are moved."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.scorers.command import Row, Scorer, Scores
from relay_diffusion.evaluation.scorers.kept import kept_scores
from relay_diffusion.files import sha256_of

SCORER = """
import json, os, sys
rows = [json.loads(line) for line in sys.stdin]
open("asked.txt", "a").write(f"{len(rows)} ")
print(json.dumps({"scorer": "length", "version": "1"}))
for row in rows:
    if os.path.exists("fails") and row["prompt"] == "an owl":
        sys.exit("out of memory")
    print(json.dumps({"path": row["path"], "score": len(row["prompt"])}))
"""
PROMPTS = ("a fox", "an owl", "two foxes")


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.chdir(tmp_path)
    Path("scorer.py").write_text(SCORER)
    return Scorer("length", f"{sys.executable} scorer.py")


def rows_in(folder: Path) -> list[Row]:
    folder.mkdir(exist_ok=True)
    rows = [{"prompt": prompt, "path": str(folder / f"{prompt}.png")} for prompt in PROMPTS]
    for row in rows:
        if not Path(row["path"]).exists():
            Path(row["path"]).write_text("pixels")
    return rows


def scored(scorer: Scorer, rows: list[Row]) -> Scores:
    return kept_scores(scorer, rows, [sha256_of(Path(row["path"])) for row in rows], Path("scores"))


def asked() -> list[int]:
    return [int(num) for num in Path("asked.txt").read_text().split()]


def test_scores_before_a_failure_are_kept(scorer: Scorer, tmp_path: Path) -> None:
    rows = rows_in(tmp_path / "out")
    Path("fails").touch()
    with pytest.raises(RelayError, match="length failed: out of memory"):
        scored(scorer, rows)
    Path("fails").unlink()
    assert scored(scorer, rows) == Scores([5, 6, 9], "length 1")
    assert asked() == [3, 2]


def test_pictures_that_are_moved_are_not_scored_again_and_changed_ones_are(
    scorer: Scorer, tmp_path: Path
) -> None:
    first = scored(scorer, rows_in(tmp_path / "out"))
    (tmp_path / "out").rename(tmp_path / "moved")
    rows = rows_in(tmp_path / "moved")
    assert scored(scorer, rows) == first
    assert asked() == [3]
    Path(rows[0]["path"]).write_text("other pixels")
    assert scored(scorer, rows) == first
    assert scored(scorer, [{**rows[1], "prompt": "a red owl"}]).values == [9]
    assert asked() == [3, 1, 1]


def test_scores_of_two_versions_are_not_mixed(scorer: Scorer, tmp_path: Path) -> None:
    rows = rows_in(tmp_path / "out")
    scored(scorer, rows[:1])
    Path("scorer.py").write_text(SCORER.replace('"1"', '"2"'))
    assert scored(scorer, rows[:1]).version == "length 1"
    with pytest.raises(
        RelayError, match=r"length is length 2 now, .*\.jsonl has scores of another"
    ):
        scored(scorer, rows)
    next(Path("scores").iterdir()).unlink()
    assert scored(scorer, rows) == Scores([5, 6, 9], "length 2")
