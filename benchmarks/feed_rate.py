"""Pictures a second that training is fed with: encoded on the way, and prepared before.

The batches of the relay objective with the starter's networks: latents of the picture and of its
low-resolution version, tokens, sizes. Draws and prepares pictures of its own.

    python benchmarks/feed_rate.py [--size 128] [--num 256] [--batch 16] [--seconds 10]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.pool import RayPool
from relay_diffusion.data.prepare.run import Job, prepare
from relay_diffusion.data.prepare.settings import Settings
from relay_diffusion.models.registry import resolve
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.run import make_objective
from relay_diffusion.training.sources import open_source

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
UNET = {
    "block_out_channels": [32, 64],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
}


def draw(folder: Path, num: int, size: int) -> None:
    """Smooth noise, as JPEG, with captions of the starter's words."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(num):
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:05}.jpg", quality=95)
        (folder / f"{i:05}.txt").write_text("a red fox above a mushroom, pixel art")


def objective_on(source: str, path: Path, size: int, batch_size: int, scratch: Path) -> Objective:
    cascade = resolve("starter")
    model: dict[str, Any] = {
        part: str(cascade / part) for part in ("vae", "text_encoder", "tokenizer")
    }
    recipe = recipe_from_dict(
        {
            "run": {"name": source, "objective": "relay", "steps": 1, "out": str(scratch)},
            "data": {
                "source": source,
                "path": str(path),
                "batch_size": batch_size,
                "views": [{"size": size}],
            },
            "model": {**model, "unet": UNET, "max_tokens": 64},
        }
    )
    return make_objective(recipe, open_source(recipe.data, 0, DEVICE, embeddings=True), DEVICE)


def rate(objective: Objective, batch_size: int, seconds: float) -> float:
    """Pictures a second, after one batch to warm up."""
    objective.feed(0)
    step, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step += 1
        objective.feed(step)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return step * batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    size, batch_size = arguments.size, arguments.batch
    with tempfile.TemporaryDirectory() as folder:
        pictures, out = Path(folder) / "pictures", Path(folder) / "prepared"
        draw(pictures, arguments.num, size)
        settings = Settings(size=size, shard_size=64, embeddings=True)
        job = Job(str(pictures), out, resolve("starter"), "starter", settings, Blocklists())
        with RayPool() as pool:
            prepare(job, pool)
        for source, path in (("pictures", pictures), ("prepared", out)):
            objective = objective_on(source, path, size, batch_size, Path(folder))
            per_second = rate(objective, batch_size, arguments.seconds)
            print(
                f"{source}: {per_second:.0f} pictures/s, {1000 * batch_size / per_second:.1f} ms "
                f"a batch of {batch_size} at {size} ({DEVICE}, {torch.get_num_threads()} threads)"
            )


if __name__ == "__main__":
    main()
