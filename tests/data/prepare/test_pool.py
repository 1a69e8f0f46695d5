"""What workers ask for is there, on any mixture of nodes, and none dies for ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.data.prepare.pool import MOST_CPUS, TRIES, Item, RayPool, Share, Work, share_of


def nodes(*resources: tuple[float, float], dead: bool = False) -> list[dict[str, Any]]:
    """As ``ray.nodes()`` gives them: (CPUs, GPUs) of each; a node without GPUs names none."""
    return [
        {"Alive": not dead, "Resources": {"CPU": c, "memory": 1e9} | ({"GPU": g} if g else {})}
        for c, g in resources
    ]


def placed(share: Share, cluster: list[dict[str, Any]]) -> int:
    """How many of the workers find a place, one after the other, on whole GPUs."""
    num = 0
    for node in cluster:
        cpus, slots = node["Resources"]["CPU"], 0
        for _ in range(int(node["Resources"].get("GPU", 0))):
            slots += int(1 / share.gpus + 1e-9)
        while slots and cpus >= share.cpus - 1e-9 and num < share.workers:
            cpus, slots, num = cpus - share.cpus, slots - 1, num + 1
    return num


@pytest.mark.parametrize("workers", [0, 1, 3, 5, 16])
@pytest.mark.parametrize(
    "resources",
    [
        [(8, 8)],
        [(96, 0), (96, 0), (8, 2)],
        [(64, 0), (32, 4), (4, 4)],
        [(128, 1), (2, 4)],
        [(256, 8), (256, 8)],
    ],
)
def test_all_workers_find_a_place(resources: list[tuple[int, int]], workers: int) -> None:
    cluster = nodes(*resources)
    share = share_of(cluster, True, workers, items=1000)
    assert share.workers == (workers or sum(gpus for _, gpus in resources))
    assert placed(share, cluster) == share.workers
    assert share.cpus <= MOST_CPUS


def test_cores_of_nodes_without_a_gpu_are_not_counted_for_those_with_one() -> None:
    mixed = nodes((96, 0), (96, 0), (8, 2))
    assert share_of(mixed, True, 0, 100) == Share(2, 4, 1)  # 100 each before, on no node
    assert share_of([*mixed, *nodes((2, 2), dead=True)], True, 0, 100) == Share(2, 4, 1)
    assert share_of(mixed, True, 0, items=1) == Share(1, 4, 1)


def test_without_a_gpu_a_worker_is_a_core() -> None:
    assert share_of(nodes((4, 0), (8, 0)), True, 0, 100) == Share(12, 1, 0)
    assert share_of(nodes((4, 0), (8, 2)), False, 0, 5) == Share(5, 1, 0)
    assert share_of(nodes((4, 0)), False, 2, 100) == Share(2, 1, 0)


def deadly(folder: Path) -> Work:
    """Work that notes each try, and does not survive the third item."""

    def work(item: Item) -> Item:
        with (folder / str(item["shard"])).open("a") as tries:
            tries.write("x")
        if item["shard"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return work


@pytest.mark.slow
def test_what_kills_its_worker_is_given_up_and_all_else_done(tmp_path: Path) -> None:
    with RayPool(workers=2) as pool:
        done = list(pool.each(deadly, (tmp_path,), [{"shard": i} for i in range(6)]))
    assert sorted(item["shard"] for item in done) == [0, 1, 3, 4, 5]
    tries = {file.name: len(file.read_text()) for file in tmp_path.iterdir()}
    assert tries == {str(i): TRIES if i == 2 else 1 for i in range(6)}
