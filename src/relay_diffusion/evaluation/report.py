"""Scores as a table, the judge's own accuracy beside each."""

from __future__ import annotations

from collections.abc import Mapping

from relay_diffusion.evaluation.alignment import Score


def score_table(scores: Mapping[str, Score], accuracy: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: question, score with interval, and what the judge gets right of true pictures."""
    kinds = list(accuracy)
    header = ["question", "score", "95% interval", "prompts", "pictures"]
    header += [f"judge on {kind} scenes" for kind in kinds]
    rows = [header, ["---"] * len(header)]
    for question, score in scores.items():
        row = [
            question,
            f"{score.rate:.3f}",
            f"{score.low:.3f} to {score.high:.3f}",
            str(score.num_prompts),
            str(score.num_pictures),
        ]
        row += [
            f"{accuracy[kind][question]:.3f}" if question in accuracy[kind] else ""
            for kind in kinds
        ]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
