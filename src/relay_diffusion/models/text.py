"""Prompts to token ids to text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def tokenize(tokenizer: Any, prompts: Sequence[str], max_length: int) -> Tensor:
    """Token ids (B, max_length) int64, cut at ``max_length`` and padded with the pad token."""
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    return tokens.input_ids


def encode_text(text_encoder: Any, input_ids: Tensor) -> Tensor:
    """Text embeddings (B, L, D) float32 of token ids (B, L).

    There is no attention mask: the released CogView3 networks were trained on padded prompts whose
    padding is attended to.
    """
    return text_encoder(input_ids).last_hidden_state.float()
