"""The ``--seed`` of the commands that make pictures: of the first, and one more for each other."""

from __future__ import annotations

import secrets

from relay_diffusion.errors import RelayError

LAST_SEED = 2**63 - 1


def first_seed(seed: int | None, num: int, told: str) -> int:
    """That seed, or a random one.

    Args:
        num: pictures, each with a seed of its own.
        told: what the user gave, for the message, such as "--num 4".
    Raises: RelayError if the last one would be none.
    """
    if (seed or 0) > LAST_SEED + 1 - num:
        raise RelayError(
            f"--seed {seed} with {told} goes past the last seed, {LAST_SEED}: "
            f"give {LAST_SEED + 1 - num} or less"
        )
    return secrets.randbelow(10**6) if seed is None else seed
