"""What a run leaves in its folder while it goes: checkpoints, networks, figures, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from relay_diffusion.config import dump_toml
from relay_diffusion.errors import RelayError
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.export import Export
from relay_diffusion.training.journal import Journal
from relay_diffusion.training.learner import Learner
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.stopping import Stop, Stopping


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, the same in all processes."""

    report: bool
    save: bool
    validate: bool
    preview: bool

    @classmethod
    def after(cls, step: int, recipe: Recipe, stop: Stop) -> Self:
        """By the intervals of the recipe. The last step has all of them; one at which a run is
        stopped has report and checkpoint, and in a hurry nothing else."""

        def now(every: int) -> bool:
            last = step == recipe.run.steps
            return every > 0 and not stop.hurried and (last or step % every == 0)

        return cls(
            report=step % recipe.run.log_every == 0 or stop.leave,
            save=step % recipe.checkpoint.every == 0 or stop.leave,
            validate=now(recipe.validation.every),
            preview=now(recipe.preview.every),
        )


class Outputs:
    """Writes them in an order in which nothing that goes wrong costs a checkpoint.

    Attributes:
        checkpoints: of the run.
        held: the step whose networks are in ``export``, when this begins; 0: none.
    """

    def __init__(self, recipe: Recipe, objective: Objective, learner: Learner) -> None:
        self.recipe, self.objective, self.learner = recipe, objective, learner
        self.checkpoints = Checkpoints(recipe.folder / "checkpoints", recipe.checkpoint.keep)
        self._export = Export(recipe.folder / "export", objective, dump_toml(recipe))
        self.held = self._export.held()
        self._unsaved = False

    def is_complete(self, start: int, resume: bool) -> bool:
        """Whether a run that would go on from step ``start`` has nothing left to do. Networks that
        a complete one could not export, for want of room or time, are.

        Raises: RelayError if the folder holds networks and no checkpoint to go on from.
        """
        self._unsaved = start == 0
        if self.held and not start:  # its checkpoints were deleted
            if resume and self.held >= self.recipe.run.steps:
                return True
            raise RelayError(
                f"{self.recipe.folder} already holds networks, of step {self.held}, and no "
                "checkpoint to go on from: give this run another name with --set run.name=..., or "
                "move export/ away"
            )
        if start < self.recipe.run.steps:
            return False
        if self.held != start:
            with self.learner.evaluating():
                self._export.write(start)
        return True

    def put(self, step: int, due: Due, stop: Stop, journal: Journal, stopping: Stopping) -> None:
        """Write what is due. What cannot be written is told and tried again when it is due next.

        Raises: RelayError if that was the last time.
        """
        try:
            self.checkpoints.settle(wait=due.save)
        except RelayError as error:  # an earlier one, which no later one has to pay for
            journal.say(step, str(error))
        failed = self._save(step, due, stop, journal) if due.save else []
        if due.validate:
            with journal.aside(), self.learner.evaluating():
                figures = self.objective.validate()
            journal.write(step, **{f"validation/{k}": v for k, v in figures.items()})
        # Who is asked to stop meanwhile, in a validation that takes long, does not begin these.
        if due.preview and self.objective.preview and not stopping.asked_to_hurry():
            with journal.aside(), self.learner.evaluating():
                pictures, columns = self.objective.preview()
                journal.pictures(step, pictures, columns)
        if stop.leave and failed:
            raise failed[0]

    def _save(self, step: int, due: Due, stop: Stop, journal: Journal) -> list[RelayError]:
        """The checkpoint, then the networks; what could not be written."""
        # What follows may fail, and is not to cost the checkpoint; and no export is there before
        # one, or a run killed in between could not be told from one whose checkpoints were deleted.
        settle = stop.leave or due.validate or due.preview or self._unsaved
        failed = []
        try:
            self.checkpoints.save(step, self.learner.state, dump_toml(self.recipe))
            self._unsaved = False
            if settle:
                self.checkpoints.settle()
        except RelayError as error:
            journal.say(step, str(error))
            failed.append(error)
        try:
            if not stop.hurried:  # the run that goes on writes it
                with journal.aside(), self.learner.evaluating():
                    self._export.write(step)
        except RelayError as error:
            journal.say(step, str(error))
            failed.append(error)
        return failed
