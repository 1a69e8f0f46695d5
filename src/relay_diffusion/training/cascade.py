"""What a recipe takes from a cascade that is trained on: its networks, and how they are used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import (
    max_tokens_of,
    part_folder,
    read_index,
    read_json,
    relay_blur_of,
    relay_start_of,
)
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import distributed

log = logging.getLogger(__name__)

STAGES = {"base": "base_unet", "relay": "relay_unet", "concat": "relay_unet"}
"""Folder of the UNet that an objective trains."""

LENT = ("vae", "text_encoder", "tokenizer")
"""Folders of what it trains with."""


def fill_from_cascade(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables of a recipe, with what ``model.cascade`` says in the place of what they leave out:
    the folders of the networks, the length of captions, the prediction type, and for the relay
    T_r. Without ``model.cascade``, the same.

    Raises: RelayError if that is no cascade, or one on another noise schedule.
    """
    model = tables.get("model", {})
    name = model.get("cascade") if isinstance(model, Mapping) else None
    own = tables.get("objective", {})
    stage = model.get("stage", "") if isinstance(model, Mapping) else ""
    readable = isinstance(name, str) and isinstance(stage, str) and isinstance(own, Mapping)
    if not name or not readable:  # the recipe's types say what is wrong with it
        return tables
    objective = tables["run"]["objective"]
    folder = resolve(name)
    index, scheduler = read_cascade(folder, "model.cascade")
    parts = {part: str(part_folder(folder, part)) for part in LENT}
    if objective in STAGES:
        named = STAGES.get(stage or objective, STAGES[objective])
        parts["unet"] = str(part_folder(folder, named))
    if stage:
        _insist_on_stage(stage, model, objective, parts.get("unet"))
    used = {
        "max_tokens": max_tokens_of(index),
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
    }
    predicts = model.get("prediction_type", used["prediction_type"])
    if predicts != used["prediction_type"] and distributed.speaks():
        log.warning(
            "model.prediction_type is %s, and the networks of %s predict %s: they learn it anew",
            predicts,
            name,
            used["prediction_type"],
        )
    filled = {**tables, "model": {**parts, **used, **model}}
    if objective == "relay":
        settings = {
            "num_relay_train_steps": int(relay_start_of(index)),
            "blur": relay_blur_of(index),
        }
        filled["objective"] = {**settings, **own}
    return filled


def _insist_on_stage(stage: str, model: Mapping[str, Any], objective: str, unet: Any) -> None:
    """Raises: RelayError where ``model.stage`` would have no effect."""
    if objective not in STAGES:
        raise RelayError(
            f'model.stage is "{stage}", and {objective} trains no stage of a cascade: leave it out'
        )
    initial = model.get("init_from")
    begins = isinstance(initial, Mapping) and "unet" in initial
    if begins or model.get("unet", "") not in ("", unet):
        given = "init_from.unet" if begins else "unet"
        raise RelayError(
            f'model.stage is "{stage}", and model.{given} says otherwise what the UNet begins as: '
            "give one of the two"
        )


def read_cascade(folder: Path, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``model_index.json`` and the scheduler's configuration.

    Raises: RelayError, which names ``where`` in the recipe, if they are not there, or the noise
        schedule is not the one that training has.
    """
    try:
        index, own = read_index(folder), part_folder(folder, "scheduler")
        scheduler = read_json(own.parent, own / "scheduler_config.json")
    except RelayError as error:
        raise RelayError(f"{where}: {error}") from error
    wanted = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
    }
    for name, value in wanted.items():
        if scheduler.get(name) != value:
            raise RelayError(
                f"{where}: {name} of {folder} is {scheduler.get(name)!r}, that of training "
                f"is {value!r}: train on one noise schedule"
            )
    return index, scheduler
