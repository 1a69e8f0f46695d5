"""Move a UNet to another text encoder: what it reads becomes a linear function of what it read.

    python docs/results/refit_text.py UNET OLD_TEXT_ENCODER NEW_TEXT_ENCODER TOKENIZER OUT

Old and new embeddings of captions of the scene world give M with old ~ new M, by least squares,
token by token, and another M for the means over positions; keys, values and the text embedding of
the UNet are multiplied by them. Written for 2026-11-27: the starter's text encoder was trained on
while its UNets had learned from the one before (docs/log.md).
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import AutoTokenizer, T5EncoderModel

from relay_diffusion.data.scenes.captions import long_caption, short_caption
from relay_diffusion.data.scenes.world import World
from relay_diffusion.models.text import encode_text, tokenize

NUM_SCENES, MAX_TOKENS = 1500, 64


def fit(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """M (D, D) of the least |old - new M|^2, and how much of old it explains, printed."""
    found = torch.linalg.lstsq(new.double(), old.double()).solution
    rest = (old - new @ found.float()).square().sum() / (old - old.mean(0)).square().sum()
    print(f"explained of {len(old):,} rows: {1 - rest:.3f}")
    return found.float()


@torch.no_grad()
def main() -> None:
    unet_folder, old_folder, new_folder, tokenizer_folder, out = map(Path, sys.argv[1:])
    unet = UNet2DConditionModel.from_pretrained(unet_folder, torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    world = World.small()
    scenes = [world.sample(seed) for seed in range(NUM_SCENES)]
    both = (short_caption, long_caption)
    captions = [say(scene, i) for i, scene in enumerate(scenes) for say in both]
    ids = tokenize(tokenizer, captions, MAX_TOKENS)
    old, new = (
        torch.cat([encode_text(encoder, part) for part in ids.split(250)])
        for encoder in (T5EncoderModel.from_pretrained(f).eval() for f in (old_folder, new_folder))
    )
    tokens = fit(old.flatten(0, 1), new.flatten(0, 1))
    means = fit(old.mean(1), new.mean(1))
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            module.weight.copy_(module.weight @ tokens.T)
    first = unet.add_embedding.linear_1.weight  # its first columns are the text's
    width = old.shape[-1]
    first[:, :width] = first[:, :width] @ means.T
    unet.half().save_pretrained(out)


if __name__ == "__main__":
    main()
