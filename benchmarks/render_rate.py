"""Pictures a second of the scene renderer, drawing alone and with scenes and captions sampled.

Needs an atlas (``relay scenes --build-atlas``); says so in one line if there is none.

    python benchmarks/render_rate.py [--atlas FILE] [--world small] [--size 128] [--batch 64]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View


def rate(stream: SceneStream, batch_size: int, seconds: float, describe: bool) -> float:
    """Pictures a second, after one batch to warm up."""
    described = stream.describe(0, batch_size)
    stream.draw(described)
    step, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step += 1
        stream.draw(stream.describe(step, batch_size) if describe else described)
    if stream.atlas.device.type == "cuda":
        torch.cuda.synchronize()
    return step * batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, default=Path("runs/atlas.tar"))
    parser.add_argument("--world", choices=("full", "small"), default="small")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    if not arguments.atlas.is_file():
        print(f"skipped: no atlas at {arguments.atlas}, see relay scenes --build-atlas")
        sys.exit(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World.by_name(arguments.world)
    atlas = Atlas.load(arguments.atlas, world.subjects).to(device)
    stream = SceneStream(world, atlas, [View(arguments.size)])
    for describe in (False, True):
        what = "sampled and drawn" if describe else "drawn"
        pictures = rate(stream, arguments.batch, arguments.seconds, describe)
        threads = torch.get_num_threads()
        print(
            f"{what}: {pictures:.0f} pictures/s at {arguments.size} ({device}, {threads} threads)"
        )


if __name__ == "__main__":
    main()
