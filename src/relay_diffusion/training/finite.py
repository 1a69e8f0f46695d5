"""Stops a run whose loss or gradient is not finite, and says where it went wrong."""

from __future__ import annotations

from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe


def insist_on_finite(
    recipe: Recipe,
    objective: Objective,
    bad_step: Tensor,
    bad_rows: Tensor,
    checkpoints: Checkpoints,
) -> None:
    """Raises: RelayError if there has been a bad step.

    Args: bad_rows: (batch,) bool, this process's rows whose own loss it was; none, if only the
        gradient was bad, which is the whole batch's.
    """
    step = int(bad_step)
    if step < 0:
        return
    rows = distributed.summed(bad_rows.int()).nonzero()[:, 0]
    where = ""
    if objective.levels is not None and len(rows):
        draws = Draws(recipe.run.seed, "train", step, rows, recipe.data.batch_size)
        t = objective.levels(draws).tolist()
        where = f", at t = {', '.join(map(str, t[:8]))}" + (" and others" if len(t) > 8 else "")
    checkpoints.settle()
    steps = checkpoints.steps()
    kept = f"the checkpoint of step {steps[-1]} is good" if steps else "there is no checkpoint yet"
    raise RelayError(
        f"the {'loss' if len(rows) else 'gradient'} is not finite at step {step}{where}; {kept}. "
        "Lower optimizer.lr, or set run.dtype to float32"
    )
