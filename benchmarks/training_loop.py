"""What the training loop costs beside the work: everything but forward, backward and optimiser.

    python benchmarks/training_loop.py [--recipe recipes/starter_cpu_base.toml] [--steps 40]
        [--set data.batch_size=32 ...]

Trains the recipe's networks, freshly initialised, on pictures of noise that are encoded once, so
that the loop itself is left. One line, which docs/results/2026-11-25-training.md quotes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from relay_diffusion.data.batch import PictureBatch
from relay_diffusion.data.view import View
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import learner
from relay_diffusion.training.build import pick_device
from relay_diffusion.training.loop import train
from relay_diffusion.training.recipe import read_recipe
from relay_diffusion.training.run import make_objective

DEFAULT = "recipes/starter_cpu_base.toml"
WARM_UP = 3


@dataclass(frozen=True)
class Noise:
    """Pictures of noise with one caption."""

    views: Sequence[View]

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> PictureBatch:
        num, side = len(rows or range(batch_size)), self.views[0].side
        x = torch.rand(num, 3, side, side) * 2 - 1
        return PictureBatch(x, ["a cat"] * num, torch.tensor([[float(side)] * 6] * num))


class Stopwatch:
    """Seconds spent in functions, by name, and when each step began."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inside: dict[str, list[float]] = {}
        self.begun: list[float] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._wait()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self._wait()
            self.inside.setdefault(name, []).append(time.perf_counter() - start)
            return result

        return call

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The run that its autoencoder comes from need not have been made here.
        own = [f"model.vae={resolve('starter') / 'vae'}"] if arguments.recipe == DEFAULT else []
        recipe = read_recipe(arguments.recipe, [*own, *arguments.set])
        recipe = replace(
            recipe,
            run=replace(recipe.run, out=folder, steps=arguments.steps + WARM_UP, name="loop"),
            data=replace(recipe.data, reuse=10**6, chapter=2),
            model=replace(recipe.model, init_from={}),
            validation=replace(recipe.validation, every=0),
            preview=replace(recipe.preview, every=0),
            checkpoint=replace(recipe.checkpoint, every=10**6),
        )
        if recipe.run.num_threads:
            torch.set_num_threads(recipe.run.num_threads)
        measure(recipe, arguments)


def measure(recipe: Any, arguments: argparse.Namespace) -> None:
    device = pick_device(recipe)
    objective = make_objective(recipe, lambda split, views: Noise(views), device)
    watch = Stopwatch(device)
    feed = objective.feed

    def marked_feed(step: int) -> Any:
        if device.type == "cuda":
            torch.cuda.synchronize()
        watch.begun.append(time.perf_counter())
        return feed(step)

    def marked_optimizer(*args: Any) -> Any:
        optimizer = build(*args)
        optimizer.step = watch.timed("optimiser", optimizer.step)
        return optimizer

    build, backward = learner.build_optimizer, torch.autograd.backward
    learner.build_optimizer = marked_optimizer  # type: ignore[assignment]
    torch.autograd.backward = watch.timed("backward", backward)
    try:
        timed = replace(objective, feed=marked_feed, loss=watch.timed("forward", objective.loss))
        train(recipe, timed, device)
    finally:
        learner.build_optimizer, torch.autograd.backward = build, backward
    steps = arguments.steps - 1  # the last one ends with the checkpoint
    parts_of_batch = recipe.optimizer.accumulate
    first, last = watch.begun[WARM_UP], watch.begun[WARM_UP + steps]
    each = (last - first) / steps
    parts = {}
    for name, times in watch.inside.items():
        once = 1 if name == "optimiser" else parts_of_batch
        parts[name] = sum(times[-(steps + 1) * once : -once]) / steps
    rest = each - sum(parts.values())
    shown = ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in parts.items())
    print(
        f"{Path(arguments.recipe).stem}, batch {recipe.data.batch_size}, {steps} steps: "
        f"{1e3 * each:.0f} ms a step, {shown}; the loop itself {1e3 * rest:.1f} ms, "
        f"{rest / each:.2%}"
    )


if __name__ == "__main__":
    main()
