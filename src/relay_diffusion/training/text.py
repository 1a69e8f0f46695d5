"""The text objective: a text encoder learns from captions alone, before there are pictures.

Of scenes it learns to say what a caption says (``reading``, training/reading.py), of pictures with
two captions each which two belong together (``contrast``). One that starts from nothing beside a
UNet learns what changes many pixels, the backgrounds, and for a long time nothing else
(docs/log.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training import distributed
from relay_diffusion.training.feed import Batch, Source, Split, Stream
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.reading import (
    CaptionProbe,
    Logits,
    count_read,
    facts_of,
    reading_loss,
)
from relay_diffusion.training.recipe import TextRecipe
from relay_diffusion.training.sources import Ahead


def text(
    recipe: TextRecipe,
    text_encoder: Any,
    tokenizer: Any,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train ``text_encoder`` by contrast of pairs of captions, by what they say of their scenes, or
    by both, as ``objective`` weighs them.

        loss_i = contrast_i + reading_i,    reading the mean over the two captions

    Raises: RelayError if the batch is to be split: every sample is measured against all others; and
        if there are no scenes to read of.
    """
    if recipe.optimizer.accumulate > 1:
        raise RelayError("optimizer.accumulate must be 1: the text objective needs whole batches")
    distributed.insist_on_one("the text objective")
    size, settings = recipe.data.batch_size, recipe.objective
    streams = {split: source(split, recipe.data.views) for split in get_args(Split)}
    trained: dict[str, nn.Module] = {"text_encoder": text_encoder}
    if settings.reading:
        scenes = {split: _scenes(stream) for split, stream in streams.items()}
        world = scenes["train"].world
        trained["probe"] = CaptionProbe(text_encoder.config.d_model, world).to(device)

    def tokens(captions: Sequence[str]) -> Tensor:
        return tokenize(tokenizer, captions, recipe.model.max_tokens).to(device)

    def pairs(split: Split, step: int) -> Batch:
        facts: Batch = {}
        captions: Sequence[tuple[str, str]]
        if settings.reading:
            shown, captions = zip(*scenes[split].captioned(step, size), strict=True)
            facts = {name: x.to(device) for name, x in facts_of(shown, world).items()}
        else:
            captions = streams[split].caption_pairs(step, size)
        first, second = zip(*captions, strict=True)
        return {"first": tokens(first), "second": tokens(second)} | facts

    def read(batch: Batch) -> tuple[Tensor, list[Logits], Tensor | None]:
        """Loss (B,); what is read of either caption, if anything is; their cosines (B, B), if they
        count."""
        ids = torch.stack([batch["first"], batch["second"]])
        contexts = encode_text(text_encoder, ids.flatten(0, 1)).unflatten(0, (2, -1))
        losses = contexts.new_zeros(size)
        similarity = _similarity(*contexts) if settings.contrast else None
        if similarity is not None:
            contrast = contrastive_loss(similarity, settings.temperature)
            losses = losses + settings.contrast * contrast
        logits = []
        if settings.reading:
            masks = ids != tokenizer.pad_token_id
            pair = zip(contexts, masks, strict=True)
            logits = [trained["probe"](context, mask) for context, mask in pair]
            each = [reading_loss(answers, batch) for answers in logits]
            losses = losses + settings.reading * (each[0] + each[1]) / 2
        return losses, logits, similarity

    def validate() -> dict[str, float]:
        right: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        loss = 0.0
        batches = -(-recipe.validation.num_pictures // size)
        for step in range(batches):
            batch = pairs("held-out", step)
            losses, logits, similarity = read(batch)
            loss += float(losses.mean()) / batches
            if similarity is not None:
                found = similarity.argmax(1) == torch.arange(size, device=device)
                right["retrieval"] += int(found.sum())
                asked["retrieval"] += size
            if logits:  # of the long caption, which leaves nothing out
                for name, (num_right, num_asked) in count_read(logits[1], batch).items():
                    right[name] += num_right
                    asked[name] += num_asked
        return {"loss": loss} | {name: right[name] / num for name, num in asked.items() if num}

    def export(folder: Path) -> None:
        save_half(text_encoder, folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")

    return Objective(
        trained=trained,
        feed=lambda step: pairs("train", step),
        loss=lambda batch, draws: read(batch)[0],
        export=export,
        validate=validate,
    )


def _scenes(stream: Stream) -> SceneStream:
    inner = stream.stream if isinstance(stream, Ahead) else stream
    if not isinstance(inner, SceneStream):
        raise RelayError(
            "objective.reading is for scenes, whose truth is known: for pictures set it to 0"
        )
    return inner


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


def _similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosines (B, B) of mean embeddings. The mean runs over all positions, padding too: a UNet
    attends to all of them, so what tells captions apart has to be in all of them.

    Args: both (B, L, D).
    """
    return F.normalize(first.mean(1), dim=1) @ F.normalize(second.mean(1), dim=1).T
