"""The recipe for the released cascade resolves where its weights are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from tiny_training import tokenizer
from transformers import T5Config

from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.models.unet import full_size_unet
from relay_diffusion.training.build import networks_of
from relay_diffusion.training.recipe import read_recipe
from relay_diffusion.training.run import summary
from relay_diffusion.training.weights import count_weights

RECIPE = Path(__file__).parents[2] / "recipes" / "lora_full.toml"


def configurations(folder: Path) -> None:
    """A cascade of the released sizes without its weights; the VAE and the text encoder, which the
    adapter has no part in, are small."""
    full_size_unet().save_config(folder / "base_unet")
    with torch.device("meta"):
        AutoencoderKL(latent_channels=4, block_out_channels=(32,)).save_config(folder / "vae")
    T5Config(vocab_size=16, d_model=4096, d_ff=64, num_layers=1).save_pretrained(
        folder / "text_encoder"
    )
    tokenizer().save_pretrained(folder / "tokenizer")
    cascade_scheduler().save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"max_tokens": 225}))


@pytest.mark.slow
def test_the_full_size_adapter_is_counted_on_the_meta_device(tmp_path: Path) -> None:
    configurations(tmp_path)
    text = summary(read_recipe(RECIPE, [f"model.cascade={tmp_path}"]))
    (line,) = (line for line in text.splitlines() if "of them learn" in line)
    # By block of width D: q, k, v and out of self-attention, q and out of cross-attention, and its
    # k and v, which read T5. Down, middle and up there are 10 blocks of 640 and 60 of 1280.
    wanted = sum(num * 16 * (14 * width + 2 * 4096) for num, width in ((10, 640), (60, 1280)))
    assert f"{wanted:,}" in line


def test_the_full_size_adapter_fits_a_small_gpu(tmp_path: Path) -> None:
    configurations(tmp_path)
    xxl = T5Config(
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    xxl.save_pretrained(tmp_path / "text_encoder")
    recipe = read_recipe(RECIPE, [f"model.cascade={tmp_path}"])
    with torch.device("meta"):
        weights = count_weights(recipe, networks_of(recipe, tokenizer()))
    # Kept in bfloat16: 2.9 and 4.8 billion weights; the adapter takes 20 bytes a number.
    assert 14.5 < weights.bytes_per_device(1) / 2**30 < 16
    # Several processes keep them in float32 and share them out.
    assert 14.5 < weights.bytes_per_device(2) / 2**30 < 16
