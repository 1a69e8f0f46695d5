"""An epoch visits every record once, in batches of one shape."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from relay_diffusion.data.pictures.plan import num_batches, plan_epoch, uniform

NUM_SHAPES = 9


def planned(num: int, batch_size: int, seed: str = "0 0") -> tuple[np.ndarray, ...]:
    members = np.arange(num) * 3 + 1
    shapes = np.random.default_rng(num).integers(0, NUM_SHAPES, num)
    plan = plan_epoch(members, [shapes], [1.0], batch_size, seed)
    return members, shapes, plan.rows, plan.shapes


@pytest.mark.parametrize(("num", "batch_size"), [(1000, 16), (64, 16), (65, 16), (17, 8), (5, 1)])
def test_every_record_comes_once_and_only_the_last_batch_is_filled_up(
    num: int, batch_size: int
) -> None:
    members, _, rows, shapes = planned(num, batch_size)
    assert rows.shape == (num_batches(num, batch_size), batch_size) == (len(shapes), batch_size)
    counts = Counter(rows.flatten().tolist())
    assert counts.keys() == set(members.tolist())
    assert sorted(counts.values()) == [1] * (2 * num - rows.size) + [2] * (rows.size - num)


@pytest.mark.parametrize("num", [1, 3])
def test_fewer_records_than_a_batch_are_repeated(num: int) -> None:
    members, _, rows, _ = planned(num, 8)
    assert rows.shape == (1, 8)
    assert set(rows.flatten().tolist()) == set(members.tolist())


def test_batches_are_of_one_shape_but_for_the_leftovers() -> None:
    members, shapes, rows, of_batch = planned(1000, 16)
    shape_of = dict(zip(members.tolist(), shapes.tolist(), strict=True))
    away = [
        abs(shape_of[record] - shape)
        for batch, shape in zip(rows.tolist(), of_batch.tolist(), strict=True)
        for record in batch
    ]
    # Fewer than a batch of each shape is left over, and is put beside its neighbours.
    assert sum(distance > 0 for distance in away) < NUM_SHAPES * 16
    assert sum(distance > 2 for distance in away) <= 16
    full = sum(count // 16 for count in Counter(shapes.tolist()).values())
    pure = sum(
        all(shape_of[record] == shape for record in batch)
        for batch, shape in zip(rows.tolist(), of_batch.tolist(), strict=True)
    )
    assert pure >= full


def test_epochs_and_seeds_differ_and_repeat() -> None:
    rows = {seed: planned(100, 8, seed)[2] for seed in ("0 0", "0 1", "1 0")}
    assert not np.array_equal(rows["0 0"], rows["0 1"])
    assert not np.array_equal(rows["0 0"], rows["1 0"])
    assert np.array_equal(rows["0 0"], planned(100, 8, "0 0")[2])


def test_views_are_drawn_by_weight() -> None:
    members = np.arange(4000)
    views = [np.zeros(4000, int), np.ones(4000, int)]
    shape_of = plan_epoch(members, views, [1.0, 3.0], 8, "0 0").shape_of
    assert np.mean(shape_of) == pytest.approx(0.75, abs=0.02)


def test_numbers_are_uniform() -> None:
    numbers = uniform("seed", 20000)
    assert 0 <= numbers.min() < numbers.max() < 1
    counts = np.histogram(numbers, 20, (0, 1))[0]
    assert abs(counts - 1000).max() < 150
