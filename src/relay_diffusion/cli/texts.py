"""The texts that pictures are made of: prompts as they were typed, and in their long form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from relay_diffusion.errors import RelayError


def read_prompts(arguments: list[str], file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file, one per line that is not blank.

    Raises: RelayError if the file cannot be read, or standard input and a file are given.
    """
    from_stdin = arguments == ["-"]
    if from_stdin and file not in (None, "-"):
        raise RelayError(f"- reads prompts from standard input, and --prompts {file}: give one")
    prompts = [] if from_stdin else list(arguments)
    if from_stdin or file == "-":
        lines = sys.stdin.read().split("\n")
    elif file is not None:
        try:
            # Windows' editors begin a file with a byte-order mark.
            lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RelayError(f"{file} cannot be read as a list of prompts: {error}") from error
    else:
        lines = []
    return prompts + [line.strip() for line in lines if line.strip()]


def expanded_for(
    pairs: Sequence[tuple[str, int]],
    model: str,
    choice: bool | str,
    expander_model: str | None,
    device: str,
) -> list[str | None]:
    """The long form of each prompt by the seed of its picture, None where it stays as typed."""
    from relay_diffusion.pipelines.opening import open_expansion

    expand = open_expansion(model, choice, expander_model, device)
    texts = [(expand(prompt, seed), prompt) for prompt, seed in pairs]
    return [text if text != prompt else None for text, prompt in texts]
