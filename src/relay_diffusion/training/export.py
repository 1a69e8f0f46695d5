"""The trained networks as others open them: averaged, in half precision, replaced as a whole."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.files import link_folder
from relay_diffusion.training import distributed
from relay_diffusion.training.checkpoint import RECIPE, put_folder, reason
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective

_STEP = "# weights of step "


class Export:
    """The folder that an objective's networks are exported to, beside the resolved recipe."""

    def __init__(self, folder: Path, objective: Objective, recipe: str) -> None:
        self.folder = folder
        self.objective = objective
        self.recipe = recipe
        self._placed = False  # by this run, in all processes alike

    def held(self) -> int:
        """The step whose weights are there; 0 if there are none, or they do not say. Every process
        has to ask."""
        step = torch.tensor(0)
        if distributed.is_main():
            with contextlib.suppress(OSError, ValueError):
                first = (self.folder / RECIPE).read_text(encoding="utf-8").partition("\n")[0]
                step = torch.tensor(int(first.removeprefix(_STEP)))
        return int(distributed.of_main(step))

    def write(self, step: int) -> None:
        """Replace it by the weights as they are now. Every process has to ask, the main one writes.

        Raises: RelayError, in all of them, if it cannot be written; the old one is untouched.
        """
        error = self._put(step) if distributed.is_main() else self._share()
        self._placed = error is None
        if error is not None:
            raise RelayError(
                f"{self.folder} not written ({reason(error)}): the old one stays; make room, it is "
                "written again with every checkpoint, or by --resume"
            ) from error

    def _put(self, step: int) -> BaseException | None:
        def write(new: Path) -> None:
            distributed.insist_on_no_failure()
            self.objective.export(new)
            if self._placed:  # of gigabytes that stay as they are, one copy is enough
                for name in self.objective.export_once:
                    link_folder(self.folder / name, new / name)
            else:
                self._save_fixed(new)
            (new / RECIPE).write_text(f"{_STEP}{step}\n{self.recipe}", encoding="utf-8")

        try:
            put_folder(self.folder, write)
        except OSError as error:
            # The others hear of it where they next meet the main process.
            return distributed.failure(error)
        return distributed.failure()

    def _share(self) -> BaseException | None:
        """Give the main process the parts that it lacks, as long as it can write them."""
        try:
            distributed.insist_on_no_failure()
            self.objective.export(self.folder)
            if not self._placed:
                self._save_fixed(self.folder)
        except distributed.FailedElsewhere as error:
            return error
        return distributed.failure()

    def _save_fixed(self, folder: Path) -> None:
        for name, module in self.objective.export_once.items():
            save_half(module, folder / name)
