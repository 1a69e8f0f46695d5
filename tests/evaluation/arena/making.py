"""Folders of small pictures, and votes on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from relay_diffusion.evaluation.arena.entries import read_entries
from relay_diffusion.evaluation.arena.pairs import Pair, make_pairs
from relay_diffusion.evaluation.arena.votes import Question, VoteStore
from relay_diffusion.pipelines.metadata import save_picture

PROMPTS = [f"{number} foxes" for number in range(6)]


def plain_folder(folder: Path, names: Sequence[str], size: tuple[int, int] = (8, 8)) -> Path:
    """Pictures of some other model; no two folders have the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        colour = (index, len(folder.name), sum(os.fsencode(folder.name)) % 256)
        Image.new("RGB", size, colour).save(folder / name)
    return folder


def relay_folder(folder: Path, prompts: Sequence[str], seeds: Sequence[int] = (0,)) -> Path:
    """As relay generate writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, prompt in enumerate(prompts):
        for seed in seeds:
            image = Image.new("RGB", (8, 8), (index, seed, sum(folder.name.encode()) % 256))
            record = {"prompt": prompt, "seed": seed, "model": folder.name}
            save_picture(image, folder / f"{index:04d}-seed-{seed}.png", record, folder.name)
    return folder


def some_pairs(
    folder: Path, models: Sequence[str] = ("ours", "theirs"), prompts: Sequence[str] = PROMPTS
) -> list[Pair]:
    return make_pairs(read_entries([relay_folder(folder / name, prompts) for name in models]))[0]


def vote(store: VoteStore, pair: Pair, question: Question, winner: str | None, rater: str) -> None:
    index = None if winner is None else pair.models.index(winner)
    store.add(pair, rater, question, left=0, winner=index)
