"""One step of the optimiser: loss, gradient and update of a global batch."""

from __future__ import annotations

import torch
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.clipping import clip_gradients, clipped_together
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.learner import Learner, autocast
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.optimizer import set_rate
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.throughput import training_flops


class OptimizerStep:
    """Learns from one batch after another, each in ``optimizer.accumulate`` parts.

    Whether losses and gradients are finite is kept on the device until it is asked for, as are the
    figures of a step: to ask at every step would make a GPU wait for Python.
    """

    def __init__(
        self, recipe: Recipe, objective: Objective, learner: Learner, device: torch.device
    ) -> None:
        self.recipe, self.objective, self.learner = recipe, objective, learner
        self.device = device
        # The rows of the global batch that are this process's; ``feed`` gives just these.
        self._share = distributed.share(recipe.data.batch_size)
        self._rows = torch.arange(self._share.start, self._share.stop, device=device)
        self._clipped = clipped_together(objective)
        self._bad_step = torch.tensor(-1, device=device)
        self._bad_rows = torch.zeros(recipe.data.batch_size, dtype=torch.bool, device=device)

    def __call__(self, step: int, batch: Batch, lr: float) -> dict[str, Tensor]:
        """Update the weights, at rate ``lr``, by the gradient of the batch's mean loss.

        Args:
            step: 0, 1, ...
            batch: this process's rows of it.
        Returns: the loss and the norms of its gradient, each of the whole batch.
        """
        optimizer = self.learner.optimizer
        set_rate(optimizer, lr)
        # Dropout is the one thing that draws from the global generator, so the one that differs
        # with the number of processes and of parts.
        torch.manual_seed(self.recipe.run.seed * 1_000_003 + step + (distributed.rank() << 40))
        loss, faulty = self._backward(step, batch)
        norms = clip_gradients(self._clipped, self.recipe.optimizer.clip)
        finite = torch.stack([loss, *norms.values()]).isfinite().all()
        first = (self._bad_step < 0) & ~finite
        self._bad_step = torch.where(first, step, self._bad_step)
        self._bad_rows[self._rows] = torch.where(first, faulty, self._bad_rows[self._rows])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss, **norms}

    def flops(self, batch: Batch) -> int:
        """Operations of the forward and backward pass of a step, measured on its first sample."""
        sample = {name: values[:1] for name, values in batch.items()}
        draws = self._draws(0, self._rows[:1])
        with autocast(self.recipe, self.device):
            flops = training_flops(
                lambda: self.objective.loss(sample, draws), self.objective.trained
            )
        distributed.forget_gathered(self.objective.trained)
        return flops * self.recipe.data.batch_size

    def insist_on_finite(self, checkpoints: Checkpoints) -> None:
        """Raises: RelayError if the loss or the gradient of a step so far was not finite."""
        step = int(self._bad_step)
        if step < 0:
            return
        # None, if only the gradient was bad, which is the whole batch's.
        rows = distributed.summed(self._bad_rows.int()).nonzero()[:, 0]
        where = ""
        if self.objective.levels is not None and len(rows):
            t = self.objective.levels(self._draws(step, rows)).tolist()
            where = f", at t = {', '.join(map(str, t[:8]))}" + (" and others" if len(t) > 8 else "")
        checkpoints.settle()
        steps = checkpoints.steps()
        kept = "there is no checkpoint yet"
        if steps and steps[-1] < step:
            kept = f"the checkpoint of step {steps[-1]} is good"
        elif steps:  # the weights that it was computed with
            kept = f"it is so from the checkpoint of step {steps[-1]} on: "
            kept += (
                f"move {checkpoints.path(steps[-1])} away to go on from the one before"
                if len(steps) > 1
                else "begin anew with --set run.name=..."
            )
        what = "loss" if len(rows) else "gradient"
        raise RelayError(
            f"the {what} is not finite at step {step}{where}; {kept}. "
            "Lower optimizer.lr, or set run.dtype to float32"
        )

    def _backward(self, step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add up the gradient; the loss of the whole batch, and of this process's rows whose own it
        was that is not finite, (B,) bool."""
        batch_size = self.recipe.data.batch_size
        modules = self.objective.trained
        loss = torch.zeros((), device=self.device)
        faulty = []
        parts = self._rows.chunk(self.recipe.optimizer.accumulate)
        for part in parts:
            distributed.sum_gradients(modules, now=part is parts[-1])
            samples = {name: values[part - self._share.start] for name, values in batch.items()}
            with autocast(self.recipe, self.device):
                losses = self.objective.loss(samples, self._draws(step, part))
            faulty.append(~torch.isfinite(losses.detach()))
            part_loss = losses.sum() / batch_size
            # Sharded gradients are means over the processes; the loss is a sum over all rows.
            torch.autograd.backward(part_loss * distributed.world_size())
            loss += part_loss.detach()
        return distributed.summed(loss), torch.cat(faulty)

    def _draws(self, step: int, rows: Tensor) -> Draws:
        return Draws(self.recipe.run.seed, "train", step, rows, self.recipe.data.batch_size)
