"""ImageReward (arXiv:2304.05977): how people would rank the picture for its prompt.

In an environment of its own: pip install image-reward. About -2 to 2, higher is better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from relay_diffusion.evaluation.scorers.adapter import DEVICE, Loaded, pick_device, run

MODEL = "ImageReward-v1.0"


def load(args: argparse.Namespace) -> Loaded:
    import ImageReward  # type: ignore[import-not-found]

    model = ImageReward.load(MODEL, device=pick_device(args.device))

    def score(prompts: Sequence[str], paths: Sequence[str]) -> list[float]:
        return [model.score(prompt, path) for prompt, path in zip(prompts, paths, strict=True)]

    return Loaded(score, f"{metadata.version('image-reward')}, {MODEL}")


if __name__ == "__main__":
    sys.exit(run("imagereward", load, "pip install image-reward", DEVICE))
