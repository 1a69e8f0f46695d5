"""LAION's aesthetic predictor, version 2: how people would rate the picture, prompt unseen.

Needs torch, transformers, Pillow and huggingface_hub. 1 to 10, higher is better. A small network on
the unit-length embedding of CLIP ViT-L/14; "sac+logos+ava1-l14-linearMSE" of
github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from relay_diffusion.evaluation.scorers.adapter import DEVICE, Loaded, pick_device, run

CLIP = "openai/clip-vit-large-patch14"
REPOSITORY = "camenduru/improved-aesthetic-predictor"
FILE = "sac+logos+ava1-l14-linearMSE.pth"
WIDTHS = (768, 1024, 128, 64, 16, 1)
POSITIONS = (0, 2, 4, 6, 7)
"""Of the linear layers among the dropouts of the network as it was saved."""

OPTIONS: dict[str, dict[str, Any]] = {
    **DEVICE,
    "--clip": {"default": CLIP},
    "--weights": {"default": None, "help": f"the file {FILE} (default: fetched)"},
}


def load(args: argparse.Namespace) -> Loaded:
    import torch
    import transformers
    from PIL import Image

    device = pick_device(args.device)
    weights = args.weights
    if weights is None:
        from huggingface_hub import hf_hub_download

        weights = hf_hub_download(REPOSITORY, FILE)
    saved = torch.load(weights, map_location="cpu", weights_only=True)
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(WIDTHS)]
    for layer, position in zip(layers, POSITIONS, strict=True):
        layer.load_state_dict(
            {name: saved[f"layers.{position}.{name}"] for name in ("weight", "bias")}
        )
    head = torch.nn.Sequential(*layers).eval().to(device)
    processor = transformers.CLIPImageProcessor.from_pretrained(args.clip)
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(args.clip).eval().to(device)

    @torch.no_grad()
    def score(prompts: Sequence[str], paths: Sequence[str]) -> list[float]:
        pictures = [Image.open(path).convert("RGB") for path in paths]
        inputs = processor(images=pictures, return_tensors="pt").to(device)
        embeds = torch.nn.functional.normalize(model(**inputs).image_embeds.float(), dim=-1)
        scores: list[float] = head(embeds)[:, 0].tolist()
        return scores

    return Loaded(score, f"{FILE}, transformers {transformers.__version__}")


if __name__ == "__main__":
    install = "pip install torch transformers pillow huggingface_hub"
    sys.exit(run("aesthetic", load, install, OPTIONS))
