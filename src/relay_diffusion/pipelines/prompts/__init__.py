"""Prompt expansion: short prompts rewritten into the long form that a cascade was trained on."""

from __future__ import annotations

from relay_diffusion.pipelines.prompts.choosing import (
    check_expander,
    language_model,
    open_expander,
)
from relay_diffusion.pipelines.prompts.expander import Expander, ExpansionError
from relay_diffusion.pipelines.prompts.expansion import expand_prompt, long_form

__all__ = [
    "Expander",
    "ExpansionError",
    "check_expander",
    "expand_prompt",
    "language_model",
    "long_form",
    "open_expander",
]
