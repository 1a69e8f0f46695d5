"""From prompts to the text conditioning of both guidance halves, and what to tell about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relay_diffusion.data.scenes.words import unknown_words
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, knows_whole_words, tokenize
from relay_diffusion.pipelines.notices import quoted
from relay_diffusion.pipelines.settings import check_number

NEGATIVE_ALONE = "a negative prompt goes with a prompt: say what the picture shows, too"
NO_TOKENIZER = (
    "this cascade has no tokenizer, or was opened without it: convert it again with relay convert "
    "--tokenizer FOLDER, or give prompt_embeds in Python"
)


def as_list(
    prompt: str | Sequence[str],
    num: int | None = None,
    kind: str = "prompt",
    each: str = "prompts",
) -> list[str]:
    """One prompt per picture; a single one stands for all ``num``.

    Args:
        kind, each: for messages: what they are, and what there are ``num`` of.
    Raises: RelayError if something in it is no text, or a list has another length than ``num``.
    """
    if isinstance(prompt, str):
        return [prompt] * (num or 1)
    prompts = list(prompt) if isinstance(prompt, Iterable) else [prompt]
    wrong = next((p for p in prompts if not isinstance(p, str)), None)
    if wrong is not None:
        raise RelayError(f"a {kind} of type {type(wrong).__name__}; give text, or a list of texts")
    if not prompts:
        raise RelayError(f"an empty list of {kind}s; give text, or a list of texts")
    if num is not None and len(prompts) != num:
        raise RelayError(f"{len(prompts)} {kind}s for {num} {each}; give one, or as many")
    return prompts


def check_embeds(embeds: Any, width: int | None, name: str) -> None:
    """Raise RelayError for text embeddings that are not of shape (num, L, ``width``).

    Args:
        width: D of the networks, None if none is there to say.
    """
    if not isinstance(embeds, Tensor):
        raise RelayError(f"{name} of type {type(embeds).__name__}; give a tensor (num, L, D)")
    if embeds.ndim != 3 or 0 in embeds.shape or width not in (None, embeds.shape[2]):
        raise RelayError(
            f"{name} of shape {tuple(embeds.shape)}; this cascade takes (num, L, {width or 'D'}): "
            "prompts, tokens, numbers of a token"
        )


def check_copies(num_images_per_prompt: int) -> None:
    """Raise RelayError for a number of pictures of one prompt that is none."""
    check_number("num_images_per_prompt", num_images_per_prompt, Integral)
    if num_images_per_prompt < 1:
        raise RelayError(f"num_images_per_prompt {num_images_per_prompt}; give 1 or more")


def for_each(prompts: Any, num_images_per_prompt: int) -> Any:
    """What stands for each prompt, a list or a tensor, repeated to stand for each picture."""
    if isinstance(prompts, Tensor):
        return prompts.repeat_interleave(num_images_per_prompt, 0)
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
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
    prompt: str,
    tokenizer: Any,
    max_tokens: int,
    known_words: Sequence[str] | None,
    kind: Literal["prompt", "negative prompt"] = "prompt",
    adapted: bool = False,
) -> Iterator[str]:
    """What the user should know about a prompt, one line each: it is empty (as a negative one may
    be), which end of it is not read, which words the cascade has never seen.

    Args: adapted: whether adapters act in it, whose words are not known.
    """
    if not prompt.strip():
        if kind == "prompt":
            yield "the prompt is empty: the picture shows whatever the networks like"
        return
    cut = _unread(prompt, tokenizer, max_tokens - tokenizer.num_special_tokens_to_add())
    if cut:
        yield f"the {kind} is longer than {max_tokens} tokens: its end is not read: {quoted(cut)}"
    if known_words is None and not knows_whole_words(tokenizer):
        return  # it spells unseen words out of parts
    unknown = unknown_words(prompt, tokenizer, set(known_words) if known_words else None)
    if unknown:
        named = [
            quoted(word) + (f" (it knows {nearest!r})" if nearest else "")
            for word, nearest in unknown
        ]
        yield (
            f"this cascade has never seen, in the {kind}: {', '.join(named)}"
            + (", unless an adapter taught it" if adapted else "")
        )


def _unread(prompt: str, tokenizer: Any, room: int) -> str:
    """The end of a prompt that is beyond its first ``room`` tokens, as it was typed."""
    tokens = tokenizer(
        prompt,
        add_special_tokens=False,
        return_offsets_mapping=tokenizer.is_fast,  # the slow ones do not know where a token stood
        verbose=False,
    )
    if len(tokens.input_ids) <= room:
        return ""
    if not tokenizer.is_fast:
        return str(tokenizer.decode(tokens.input_ids[room:]))
    return prompt[tokens.offset_mapping[room][0] :]
