"""What a user should know about a run, said once."""

from __future__ import annotations

import logging
from functools import lru_cache

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning of one line, unless this process has just said the same."""
    logger.warning(message)
