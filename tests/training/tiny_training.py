"""A world of coloured squares and networks of a few thousand weights, for the tests of training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from relay_diffusion.data.batch import PictureBatch
from relay_diffusion.data.view import View
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.loop import train
from relay_diffusion.training.networks import (
    build_text_encoder,
    build_unet,
    build_vae,
    save_half,
)
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe, recipe_from_dict

CPU = torch.device("cpu")
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}

VAE = {
    "class": "AutoencoderDC",
    "latent_channels": 4,
    "encoder_block_out_channels": [8, 16, 16, 16],
    "decoder_block_out_channels": [8, 16, 16, 16],
    "encoder_layers_per_block": [0, 1, 1, 1],
    "decoder_layers_per_block": [0, 1, 1, 1],
    "encoder_qkv_multiscales": [[], [], [], []],
    "decoder_qkv_multiscales": [[], [], [], []],
}
KL_VAE = {
    "class": "AutoencoderKL",
    "latent_channels": 4,
    "block_out_channels": [4, 4, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
TEXT_ENCODER = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
UNET = {
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "layers_per_block": 1,
    "attention_head_dim": [2, 4],
    "norm_num_groups": 4,
    "addition_time_embed_dim": 8,
}


def pass_of(unet: Any) -> Tensor:
    """Of noise through a network of ``UNET``, with text 16 wide."""
    added = {"text_embeds": torch.zeros(2, 0), "time_ids": torch.zeros(2, 6)}
    z, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16)
    prediction: Tensor = unet(z, torch.tensor([3, 4]), text, added_cond_kwargs=added).sample
    return prediction


@dataclass(frozen=True)
class Squares:
    """Pictures of one coloured square on grey; a function of (split, step), as is asked."""

    split: str
    views: Sequence[View]

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> PictureBatch:
        side = self.views[0].side
        pictures, captions = [], []
        for row in range(batch_size) if rows is None else rows:
            draw = random.Random(f"{self.split} {step * batch_size + row}")
            colour = draw.choice(sorted(COLOURS))
            x = torch.zeros(3, side, side)
            top, left = draw.randrange(side // 2), draw.randrange(side // 2)
            x[:, top : top + side // 2, left : left + side // 2] = torch.tensor(
                COLOURS[colour], dtype=torch.float32
            )[:, None, None]
            pictures.append(x)
            captions.append(f"a {colour} square")
        time_ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
        return PictureBatch(torch.stack(pictures), captions, time_ids.expand(len(captions), 6))


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "a", "square", *sorted(COLOURS)])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", model_max_length=8
    )


def tiny_recipe(kind: str, out: Path, **changes: dict[str, Any]) -> Recipe:
    """A recipe for objective ``kind``; ``changes`` are tables laid over it."""
    tables: dict[str, dict[str, Any]] = {
        "run": {"name": kind, "objective": kind, "steps": 4, "out": str(out), "log_every": 1},
        "data": {"batch_size": 4, "views": [{"size": 32}]},
        "model": {"vae": VAE},
        "optimizer": {"lr": 1e-3, "warmup": 2, "schedule": "constant"},
        "validation": {"every": 0, "num_pictures": 4},
        "preview": {"every": 0, "num_pictures": 2},
        "checkpoint": {"every": 2},
    }
    if kind == "autoencoder":
        tables["validation"]["sizes"] = [32]
    else:
        tables["preview"]["num_steps"] = 2
        tables["model"] |= {"text_encoder": TEXT_ENCODER, "unet": UNET, "max_tokens": 8}
    if kind == "concat":
        tables["model"]["unet"] = {**UNET, "in_channels": 8}
    for name, change in changes.items():
        tables[name] = tables.get(name, {}) | change
    return recipe_from_dict(tables)


def write_cascade(folder: Path, **index: Any) -> Path:
    """A cascade with random weights; ``index`` lies over its ``model_index.json``."""
    torch.manual_seed(0)
    parts = {
        "vae": build_vae(VAE),
        "text_encoder": build_text_encoder(TEXT_ENCODER, 8),
        "base_unet": build_unet(UNET, 4, 16),
        "relay_unet": build_unet(UNET, 4, 16),
    }
    folder.mkdir(exist_ok=True)
    for name, module in parts.items():
        save_half(module, folder / name)
    tokenizer().save_pretrained(folder / "tokenizer")
    cascade_scheduler("v_prediction").save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"max_tokens": 8, **index}))
    return folder


def tiny_objective(recipe: Recipe) -> Objective:
    return objective_of(recipe, networks_of(recipe, tokenizer()), Squares, CPU)


def newest_state(recipe: Recipe) -> dict[str, Tensor]:
    """All tensors of the newest checkpoint of a run in one process."""
    checkpoints = Checkpoints(recipe.folder / "checkpoints", keep=2)
    (file,) = checkpoints.path(checkpoints.steps()[-1]).glob("*.safetensors")
    return load_file(file)


def train_tiny(recipe: Recipe, resume: bool = False) -> bool:
    return train(recipe, tiny_objective(recipe), CPU, resume)


def lines(recipe: Recipe) -> list[dict[str, Any]]:
    """Of the log of a run."""
    return [json.loads(line) for line in (recipe.folder / "log.jsonl").read_text().splitlines()]
