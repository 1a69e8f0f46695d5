"""What the adapters share: reading pictures, writing scores, saying in one line what is missing.

Standard library only, since it runs in environments made for other packages.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

BATCH_SIZE = 16

DEVICE: dict[str, dict[str, Any]] = {
    "--device": {"default": None, "help": "cpu, cuda (default: a GPU, if there is)"}
}
"""The option of adapters that choose where they run, see ``pick_device``."""


class Loaded(NamedTuple):
    """A scorer, ready: ``score`` takes prompts and paths, as many of each, and gives a number for
    each pair."""

    score: Callable[[Sequence[str], Sequence[str]], Sequence[float]]
    version: str


def run(
    name: str,
    load: Callable[[argparse.Namespace], Loaded],
    install: str,
    options: dict[str, dict[str, Any]] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """The command line of an adapter; returns its exit code.

    Args:
        load: opens the scorer; its missing packages and files end in one line, not a traceback.
        install: what to install for it.
        options: its own, as ``argparse`` takes them.
    """
    parser = argparse.ArgumentParser(prog=name, description=f"Score pictures with {name}.")
    parser.add_argument(
        "pictures",
        nargs="?",
        default="-",
        help='JSONL with "prompt" and "path" a line; - is standard input',
    )
    for option, how in (options or {}).items():
        parser.add_argument(option, **how)
    args = parser.parse_args(arguments)
    try:
        rows = list(_read(args.pictures))
        loaded = load(args)
    except ImportError as error:
        return _fail(f"{name}: {error}; in this environment: {install}")
    except (OSError, ValueError, RuntimeError) as error:
        return _fail(f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    print(json.dumps({"scorer": name, "version": loaded.version}), flush=True)
    for start in range(0, len(rows), BATCH_SIZE):
        part = rows[start : start + BATCH_SIZE]
        try:
            scores = loaded.score([prompt for prompt, _ in part], [path for _, path in part])
        except (OSError, ValueError, RuntimeError) as error:
            return _fail(f"{name}: {part[0][1]}: {error}")
        for (_, path), score in zip(part, scores, strict=True):
            print(json.dumps({"path": path, "score": float(score)}), flush=True)
    return 0


def pick_device(asked: str | None) -> str:
    """The device asked for, else a GPU if there is one."""
    import torch

    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def _read(source: str) -> Iterator[tuple[str, str]]:
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                yield str(entry["prompt"]), str(entry["path"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"line {number} has no prompt and path") from None


def _fail(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return 2
