"""The text objective: telling pictures apart by their captions, before there are pictures.

A text encoder that starts from nothing beside a UNet learns what changes many pixels (the
background) and for a long time nothing else: its padding positions, most of what the UNet attends
to, come to carry the background alone (docs/log.md). So it is first taught, on captions only, that
two captions of one picture say the same thing and captions of two pictures do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training import distributed
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Source, Split, Stream
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.reading import (
    CaptionReader,
    Logits,
    facts_of,
    reading_loss,
    share_read,
)
from relay_diffusion.training.recipe import TextRecipe
from relay_diffusion.training.sources import Ahead

SPLITS: tuple[Split, ...] = ("train", "held-out")


def text(
    recipe: TextRecipe,
    text_encoder: Any,
    tokenizer: Any,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train ``text_encoder`` on pairs of captions and, with ``objective.reading``, on what they say
    of their scenes.

    Raises: RelayError if the batch is to be split: every sample is measured against all others; and
        if there are no scenes to read of.
    """
    if recipe.optimizer.accumulate > 1:
        raise RelayError("optimizer.accumulate must be 1: the text objective needs whole batches")
    distributed.insist_on_one("the text objective")
    size = recipe.data.batch_size
    weight, temperature = recipe.objective.reading, recipe.objective.temperature
    streams = {split: source(split, recipe.data.views) for split in SPLITS}
    trained: dict[str, nn.Module] = {"text_encoder": text_encoder}
    learned = None
    if weight:
        width, padding = text_encoder.config.d_model, tokenizer.pad_token_id
        learned = _Reading(recipe, width, padding, streams, device)
        trained["reader"] = learned.reader

    def tokens(captions: Sequence[str]) -> Tensor:
        return tokenize(tokenizer, captions, recipe.model.max_tokens).to(device)

    def pairs(split: Split, step: int) -> Batch:
        facts: Batch = {}
        if learned is None:
            captions = streams[split].caption_pairs(step, size)
        else:
            captions, facts = learned.pairs(split, step, size)
        first, second = zip(*captions, strict=True)
        return {"first": tokens(first), "second": tokens(second)} | facts

    def contexts(batch: Batch) -> list[Tensor]:
        return [encode_text(text_encoder, batch[name]) for name in ("first", "second")]

    def loss(batch: Batch, draws: Draws) -> Tensor:
        pair = contexts(batch)
        losses = recipe.objective.contrast * contrastive_loss(_similarity(*pair), temperature)
        if learned is not None:
            losses = losses + weight * learned.loss(pair, batch) / 2
        return losses

    def validate() -> dict[str, float]:
        batches = -(-recipe.validation.num_pictures // size)
        figures: dict[str, list[float]] = defaultdict(list)
        for step in range(batches):
            batch = pairs("held-out", step)
            pair = contexts(batch)
            similarity = _similarity(*pair)
            right = similarity.argmax(1) == torch.arange(size, device=device)
            figures["loss"].append(float(contrastive_loss(similarity, temperature).mean()))
            figures["retrieval"].append(float(right.float().mean()))
            if learned is not None:
                # The long caption leaves nothing out.
                for name, share in learned.shares(pair[1], batch["second"], batch).items():
                    figures[name].append(share)
        return {name: sum(values) / batches for name, values in figures.items()}

    def export(folder: Path) -> None:
        save_half(text_encoder, folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")

    return Objective(
        trained=trained,
        feed=lambda step: pairs("train", step),
        loss=loss,
        export=export,
        validate=validate,
    )


class _Reading:
    """What captions say of their scenes, as a second loss on the same pairs."""

    def __init__(
        self,
        recipe: TextRecipe,
        width: int,
        padding: int,
        streams: Mapping[Split, Stream],
        device: torch.device,
    ) -> None:
        self.streams = {}
        for split, stream in streams.items():
            inner = stream.stream if isinstance(stream, Ahead) else stream
            if not isinstance(inner, SceneStream):
                raise RelayError(
                    "objective.reading is for scenes, whose truth is known: set 0 for pictures"
                )
            self.streams[split] = inner
        self.world = World.by_name(recipe.data.world)
        self.reader = CaptionReader(width, self.world).to(device)
        self.padding = padding
        self.device = device

    def pairs(self, split: Split, step: int, size: int) -> tuple[list[tuple[str, str]], Batch]:
        scenes, captions = zip(*self.streams[split].captioned(step, size), strict=True)
        facts = facts_of(scenes, self.world)
        return list(captions), {name: values.to(self.device) for name, values in facts.items()}

    def loss(self, pair: Sequence[Tensor], batch: Batch) -> Tensor:
        """Of both captions together, (B,)."""
        ids = (batch["first"], batch["second"])
        logits = [self._logits(*caption) for caption in zip(pair, ids, strict=True)]
        return reading_loss(logits[0], batch) + reading_loss(logits[1], batch)

    def shares(self, context: Tensor, ids: Tensor, facts: Batch) -> dict[str, float]:
        return share_read(self._logits(context, ids), facts)

    def _logits(self, context: Tensor, ids: Tensor) -> Logits:
        return self.reader(context, ids != self.padding)


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
