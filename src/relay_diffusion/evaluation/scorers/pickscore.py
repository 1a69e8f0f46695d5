"""PickScore (arXiv:2305.01569): how people would pick the picture for its prompt.

Needs torch, transformers and Pillow. About 15 to 25, higher is better: the model's own logit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from relay_diffusion.evaluation.scorers.adapter import DEVICE, Loaded, pick_device, run

MODEL = "yuvalkirstain/PickScore_v1"
PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
OPTIONS: dict[str, dict[str, Any]] = {
    **DEVICE,
    "--model": {"default": MODEL},
    "--processor": {"default": PROCESSOR},
}


def load(args: argparse.Namespace) -> Loaded:
    import torch
    import transformers
    from PIL import Image

    device = pick_device(args.device)
    processor = transformers.CLIPProcessor.from_pretrained(args.processor)
    model = transformers.CLIPModel.from_pretrained(args.model).eval().to(device)

    @torch.no_grad()
    def score(prompts: Sequence[str], paths: Sequence[str]) -> list[float]:
        pictures = [Image.open(path).convert("RGB") for path in paths]
        inputs = processor(
            text=list(prompts),
            images=pictures,
            padding=True,
            truncation=True,
            max_length=77,
            return_tensors="pt",
        ).to(device)
        logits: list[float] = model(**inputs).logits_per_image.diagonal().tolist()
        return logits

    return Loaded(score, f"{args.model}, transformers {transformers.__version__}")


if __name__ == "__main__":
    install = "pip install torch transformers pillow"
    sys.exit(run("pickscore", load, install, OPTIONS))
