"""A run's results for people: tables in Markdown, and one page."""

from __future__ import annotations

from pathlib import Path

from relay_diffusion.evaluation.report.page import page
from relay_diffusion.evaluation.report.tables import Result, tables_of

__all__ = ["write_report"]


def write_report(result: Result, out: Path) -> None:
    """Write ``scores.md`` and ``report.html`` into the folder of the run."""
    tables = "\n\n".join(table.markdown() for table in tables_of(result))
    left_out = "".join(f"\n\nLeft out: {one['what']}: {one['why']}" for one in result["skipped"])
    notes = "".join(f"\n\nNote: {note}" for note in result["notes"])
    (out / "scores.md").write_text(tables + left_out + notes + "\n", encoding="utf-8")
    (out / "report.html").write_text(page(result, out), encoding="utf-8")
