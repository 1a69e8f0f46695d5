"""From prompts to the text conditioning of both guidance halves, and what to tell about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers.models import WordLevel
from torch import Tensor, nn

from relay_diffusion.data.scenes.words import unknown_words
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize


def as_list(prompt: str | Sequence[str], num: int | None = None) -> list[str]:
    """One prompt per picture; a single one stands for all ``num``.

    Raises: RelayError if something in it is no text, or a list has another length than ``num``.
    """
    prompts = [prompt] * (num or 1) if isinstance(prompt, str) else list(prompt)
    wrong = next((p for p in prompts if not isinstance(p, str)), None)
    if wrong is not None:
        raise RelayError(f"a prompt of type {type(wrong).__name__}; give text, or a list of texts")
    if not prompts or (num is not None and len(prompts) != num):
        raise RelayError(f"{len(prompts)} negative prompts for {num} prompts; give one, or as many")
    return prompts


def for_each(prompts: Any, num_images_per_prompt: int) -> Any:
    """What stands for each prompt, a list or a tensor, repeated to stand for each picture."""
    if isinstance(prompts, Tensor):
        return prompts.repeat_interleave(num_images_per_prompt, 0)
    if prompts is None or isinstance(prompts, str):
        return prompts
    return [one for one in prompts for _ in range(num_images_per_prompt)]


def encode_prompts(
    text_encoder: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    max_tokens: int,
    device: torch.device,
) -> Tensor:
    """Text embeddings, (B, L, D) float32, all zero where a prompt is empty.

    Zero is what the networks were trained on where there is no text (docs/math.md, The two
    stages); they have never seen the embedding of an empty prompt.
    """
    input_ids = tokenize(tokenizer, list(prompts), max_tokens).to(device)
    embeds = encode_text(text_encoder, input_ids)
    written = torch.tensor([bool(p.strip()) for p in prompts], device=embeds.device)
    return torch.where(written[:, None, None], embeds, 0.0)


def remarks_on(
    prompt: str, tokenizer: Any, max_tokens: int, known_words: Sequence[str] | None
) -> Iterator[str]:
    """What the user should know about a prompt, one line each: it is empty, which end of it is not
    read, which words the cascade has never seen."""
    if not prompt.strip():
        yield "the prompt is empty: the picture shows whatever the networks like"
        return
    specials = tokenizer.num_special_tokens_to_add()
    input_ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    if len(input_ids) > max_tokens - specials:
        cut = tokenizer.decode(input_ids[max_tokens - specials :]).strip()
        yield f"the prompt is longer than {max_tokens} tokens: its end is not read: {cut!r}"
    if known_words is None and not _knows_whole_words(tokenizer):
        return  # it spells unseen words out of parts
    for word, nearest in unknown_words(
        prompt, tokenizer, set(known_words) if known_words else None
    ):
        yield f"this cascade has never seen the word {word!r}, the nearest it knows is {nearest!r}"


def _knows_whole_words(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and isinstance(backend.model, WordLevel)
