"""What a run tells while it goes: progress bar, or lines where there is no terminal, ``log.jsonl``,
TensorBoard, sample grids."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from relay_diffusion.config import to_dict
from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.throughput import peak_flops


class Journal:
    """Writes into the recipe's folder, for TensorBoard too if that is installed, and to Weights &
    Biases if the recipe names a project, in the main process only; a context manager.

    Args:
        recipe: of the run.
        start: the first step.
        device: of this process.
    Attributes:
        flops: operations of one step of all processes; 0 as long as they are not known.
    """

    def __init__(self, recipe: Recipe, start: int, device: torch.device) -> None:
        folder, num_steps = recipe.folder, recipe.run.steps
        main = distributed.is_main()
        self.flops = 0
        self._peak = peak_flops(device)
        self._wandb = _weights_and_biases(recipe) if main and recipe.run.wandb else None
        self.folder = folder
        if main:
            folder.mkdir(parents=True, exist_ok=True)
            print(f"trains to {folder}, with figures in log.jsonl", file=sys.stderr, flush=True)
        self.batch_size = recipe.data.batch_size
        self.num_steps = num_steps
        self._bar = tqdm(
            total=num_steps,
            initial=start,
            unit="step",
            disable=None if main else True,
            smoothing=0.05,
        )
        log = folder / "log.jsonl" if main else os.devnull
        self._log = open(log, "a", encoding="utf-8")  # noqa: SIM115
        self._main = main
        self._board = _board(folder / "tensorboard", start) if main else None
        if main and self._board is None:
            self.say(start, "no TensorBoard: pip install tensorboard to have it")
        self._begun = time.perf_counter()
        self._since = self._begun
        self._steps = 0
        self._waited = 0.0
        self._aside = 0.0
        self._sums: dict[str, Tensor] = {}

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
        self._log.close()

    def step(self, waited: float, **values: Tensor) -> None:
        """Count a step, in which ``waited`` seconds went into data. Values stay on their device."""
        self._steps += 1
        self._waited += waited
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._bar.update()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is no part of the steps, whose rate does not count the time it takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._aside += time.perf_counter() - begun

    def report(self, step: int, lr: float) -> dict[str, float]:
        """One line: means since the last report, rate, and time left."""
        means = {name: float(value) / self._steps for name, value in self._sums.items()}
        since = time.perf_counter() - self._since
        seconds = max(since - self._aside, 1e-9)
        rate = self._steps / seconds
        minutes_left = (self.num_steps - step) * since / self._steps / 60
        self.write(
            step,
            **means,
            lr=lr,
            samples_per_second=rate * self.batch_size,
            **self._arithmetic(rate),
            data_share=self._waited / seconds,
            minutes=(time.perf_counter() - self._begun) / 60,
            minutes_left=minutes_left,
        )
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()})
        if self._main and self._bar.disable:  # no terminal: a log file, which a bar would fill
            figures = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            print(
                f"step {step} of {self.num_steps}: {figures}, "
                f"{rate * self.batch_size:.3g} samples/s, {minutes_left:.1f} minutes left",
                file=sys.stderr,
                flush=True,
            )
        self._sums, self._steps, self._waited, self._aside = {}, 0, 0.0, 0.0
        self._since = time.perf_counter()
        return means

    def _arithmetic(self, rate: float) -> dict[str, float]:
        """Of each device, at ``rate`` steps a second: 10^12 operations a second, and their share of
        the dense bfloat16 peak where that is known."""
        each = self.flops * rate / distributed.world_size()
        figures = {"tflops": each / 1e12}
        return figures | ({"mfu": each / self._peak} if self._peak else {})

    def write(self, step: int, **values: float) -> None:
        """A line of figures."""
        line: dict[str, Any] = {"step": step}
        line.update({name: float(f"{value:.6g}") for name, value in values.items()})
        self._line(line)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def say(self, step: int, text: str) -> None:
        """A line of words."""
        self._line({"step": step, "note": text})
        if self._main:
            self._bar.write(f"step {step}: {text}")

    def pictures(self, step: int, x: Tensor, columns: int) -> None:
        """A grid, as PNG and in TensorBoard. x (N, 3, H, W) in [-1, 1]."""
        if not self._main:
            return
        sheet = grid(x, columns)
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(folder / f"step-{step:08d}.png")
        if self._board is not None:
            self._board.add_image("samples", sheet, step)

    def _line(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


def _board(folder: Path, start: int) -> Any:
    """Where TensorBoard reads, or None if it is not installed. Steps from ``start`` on that are
    there already go."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start)


def _weights_and_biases(recipe: Recipe) -> Any:
    """A run there, to which everything for TensorBoard goes too; it must be begun before that. A
    run that is resumed here goes on there, by the id that is kept in its folder."""
    try:
        import wandb
    except ImportError as error:
        raise RelayError("run.wandb needs Weights & Biases: pip install wandb") from error
    if find_spec("tensorboard") is None:
        raise RelayError("run.wandb is fed through TensorBoard: pip install tensorboard")
    recipe.folder.mkdir(parents=True, exist_ok=True)
    kept = recipe.folder / "wandb_id"
    if not kept.exists():
        kept.write_text(secrets.token_hex(4))
    return wandb.init(
        id=kept.read_text(),
        resume="allow",
        project=recipe.run.wandb,
        name=recipe.run.name,
        config=to_dict(recipe),
        dir=str(recipe.folder),
        sync_tensorboard=True,
    )


def grid(x: Tensor, columns: int) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1], row by row, as one (3, H', W') uint8 on the CPU."""
    pixels = ((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    missing = -len(pixels) % columns
    pixels = torch.cat([pixels, pixels.new_full((missing, *pixels.shape[1:]), 255)])
    rows = [torch.cat(list(row), dim=2) for row in torch.split(pixels, columns)]
    return torch.cat(rows, dim=1)
