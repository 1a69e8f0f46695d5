"""Going on with a run: from which step, and whether it is still the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from relay_diffusion.config import changed_keys, dump_toml
from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.files import put_text
from relay_diffusion.models.folder import part_folder
from relay_diffusion.models.hashes import network_hash, weight_files
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import text_is_fixed
from relay_diffusion.training.checkpoint import Checkpoints, Misfit
from relay_diffusion.training.recipe import (
    AutoencoderRecipe,
    DenoisingRecipe,
    Recipe,
    UpscalingRecipe,
)
from relay_diffusion.training.rounds import DistillRecipe

NETWORKS = "networks.json"
"""Beside the checkpoints: hashes of the networks that a run computes with and does not change."""


def restore(
    checkpoints: Checkpoints, recipe: Recipe, state: Mapping[str, Tensor], resume: bool
) -> tuple[int, list[str]]:
    """Fill ``state`` from the newest checkpoint, if there is one; the step to go on from, and how
    the recipe differs from that of the checkpoint.

    Raises: RelayError if there is a checkpoint and the run was not to be gone on with, it is of
        another objective or began with other networks than it would go on with, or the checkpoint
        is damaged or holds other tensors.
    """
    steps = checkpoints.steps()
    if steps and not resume:
        raise RelayError(
            f"{recipe.folder} already holds a run, up to step {steps[-1]}: "
            "go on with --resume, or give this one another name with --set run.name=..."
        )
    if not steps or steps[-1] < recipe.run.steps:  # one that is complete is passed over
        _insist_on_networks(checkpoints.folder / NETWORKS, recipe, begun=bool(steps))
    if not steps:
        return 0, []
    changes = _changes(checkpoints, steps[-1], recipe)
    _insist_on_objective(recipe, changes)
    try:
        start = checkpoints.load(state)
    except Misfit as error:
        made = [change for change in changes if change.startswith(SHAPING)]
        if not made:
            raise
        more = f" and {len(made) - SHOWN} more" if len(made) > SHOWN else ""
        raise RelayError(
            f"the checkpoint of step {steps[-1]} in {recipe.folder} does not fit this recipe: "
            f"{'; '.join(made[:SHOWN])}{more}: set back what makes other tensors, or begin anew "
            f"with --set run.name=... ({error})"
        ) from error
    assert start is not None
    return start, changes


SHAPING = ("model.", "lora", "optimizer.kind ", "optimizer.scales", "objective.")
"""Beginnings of keys that say which tensors a run has."""

SHOWN = 3
"""Of them, so many are named."""


def _changes(checkpoints: Checkpoints, step: int, recipe: Recipe) -> list[str]:
    """How the recipe differs from that of a checkpoint."""
    try:
        changes = changed_keys(checkpoints.recipe(step), dump_toml(recipe))
    except (OSError, ValueError):
        return ["that of the checkpoint cannot be read"]
    # How long a call may take is no part of what is trained.
    return [change for change in changes if not change.startswith("run.max_minutes ")]


def _insist_on_objective(recipe: Recipe, changes: Sequence[str]) -> None:
    """Raises: RelayError where a run of another objective would be gone on with, whose export would
    be lost."""
    for change in changes:
        if change.startswith("run.objective "):
            raise RelayError(
                f"{recipe.folder} holds a run of another objective ({change}): give this one "
                "another name with --set run.name=..."
            )


def _insist_on_networks(file: Path, recipe: Recipe, begun: bool) -> None:
    """Write down the fixed networks of a run that begins; see that one that goes on has the same:
    what it learned is good for those only."""
    changed: list[str] = []
    failed: BaseException | None = None
    if distributed.is_main():  # gigabytes are read
        try:
            changed = _changed_networks(file, recipe, begun)
        except (OSError, ValueError) as error:  # RelayError is one
            failed = error
    failed = distributed.failure(failed)
    if failed is not None:
        raise RelayError(f"{file}: {first_line(failed)}") from failed
    if distributed.any_of(bool(changed)):
        raise RelayError(
            f"{recipe.folder} was trained with another {', '.join(changed) or 'network'} than is "
            "there now: go on with that one, or begin anew with --set run.name=..."
        )


def _changed_networks(file: Path, recipe: Recipe, begun: bool) -> list[str]:
    folders = fixed_networks(recipe)
    # Of what is stored as anything but safetensors there is no hash.
    now = {name: network_hash(at) for name, at in folders.items() if weight_files(at)}
    if begun and file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        return [name for name in now if before.get(name, now[name]) != now[name]]
    file.parent.mkdir(parents=True, exist_ok=True)
    put_text(file, json.dumps(now, indent=2) + "\n")
    return []


def fixed_networks(recipe: Recipe) -> dict[str, Path]:
    """Folders of the networks that a run computes with and no checkpoint of it holds, since they do
    not change, by the key in the recipe that they come from."""
    folders: dict[str, Path] = {}
    if isinstance(recipe, DistillRecipe):
        teacher = resolve(recipe.objective.teacher)
        for part in ("vae", "text_encoder", f"{recipe.objective.stage}_unet"):
            folders[f"objective.teacher/{part}"] = part_folder(teacher, part)
    names = ["unet"] if isinstance(recipe, DistillRecipe) else []  # of the round before
    if isinstance(recipe, DenoisingRecipe):
        names = ["vae"]
        names += ["text_encoder"] if text_is_fixed(recipe) else []
        names += ["unet"] if recipe.lora or recipe.model.rank else []
    if isinstance(recipe, AutoencoderRecipe) and recipe.objective.decoder_only:
        names = ["vae"]
    for name in names:
        path = recipe.model.init_from.get(name) or getattr(recipe.model, name)
        if path and isinstance(path, str):  # others are drawn from the run's seed
            folders[f"model.{name}"] = Path(path)
    if isinstance(recipe, UpscalingRecipe | DistillRecipe) and recipe.objective.redraw:
        redraws = resolve(recipe.objective.redraw.cascade)
        folders["objective.redraw.cascade/base_unet"] = part_folder(redraws, "base_unet")
    return folders
