"""The one exception that speaks to users."""

from __future__ import annotations


class RelayError(ValueError):
    """What was wrong, what is allowed, and what to do, in one line.

    The command line prints it and exits with code 2; library users may catch it as ``ValueError``.
    """
