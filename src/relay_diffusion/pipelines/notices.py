"""What a user should know about a run, said once."""

from __future__ import annotations

import logging
from functools import lru_cache

logger = logging.getLogger(__name__)


def quoted(words: str, limit: int = 60) -> str:
    """Somebody's words, to stand in a notice: in one line, and cut to ``limit`` characters."""
    line = " ".join(words.split())
    return repr(line if len(line) <= limit else f"{line[: limit - 3].rstrip()}...")


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning of one line, unless this process has just said the same."""
    logger.warning(message)
