"""One picture of the starter: the whole command, and what sampling costs beside the networks.

    python benchmarks/one_picture.py [--model starter] [--calls 5]

First ``relay generate`` in a process of its own, on the CPU: seconds from start to end and peak of
resident memory. Then the pipeline, opened once: seconds of a call, from the prompt to the pixels,
that are spent in no network, as a share of those that are; of several calls the one with the least.
Ends with 1 if one of them is above its limit, which holds for the starter's 256x256 on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

PROMPT = "a red fox on a meadow"
LIMIT_SECONDS, LIMIT_GB, LIMIT_OVERHEAD = 15, 2, 0.03
GENERATE = "import sys; from relay_diffusion.cli import main; sys.exit(main(sys.argv[1:]))"


def whole_command(model: str) -> tuple[float, float]:
    """Seconds and GB of ``relay generate``. To be called first: a child's ``ru_maxrss`` starts from
    what its parent holds."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["generate", PROMPT, "--model", model, "--device", "cpu", "--seed", "0"]
        command = [sys.executable, "-c", GENERATE, *arguments, "--out", folder]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    from relay_diffusion.evaluation.memory import resident_peak  # with torch, so not before

    return seconds, resident_peak(of_children=True) / 1e9


class Stopwatch:
    """Seconds spent in functions; none of them may call another."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return call


def sampling(model: str, num_calls: int) -> tuple[float, float]:
    """Seconds of a call, and its share of overhead, of the call where that was least."""
    import torch

    from relay_diffusion.pipelines.opening import open_cascade

    pipe = open_cascade(model, torch.device("cpu"), torch.float32)
    watch = Stopwatch()
    for network in (pipe.text_encoder, pipe.base_unet, pipe.relay_unet):
        network.forward = watch.timed(network.forward)
    for name in ("encode", "decode"):
        setattr(pipe.vae, name, watch.timed(getattr(pipe.vae, name)))
    measured = []
    for call in range(num_calls + 1):
        watch.seconds, started = 0.0, time.perf_counter()
        pipe(PROMPT, generator=[torch.Generator().manual_seed(0)], output_type="pt")
        total = time.perf_counter() - started
        if call:  # the first one warms up
            measured.append((total / watch.seconds - 1, total))
    overhead, seconds = min(measured)
    return seconds, overhead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--calls", type=int, default=5)
    arguments = parser.parse_args()
    seconds, peak = whole_command(arguments.model)
    print(f"relay generate, whole process: {seconds:.1f} s, peak {peak:.2f} GB")
    called, overhead = sampling(arguments.model, arguments.calls)
    print(f"a call: {called:.2f} s, of which sampling itself adds {overhead:.2%} to the networks")
    missed = [
        f"{name} above {limit}"
        for name, value, limit in (
            ("seconds", seconds, LIMIT_SECONDS),
            ("GB", peak, LIMIT_GB),
            ("share of overhead", overhead, LIMIT_OVERHEAD),
        )
        if value > limit
    ]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
