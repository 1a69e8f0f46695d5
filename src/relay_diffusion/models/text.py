"""Prompts to text embeddings, as the released networks were trained: padded, and no mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def tokenize(tokenizer: Any, prompts: Sequence[str], max_length: int) -> Tensor:
    """Token ids of prompts, cut or padded to one length.

    Args:
        tokenizer: of transformers, with a padding token.
        max_length: L, with the end token; 225 for CogView3.
    Returns: (B, L) int64.
    """
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def encode_text(text_encoder: Any, input_ids: Tensor) -> Tensor:
    """Text embeddings. Padding is attended to like any word: CogView3 gives T5 no mask.

    Args:
        text_encoder: a ``T5EncoderModel``.
        input_ids: (B, L) int64.
    Returns: (B, L, D), float32.
    """
    context: Tensor = text_encoder(input_ids=input_ids).last_hidden_state
    return context.float()


def knows_whole_words(tokenizer: Any) -> bool:
    """Whether it has one token for each word it knows, and takes all others for one and the same,
    as the scene world's does; others spell unseen words out of parts."""
    from tokenizers.models import WordLevel

    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and isinstance(backend.model, WordLevel)
