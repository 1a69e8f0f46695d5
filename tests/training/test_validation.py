"""The loss on held-out pictures is one number, however many are looked at together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny_training import CPU, Squares, tiny_objective, tiny_recipe, tokenizer
from torch import Tensor

from relay_diffusion.data.batch import PictureBatch
from relay_diffusion.data.view import View
from relay_diffusion.training import distributed
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.validation import chunks


def test_every_picture_is_in_one_chunk() -> None:
    cut = chunks(21, batch_size=8, at_once=3)
    places = [i for chunk in cut for i in range(21)[chunk.places]]
    assert places == list(range(21))
    assert [len(chunk.rows) for chunk in cut] == [3, 3, 2, 3, 3, 2, 3, 2]
    assert [chunk.size for chunk in cut] == [8] * 6 + [5] * 2


@dataclass(frozen=True)
class Counted(Squares):
    """Squares that keep count of how many were asked for together."""

    asked: tuple[list[int], ...] = ([],)

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> PictureBatch:
        self.asked[0].append(batch_size if rows is None else len(rows))
        return super().batch(step, batch_size, rows)


def objective(recipe: Recipe, asked: list[int]) -> Objective:
    def source(split: str, views: Sequence[View]) -> Counted:
        return Counted(split, views, (asked,) if split == "held-out" else ([],))

    return objective_of(recipe, networks_of(recipe, tokenizer()), source, CPU)


def validated(recipe: Recipe, at_once: int) -> dict[str, float]:
    asked: list[int] = []
    with torch.no_grad():
        figures = objective(recipe, asked).validate()
    assert max(asked) == at_once
    return figures


@pytest.mark.parametrize("kind", ["base", "relay", "autoencoder"])
def test_another_accumulate_makes_the_same_validation(kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(kind, tmp_path, data={"batch_size": 8}, validation={"num_pictures": 21})
    whole = validated(recipe, at_once=8)
    assert len(whole) > (0 if kind == "autoencoder" else 4)
    for accumulate in (2, 8):
        parts = replace(recipe, optimizer=replace(recipe.optimizer, accumulate=accumulate))
        assert validated(parts, 8 // accumulate) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", ["base", "relay", "concat"])
def test_a_preview_passes_as_many_pictures_at_a_time_as_training(kind: str, tmp_path: Path) -> None:
    made = []
    for accumulate in (1, 2):
        recipe = tiny_recipe(
            kind,
            tmp_path,
            optimizer={"accumulate": accumulate},
            preview={"num_pictures": 5, "num_steps": 2},
        )
        shown = tiny_objective(recipe)
        passed: list[int] = []
        shown.trained["unet"].register_forward_pre_hook(lambda _, x: passed.append(len(x[0])))  # noqa: B023
        assert shown.preview is not None
        with torch.no_grad():
            made.append(shown.preview()[0])
        assert max(passed) == 2 * 4 // accumulate  # with and without its caption
    assert made[0].shape == (5 if kind == "base" else 15, 3, 32, 32)
    torch.testing.assert_close(made[1], made[0])


@pytest.mark.parametrize("num_pictures", [3, 21])
def test_processes_share_out_the_same_validation(
    num_pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        "relay", tmp_path, data={"batch_size": 8}, validation={"num_pictures": num_pictures}
    )
    alone = validated(recipe, at_once=min(8, num_pictures))

    totals: list[Tensor] = []

    def summed(x: Tensor) -> Tensor:
        """With what the processes before this one have told."""
        totals.append(x)
        return torch.stack(totals).sum(0)

    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    monkeypatch.setattr(distributed, "summed", summed)
    passes = set()
    for rank in range(4):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        asked: list[int] = []
        with torch.no_grad():
            figures = objective(recipe, asked).validate()
        passes.add(len(asked))
    assert figures == pytest.approx(alone, rel=1e-5)
    # Of a sharded network each has to ask as often as the others.
    assert len(passes) == 1
