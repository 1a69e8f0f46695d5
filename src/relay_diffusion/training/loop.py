"""The training loop, for any objective. It reads top to bottom."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relay_diffusion.config import dump_toml
from relay_diffusion.errors import RelayError
from relay_diffusion.training.checkpoint import Checkpoints, put_folder, reason
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.ema import Ema
from relay_diffusion.training.journal import Journal
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.optimizer import MuonAndAdamW, build_optimizer
from relay_diffusion.training.recipe import Recipe


def train(recipe: Recipe, objective: Objective, device: torch.device, resume: bool = False) -> bool:
    """Train to the recipe's last step, or until asked to stop.

    Everything random is a function of (seed, step, sample), so step n does the same whether the run
    was interrupted before it or not: N steps, a kill, and N more equal 2N steps, on the CPU to the
    bit.

    Args:
        recipe: its ``folder`` receives checkpoints, log, TensorBoard, samples and ``export``.
        objective: what to train; its modules are on ``device``.
        resume: go on from the newest checkpoint, if there is one.
    Returns: True if the run is complete, False if it stopped early (SIGTERM, Ctrl-C, time limit),
        with a checkpoint to go on from.
    Raises: RelayError if a loss is not finite, if the folder holds another run, or if the last
        checkpoint cannot be written.
    """
    run, data = recipe.run, recipe.data
    begun = time.monotonic()
    # One process today. Rows of the global batch are all a process has to know to be one of many.
    rank, world_size = 0, 1
    share = data.batch_size // world_size
    rows = torch.arange(rank * share, (rank + 1) * share, device=device)

    modules = objective.trained
    optimizer = build_optimizer(modules, recipe.optimizer)
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    ema = Ema(modules, recipe.ema)
    checkpoints = Checkpoints(recipe.folder / "checkpoints", recipe.checkpoint.keep)
    start = _restore(checkpoints, recipe, modules, ema, optimizer, resume)
    if run.compile:
        for module in modules.values():
            module.compile()

    def save(step: int) -> None:
        state = {
            "step": step,
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        checkpoints.save(step, state, dump_toml(recipe))
        with _evaluating(recipe, modules, ema, device):
            _export(recipe.folder / "export", objective, dump_toml(recipe))

    bad_step = torch.tensor(-1, device=device)
    step = saved = start
    with Journal(recipe.folder, start, run.steps, data.batch_size) as journal, _asked() as asked:
        while step < run.steps:
            # Dropout is the one thing that draws from the global generator.
            torch.manual_seed(run.seed * 1_000_003 + step)
            lr = recipe.optimizer.lr_at(step, run.steps)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["scale"]

            before = time.perf_counter()
            batch = objective.feed(step)
            waited = time.perf_counter() - before

            loss = torch.zeros((), device=device)
            for part in rows.chunk(recipe.optimizer.accumulate):
                draws = Draws(run.seed, "train", step, part, data.batch_size)
                samples = {name: values[part] for name, values in batch.items()}
                with _autocast(recipe, device):
                    losses = objective.loss(samples, draws)
                part_loss = losses.sum() / data.batch_size
                torch.autograd.backward(part_loss)
                loss += part_loss.detach()
            norm = torch.nn.utils.clip_grad_norm_(
                parameters, recipe.optimizer.clip or float("inf"), foreach=True
            )
            finite = torch.isfinite(loss) & torch.isfinite(norm)
            # Kept on the device: asking at every step would make a GPU wait for Python.
            bad_step = torch.where((bad_step < 0) & ~finite, step, bad_step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            ema.update(step)
            journal.step(waited, loss=loss, grad_norm=norm)

            out_of_time = 0 < run.max_minutes * 60 < time.monotonic() - begun
            done = step == run.steps
            leave = done or out_of_time or bool(asked)
            if step % run.log_every == 0 or step % recipe.checkpoint.every == 0 or leave:
                _insist_on_finite(bad_step, checkpoints)
            if step % run.log_every == 0 or leave:
                journal.report(step, lr)
            if _due(step, recipe.validation.every) or (done and recipe.validation.every):
                with _evaluating(recipe, modules, ema, device):
                    figures = objective.validate()
                journal.write(step, **{f"validation/{k}": v for k, v in figures.items()})
            show = _due(step, recipe.preview.every) or (done and recipe.preview.every)
            if show and objective.preview is not None:
                with _evaluating(recipe, modules, ema, device):
                    pictures, columns = objective.preview()
                journal.pictures(step, pictures, columns)
            if step % recipe.checkpoint.every == 0 or leave:
                try:
                    save(step)
                    saved = step
                except RelayError as error:
                    journal.say(step, str(error))
                    if leave:
                        raise
            if leave:
                break
        if step < run.steps:
            why = f"asked by {asked[0]}" if asked else f"after {run.max_minutes:g} minutes"
            journal.say(step, f"stopped {why}, saved at step {saved}; go on with --resume")
    return step >= run.steps


def _restore(
    checkpoints: Checkpoints,
    recipe: Recipe,
    modules: Any,
    ema: Ema,
    optimizer: torch.optim.Optimizer | MuonAndAdamW,
    resume: bool,
) -> int:
    """Load the newest checkpoint if there is one; the step to go on from."""
    newest = checkpoints.newest()
    if newest is None:
        return 0
    if not resume:
        raise RelayError(
            f"{recipe.folder} already holds a run, up to step {checkpoints.steps()[-1]}: "
            "go on with --resume, or give this one another name with --set run.name=..."
        )
    state = checkpoints.load()
    assert state is not None
    try:
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RelayError(
            f"{newest} does not fit the networks of this recipe; they are in {newest}/recipe.toml"
        ) from error
    return int(state["step"])


def _export(folder: Path, objective: Objective, recipe: str) -> None:
    def write(new: Path) -> None:
        objective.export(new)
        (new / "recipe.toml").write_text(recipe)

    try:
        put_folder(folder, write)
    except OSError as error:
        raise RelayError(f"{folder} not written ({reason(error)}): the old one stays") from error


def _insist_on_finite(bad_step: Tensor, checkpoints: Checkpoints) -> None:
    step = int(bad_step)
    if step < 0:
        return
    steps = checkpoints.steps()
    kept = f"the checkpoint of step {steps[-1]} is good" if steps else "there is no checkpoint yet"
    raise RelayError(
        f"the loss or its gradient is not finite at step {step}; {kept}. "
        "Lower optimizer.lr, or set run.dtype to float32"
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    dtype = torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=recipe.run.dtype == "bfloat16")


@contextlib.contextmanager
def _evaluating(recipe: Recipe, modules: Any, ema: Ema, device: torch.device) -> Iterator[None]:
    """Averaged weights, no gradients, the precision of the run; all as before afterwards."""
    for module in modules.values():
        module.eval()
    try:
        with torch.no_grad(), ema.applied(), _autocast(recipe, device):
            yield
    finally:
        for module in modules.values():
            module.train()


@contextlib.contextmanager
def _asked() -> Iterator[list[str]]:
    """Collects SIGTERM and the first Ctrl-C, in place of dying; a second Ctrl-C interrupts."""
    asked: list[str] = []

    def note(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    try:
        old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread, where signals cannot be caught
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
