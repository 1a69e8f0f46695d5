"""HPSv2 and HPSv2.1 (arXiv:2306.09341): how people would prefer the picture for its prompt.

In an environment of its own: pip install hpsv2. About 0.2 to 0.35, higher is better; the paper's
tables have v2.0, the default here. The two versions cannot be compared. hpsv2 takes a GPU wherever
it sees one; CUDA_VISIBLE_DEVICES says which it sees.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from itertools import groupby
from operator import itemgetter

from relay_diffusion.evaluation.scorers.adapter import Loaded, run

OPTIONS = {"--hps-version": {"choices": ["v2.0", "v2.1"], "default": "v2.0"}}


def load(args: argparse.Namespace) -> Loaded:
    import hpsv2  # type: ignore[import-not-found]

    def score(prompts: Sequence[str], paths: Sequence[str]) -> list[float]:
        scores: list[float] = []
        rows = zip(prompts, paths, strict=True)
        for prompt, of_prompt in groupby(rows, key=itemgetter(0)):
            # One call for all pictures of a prompt: each call reads the weights anew.
            pictures = [path for _, path in of_prompt]
            scores += map(float, hpsv2.score(pictures, prompt, hps_version=args.hps_version))
        return scores

    return Loaded(score, f"{metadata.version('hpsv2')}, {args.hps_version}")


if __name__ == "__main__":
    sys.exit(run("hps", load, "pip install hpsv2", OPTIONS))
