"""The one exception that speaks to users."""

from __future__ import annotations


class RelayError(ValueError):
    """What was wrong, what is allowed, and what to do, in one line.

    The command line prints it and exits with code 2; library users may catch it as ``ValueError``.
    """


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its type, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
