"""Run by ``test_distributed.py`` under torchrun: a tiny recipe, in however many processes.

torchrun --nproc-per-node N distributed_run.py KIND OUT STEPS [resume] [half]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny_training import CPU, tiny_objective, tiny_recipe

from relay_diffusion.training import distributed
from relay_diffusion.training.loop import train

HALF = {"dtype": "bfloat16", "channels_last": True, "activation_checkpointing": True}
"""What large networks are trained with."""


def recipe_of(kind: str, out: Path, steps: int, half: bool = False):  # type: ignore[no-untyped-def]
    # The gradient of the autoencoder's L1 loss is a sign, which the last bit of a sum can turn
    # around; at a higher rate the two runs are still the same for ten steps, and drift apart then.
    rate = {"optimizer": {"lr": 1e-4}} if kind == "autoencoder" else {}
    return tiny_recipe(
        kind,
        out,
        run={"steps": steps, **(HALF if half else {})},
        data={"reuse": 2, "chapter": 3, "batch_size": 4},
        validation={"every": 10},
        preview={"every": 25},
        checkpoint={"every": 10},
        **rate,
    )


if __name__ == "__main__":
    kind, out, steps, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    recipe = recipe_of(kind, Path(out), int(steps), "half" in rest)
    distributed.join(CPU)
    train(recipe, tiny_objective(recipe), CPU, resume="resume" in rest)
