"""Libraries that say too much while a cascade is opened."""

from __future__ import annotations

from diffusers.utils import logging as diffusers_logging


def quiet_libraries() -> None:
    """No progress bars of theirs, for the files of a network."""
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
