"""Settings of a recipe that would have no effect are refused, as a mistake that would go unnoticed.

Those of one source of data beside another are in ``data_settings.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from relay_diffusion.errors import RelayError

Holds = Callable[[Any], bool]
"""recipe -> whether the setting has an effect in it."""


def _of(*objectives: str) -> Holds:
    return lambda recipe: recipe.run.objective in objectives


_FALLS: tuple[str, Holds] = (
    'optimizer.schedule = "linear" or "cosine"',
    lambda recipe: recipe.optimizer.schedule != "constant",
)
_LOOKS: tuple[str, Holds] = (
    "an objective that looks at pictures",
    lambda recipe: recipe.run.objective != "text",
)

ONLY_WITH: dict[str, tuple[str, Holds]] = {
    "data.views": _LOOKS,
    "data.reuse": _LOOKS,
    "data.chapter": _LOOKS,
    "data.workers": _LOOKS,
    "ema.width": ('ema.kind = "power"', lambda recipe: recipe.ema.kind == "power"),
    "ema.decay": ('ema.kind = "fixed"', lambda recipe: recipe.ema.kind == "fixed"),
    "objective.temperature": (
        "objective.contrast above 0",
        lambda recipe: recipe.objective.contrast > 0,
    ),
    "objective.through_vae": (
        'objective.stage = "relay"',
        lambda recipe: getattr(recipe.objective, "stage", "relay") == "relay",
    ),
    "optimizer.decay_steps": _FALLS,
    "optimizer.final": _FALLS,
    "preview.num_steps": ("the objectives base, relay, concat", _of("base", "relay", "concat")),
    "preview.prompts": ("the objective base", _of("base")),
    "preview.guidance": (
        "an objective that draws pictures",
        _of("base", "relay", "concat", "distill"),
    ),
    "run.activation_memory_budget": (
        "run.compile = true and run.activation_checkpointing = false",
        lambda recipe: recipe.run.compile and not recipe.run.activation_checkpointing,
    ),
    "validation.sizes": ("the objective autoencoder", _of("autoencoder")),
}
"""Key to what it has an effect with, in words, and whether a recipe has that."""


def insist_on_effect(recipe: Any) -> None:
    """Raises: RelayError for a key that is set to other than its default and changes nothing."""
    for path, (what, holds) in ONLY_WITH.items():
        name, key = path.split(".")
        table = getattr(recipe, name, None)
        if not hasattr(table, key) or holds(recipe):
            continue
        value, default = getattr(table, key), _default(table, key)
        if value != default:
            # Over another recipe, which sets it, it cannot be left out.
            simple = isinstance(default, int | float | str)
            or_else = f", or set it to {default!r}" if simple else ""
            raise RelayError(f"{path} has an effect only with {what}: leave it out{or_else}")


def _default(table: Any, key: str) -> Any:
    (field,) = (field for field in fields(table) if field.name == key)
    return field.default if field.default_factory is MISSING else field.default_factory()
