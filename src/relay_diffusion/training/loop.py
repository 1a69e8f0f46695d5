"""The training loop, for any objective. It reads top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from relay_diffusion.config import dump_toml
from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.blocks import compile_blocks
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.clipping import clip_gradients, clipped_together
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.ema import Ema
from relay_diffusion.training.export import Export
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.finite import insist_on_finite
from relay_diffusion.training.journal import Journal
from relay_diffusion.training.learning import into_training
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.optimizer import build_optimizer, set_rate
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.resuming import restore
from relay_diffusion.training.signals import asked_to_stop
from relay_diffusion.training.state import training_state
from relay_diffusion.training.throughput import training_flops


def train(recipe: Recipe, objective: Objective, device: torch.device, resume: bool = False) -> bool:
    """Train to the recipe's last step, or until asked to stop.

    Everything random is a function of (seed, step, sample), so step n does the same whether the run
    was interrupted before it or not: N steps, a kill, and N more equal 2N steps, on the CPU to the
    bit. (What an adapter drops out is one of seed, step, process and part of the batch.) The
    processes of a group share out the samples of a batch and the weights, and a run may go on with
    another number of them.

    Args:
        recipe: its ``folder`` receives checkpoints, log, TensorBoard, samples and ``export``.
        objective: what to train; its modules are on ``device``.
        resume: go on from the newest checkpoint, if there is one.
    Returns: True if the run is complete, False if it stopped early (SIGTERM, Ctrl-C, time limit),
        with a checkpoint to go on from.
    Raises: RelayError if a loss is not finite, if the folder holds another run, or if the last
        checkpoint or export cannot be written.
    """
    run, data = recipe.run, recipe.data
    begun = time.monotonic()
    distributed.insist_on_shares(data.batch_size)
    # The rows of the global batch that are this process's; ``feed`` gives just these.
    share = distributed.share(data.batch_size)
    rows = torch.arange(share.start, share.stop, device=device)

    modules = objective.trained
    if run.activation_checkpointing:
        checkpoint_activations(modules)
    distributed.shard(
        {**modules, **objective.frozen},
        device,
        bfloat16=run.dtype == "bfloat16",
        frozen={*objective.frozen, *objective.export_once},
        replicas=run.replicas,
    )
    optimizer = build_optimizer(modules, recipe.optimizer)
    clipped = clipped_together(objective)
    ema = Ema(modules, recipe.ema)
    done_steps = torch.zeros(1, dtype=torch.int64)
    state = training_state(modules, ema, optimizer, done_steps)
    checkpoints = Checkpoints(recipe.folder / "checkpoints", recipe.checkpoint.keep)
    start, changes = restore(checkpoints, recipe, state, resume)

    export = Export(recipe.folder / "export", objective, dump_toml(recipe))
    held = export.held()
    if held and not start:  # its checkpoints were deleted
        if resume and held >= run.steps:
            return True
        raise RelayError(
            f"{recipe.folder} already holds networks, of step {held}, and no checkpoint to go "
            "on from: give this run another name with --set run.name=..., or move export/ away"
        )

    unsaved = start == 0

    def save() -> None:
        nonlocal unsaved
        done_steps.fill_(step)
        checkpoints.save(step, state, dump_toml(recipe))
        # What follows may fail, and is not to cost it; and no export is there before a checkpoint,
        # or a run killed in between could not be told from one whose checkpoints were deleted.
        settle, unsaved = leave or check or show or unsaved, False
        if settle:
            checkpoints.settle()

    def put_export() -> None:
        if hurried:  # the run that goes on writes it
            return
        with journal.aside(), _evaluating(recipe, modules, ema, device):
            export.write(step)

    def put_pictures() -> None:
        # Who is asked to stop meanwhile, in a validation that takes long, does not begin these.
        if objective.preview is None or distributed.any_of("SIGTERM" in asked):
            return
        with journal.aside(), _evaluating(recipe, modules, ema, device):
            pictures, columns = objective.preview()
            journal.pictures(step, pictures, columns)

    if start >= run.steps and held != start:  # there was no room, or no time
        with _evaluating(recipe, modules, ema, device):
            export.write(start)

    bad_step = torch.tensor(-1, device=device)
    bad_rows = torch.zeros(data.batch_size, dtype=torch.bool, device=device)
    step, leave, hurried = start, False, False
    with (
        Journal(recipe, start, device) as journal,
        asked_to_stop() as asked,
    ):
        if changes:
            journal.say(start, f"resumed with another recipe: {'; '.join(changes)}")
        while step < run.steps:
            lr = recipe.optimizer.lr_at(step, run.steps)
            set_rate(optimizer, lr)

            before = time.perf_counter()
            batch = objective.feed(step)
            waited = time.perf_counter() - before
            if step == start:
                with _autocast(recipe, device):
                    journal.flops = _operations(recipe, objective, batch, rows[:1])
                if run.compile:
                    compile_blocks(modules, run.activation_memory_budget)

            # Dropout is the one thing that draws from the global generator, so the one that differs
            # with the number of processes and of parts.
            torch.manual_seed(run.seed * 1_000_003 + step + (distributed.rank() << 40))
            loss = torch.zeros((), device=device)
            faulty = []
            parts = rows.chunk(recipe.optimizer.accumulate)
            for part in parts:
                distributed.sum_gradients(modules, now=part is parts[-1])
                draws = Draws(run.seed, "train", step, part, data.batch_size)
                samples = {name: values[part - share.start] for name, values in batch.items()}
                with _autocast(recipe, device):
                    losses = objective.loss(samples, draws)
                faulty.append(~torch.isfinite(losses.detach()))
                part_loss = losses.sum() / data.batch_size
                # Sharded gradients are means over the processes; the loss is a sum over all rows.
                torch.autograd.backward(part_loss * distributed.world_size())
                loss += part_loss.detach()
            distributed.summed(loss)
            norms = clip_gradients(clipped, recipe.optimizer.clip)
            finite = torch.stack([loss, *norms.values()]).isfinite().all()
            # Kept on the device: asking at every step would make a GPU wait for Python.
            first = (bad_step < 0) & ~finite
            bad_step = torch.where(first, step, bad_step)
            bad_rows[rows] = torch.where(first, torch.cat(faulty), bad_rows[rows])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            ema.update(step)
            journal.step(waited, loss=loss, **norms)

            out_of_time = 0 < run.max_minutes * 60 < time.monotonic() - begun
            done = step == run.steps
            leave = done or distributed.any_of(out_of_time or bool(asked))
            # Who sends SIGTERM does not wait for long: the checkpoint comes first, and alone.
            hurried = leave and not done and distributed.any_of("SIGTERM" in asked)
            if step % run.log_every == 0 or step % recipe.checkpoint.every == 0 or leave:
                insist_on_finite(recipe, objective, bad_step, bad_rows, checkpoints)
            if step % run.log_every == 0 or leave:
                journal.report(step, lr)
            check = _due(step, recipe.validation.every) or (done and recipe.validation.every)
            show = _due(step, recipe.preview.every) or (done and recipe.preview.every)
            save_now = step % recipe.checkpoint.every == 0 or leave
            try:
                checkpoints.settle(wait=save_now)
            except RelayError as error:  # an earlier one, which no later one has to pay for
                journal.say(step, str(error))
            failed = []
            for write in (save, put_export) if save_now else ():
                try:
                    write()
                except RelayError as error:
                    journal.say(step, str(error))
                    failed.append(error)
            # After the checkpoint, which nothing that goes wrong here may cost.
            if check and not hurried:
                with journal.aside(), _evaluating(recipe, modules, ema, device):
                    figures = objective.validate()
                journal.write(step, **{f"validation/{k}": v for k, v in figures.items()})
            if show and not hurried:
                put_pictures()
            if leave and failed:
                raise failed[0]
            if leave:
                break
        if step < run.steps:
            why = "as another process was asked to, or out of time"
            if asked or out_of_time:
                why = f"asked by {asked[0]}" if asked else f"after {run.max_minutes:g} minutes"
            journal.say(step, f"stopped {why}, saved at step {step}; go on with --resume")
    return step >= run.steps


def _operations(recipe: Recipe, objective: Objective, batch: Batch, row: Tensor) -> int:
    """Of the forward and backward pass of a step, measured on its first sample."""
    draws = Draws(recipe.run.seed, "train", 0, row, recipe.data.batch_size)
    sample = {name: values[:1] for name, values in batch.items()}
    flops = training_flops(lambda: objective.loss(sample, draws), objective.trained)
    distributed.forget_gathered(objective.trained)
    return flops * recipe.data.batch_size


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
        with (
            torch.no_grad(),
            ema.applied(),
            _autocast(recipe, device),
            # Batches have sizes here that training has not: each would be compiled for.
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        distributed.forget_gathered(modules)
        into_training(modules)
