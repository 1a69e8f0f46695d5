"""The text objective: telling pictures apart by their captions, before there are pictures.

A text encoder that starts from nothing beside a UNet learns what changes many pixels (the
background) and for a long time nothing else: its padding positions, most of what the UNet attends
to, come to carry the background alone (docs/log.md). So it is first taught, on captions only, that
two captions of one picture say the same thing and captions of two pictures do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training import distributed
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Source
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import TextRecipe


def text(
    recipe: TextRecipe,
    text_encoder: nn.Module,
    tokenizer: Any,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train ``text_encoder`` on pairs of captions.

    Raises: RelayError if the batch is to be split: every sample is measured against all others.
    """
    if recipe.optimizer.accumulate > 1:
        raise RelayError("optimizer.accumulate must be 1: the text objective needs whole batches")
    distributed.insist_on_one("the text objective")
    size = recipe.data.batch_size
    streams = {split: source(split, recipe.data.views) for split in ("train", "held-out")}

    def pairs(split: str, step: int) -> Batch:
        captions = zip(*streams[split].caption_pairs(step, size), strict=True)
        ids = [tokenize(tokenizer, side, recipe.model.max_tokens).to(device) for side in captions]
        return {"first": ids[0], "second": ids[1]}

    def loss(batch: Batch, draws: Draws) -> Tensor:
        similarity = _similarity(text_encoder, batch)
        return contrastive_loss(similarity, recipe.objective.temperature)

    def validate() -> dict[str, float]:
        batches = -(-recipe.validation.num_pictures // size)
        similarity = [_similarity(text_encoder, pairs("held-out", i)) for i in range(batches)]
        losses = [contrastive_loss(s, recipe.objective.temperature) for s in similarity]
        right = [s.argmax(1) == torch.arange(len(s), device=s.device) for s in similarity]
        return {
            "loss": float(torch.cat(losses).mean()),
            "retrieval": float(torch.cat(right).float().mean()),
        }

    def export(folder: Path) -> None:
        save_half(text_encoder, folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")

    return Objective(
        trained={"text_encoder": text_encoder},
        feed=lambda step: pairs("train", step),
        loss=loss,
        export=export,
        validate=validate,
    )


def contrastive_loss(similarity: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (CLIP, arXiv:2103.00020): which second caption is a first's, and back.

        loss_i = -1/2 [log softmax_j(s_ij / temperature)_i + log softmax_j(s_ji / temperature)_i]

    Args: similarity (B, B), cosines of first (rows) and second captions.
    Returns: (B,) float32.
    """
    logits = similarity.float() / temperature
    target = torch.arange(len(logits), device=logits.device)
    forth = F.cross_entropy(logits, target, reduction="none")
    return (forth + F.cross_entropy(logits.T, target, reduction="none")) / 2


def _similarity(text_encoder: nn.Module, batch: Batch) -> Tensor:
    """Cosines (B, B) of mean embeddings. The mean runs over all positions, padding too: a UNet
    attends to all of them, so what tells captions apart has to be in all of them."""
    first, second = (
        F.normalize(encode_text(text_encoder, batch[name]).mean(1), dim=1)
        for name in ("first", "second")
    )
    return first @ second.T
