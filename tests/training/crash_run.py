"""Run by ``test_crashes.py``: a tiny recipe that is killed, twenty times, and goes on.

python crash_run.py OUT SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tiny_training import tiny_recipe, train_tiny

from relay_diffusion.training.recipe import Recipe

KILLS = 20
STEPS = 150


def recipe_of(out: Path) -> Recipe:
    return tiny_recipe(
        "base",
        out,
        run={"steps": STEPS, "log_every": 10},
        data={"reuse": 2, "chapter": 4, "batch_size": 2},
        checkpoint={"every": 1},
    )


def main(out: Path, seed: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    for kill in range(KILLS):
        child = os.fork()  # which saves starting Python and torch twenty times
        if child == 0:
            train_tiny(recipe_of(out), resume=True)
            os._exit(0)
        time.sleep(draw.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -signal.SIGKILL, f"ended with {status} before kill {kill}"
        print("killed", flush=True)
    train_tiny(recipe_of(out), resume=True)
    train_tiny(recipe_of(out / "uninterrupted"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
