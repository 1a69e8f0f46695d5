"""HPSv2 and HPSv2.1 (arXiv:2306.09341): how people would prefer the picture for its prompt.

In an environment of its own: pip install hpsv2. About 0.2 to 0.35, higher is better; the paper's
tables have v2.0, the default here. The two versions cannot be compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from relay_diffusion.evaluation.scorers.adapter import Loaded, run

OPTIONS = {"--hps-version": {"choices": ["v2.0", "v2.1"], "default": "v2.0"}}


def load(args: argparse.Namespace) -> Loaded:
    import hpsv2  # type: ignore[import-not-found]

    def score(prompts: Sequence[str], paths: Sequence[str]) -> list[float]:
        return [
            float(hpsv2.score(path, prompt, hps_version=args.hps_version)[0])
            for prompt, path in zip(prompts, paths, strict=True)
        ]

    return Loaded(score, f"{metadata.version('hpsv2')}, {args.hps_version}")


if __name__ == "__main__":
    sys.exit(run("hps", load, "pip install hpsv2", OPTIONS))
