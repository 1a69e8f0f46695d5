"""Measure a cascade on a suite: pictures, verdicts, scores, one JSON and one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from relay_diffusion.evaluation.alignment import Score, alignment
from relay_diffusion.evaluation.judge import Judge, Verdict
from relay_diffusion.evaluation.report import score_table
from relay_diffusion.evaluation.suites import Prompt
from relay_diffusion.pipelines.cascade import RelayPipeline

GRID_SIDE = 8


@dataclass(frozen=True)
class Settings:
    """How pictures are made; ``options`` are further arguments of the pipeline."""

    size: int = 256
    num_images: int = 4
    seed: int = 0
    batch_size: int = 8
    options: dict[str, Any] | None = None


def evaluate(
    pipe: RelayPipeline,
    judge: Judge,
    prompts: list[Prompt],
    settings: Settings,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Score]:
    """Make ``num_images`` pictures of each prompt and have the judge read them.

    Picture j of prompt i has seed ``seed + i * num_images + j``, whatever the batch size. Writes
    ``scores.json``, ``scores.md`` and ``grid.png`` (the first 64 pictures, in order) into ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = [prompt.text for prompt in prompts for _ in range(settings.num_images)]
    read: list[Verdict] = []
    first: list[torch.Tensor] = []
    started = time.perf_counter()
    for start in range(0, len(texts), settings.batch_size):
        part = texts[start : start + settings.batch_size]
        seeds = range(settings.seed + start, settings.seed + start + len(part))
        pictures = pipe(
            part,
            height=settings.size,
            width=settings.size,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
            **(settings.options or {}),
        ).images
        read += judge.read(pictures * 2 - 1)
        first += list(pictures[: max(0, GRID_SIDE**2 - len(first))])
        progress(start + len(part), len(texts))
    seconds = time.perf_counter() - started

    n = settings.num_images
    scores = alignment(prompts, [read[i * n : (i + 1) * n] for i in range(len(prompts))])
    result = {
        "settings": asdict(settings),
        "scores": {question: asdict(score) for question, score in scores.items()},
        "judge_accuracy": judge.accuracy,
        "seconds_per_picture": seconds / len(texts),
        "pictures": [
            {"prompt": text, "seed": settings.seed + k, "verdict": asdict(verdict)}
            for k, (text, verdict) in enumerate(zip(texts, read, strict=True))
        ],
    }
    (out / "scores.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "scores.md").write_text(score_table(scores, judge.accuracy) + "\n")
    _grid(first).save(out / "grid.png")
    return scores


def _grid(pictures: list[torch.Tensor]) -> Image.Image:
    """Pictures (3, H, W) in [0, 1], eight in a row."""
    height, width = pictures[0].shape[1:]
    rows = -(-len(pictures) // GRID_SIDE)
    grid = Image.new("RGB", (GRID_SIDE * width, rows * height))
    for index, picture in enumerate(pictures):
        pixels = (picture * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        at = (index % GRID_SIDE * width, index // GRID_SIDE * height)
        grid.paste(Image.fromarray(pixels), at)
    return grid
