"""The training loop, for any objective. It reads top to bottom."""

from __future__ import annotations

import logging
import time

import torch

from relay_diffusion.training import distributed
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.blocks import compile_blocks
from relay_diffusion.training.journal import Journal
from relay_diffusion.training.learner import Learner
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.outputs import Due, Outputs
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.resuming import restore
from relay_diffusion.training.step import OptimizerStep
from relay_diffusion.training.stopping import Stopping

log = logging.getLogger(__name__)


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
    run, modules = recipe.run, objective.trained
    stopping = Stopping(run)
    distributed.insist_on_shares(recipe.data.batch_size)
    if run.activation_checkpointing:
        checkpoint_activations(modules)
    distributed.shard(
        {**modules, **objective.frozen},
        device,
        bfloat16=run.dtype == "bfloat16",
        frozen={*objective.frozen, *objective.export_once},
        replicas=run.replicas,
    )
    learner = Learner(recipe, modules, device)
    take_step = OptimizerStep(recipe, objective, learner, device)
    outputs = Outputs(recipe, objective, learner)
    start, changes = restore(outputs.checkpoints, recipe, learner.state, resume)
    if outputs.is_complete(start, resume):
        if changes and distributed.is_main():
            log.warning("%s is complete, so this has no effect: %s", run.name, "; ".join(changes))
        return True

    warmup = recipe.optimizer.warmup
    if warmup >= run.steps and distributed.is_main():
        log.warning("optimizer.warmup is %d of %d steps: lr is not reached", warmup, run.steps)
    step = start
    with Journal(recipe, start, device) as journal, stopping:
        if changes:
            journal.say(step, f"resumed with another recipe: {'; '.join(changes)}")
        while step < run.steps:
            before = time.perf_counter()
            batch = objective.feed(step)
            waited = time.perf_counter() - before
            if step == start:
                journal.flops = take_step.flops(batch)
                if run.compile:
                    compile_blocks(modules, run.activation_memory_budget)

            lr = recipe.optimizer.lr_at(step, run.steps)
            figures = take_step(step, batch, lr)
            step += 1
            learner.count(step)
            journal.step(waited, **figures)

            stop = stopping.after(step)
            due = Due.after(step, recipe, stop)
            if due.report or due.save:
                take_step.insist_on_finite(outputs.checkpoints)
            if due.report:
                journal.report(step, lr)
            outputs.put(step, due, stop, journal, stopping)
            if stop.leave:
                break
        if step < run.steps:
            why = stopping.why()
            journal.say(step, f"stopped {why}, saved at step {step}; go on with --resume")
    return step >= run.steps
