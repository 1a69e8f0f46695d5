"""The text half of a cascade: prompts are expanded and encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.models.guidance import has_guidance
from relay_diffusion.pipelines.notices import warn_once
from relay_diffusion.pipelines.prompting import (
    NO_TOKENIZER,
    as_list,
    check_copies,
    check_embeds,
    encode_prompts,
    remarks_on,
)
from relay_diffusion.pipelines.prompts import Expander, expand_prompt, open_expander
from relay_diffusion.pipelines.prompts.cache import Cached


class PromptEncoding(DiffusionPipeline):
    """What ``RelayPipeline`` does with text, given a text encoder, a tokenizer and the settings of
    ``CascadeComponents``."""

    def __init__(self) -> None:
        super().__init__()
        self._expanders: dict[tuple[str, ...], Expander] = {}

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Text embeddings of both guidance halves, (num prompts * num_images_per_prompt, L, D).

        The text encoder is not needed after it: encode, set ``pipe.text_encoder = None``, and give
        ``prompt_embeds`` and ``negative_prompt_embeds`` to the call.
        """
        check_copies(num_images_per_prompt)
        device = self._execution_device  # looks through every module: not to be asked often
        if prompt is not None and prompt_embeds is None:
            prompt_embeds = self._encode(as_list(prompt), device, "prompt")
        elif prompt is not None or prompt_embeds is None:
            raise RelayError("give a prompt or prompt_embeds, one of the two")
        else:
            check_embeds(prompt_embeds, self.text_width, "prompt_embeds")
        if negative_prompt_embeds is not None:
            check_embeds(negative_prompt_embeds, self.text_width, "negative_prompt_embeds")
        elif negative_prompt is not None:
            negative = as_list(negative_prompt, len(prompt_embeds), "negative prompt")
            negative_prompt_embeds = self._encode(negative, device, "negative prompt")
        else:
            negative_prompt_embeds = torch.zeros_like(prompt_embeds)
        if negative_prompt_embeds.shape != prompt_embeds.shape:
            raise RelayError(
                f"negative_prompt_embeds have shape {tuple(negative_prompt_embeds.shape)}, "
                f"prompt_embeds {tuple(prompt_embeds.shape)}; they must be alike"
            )
        prompt_embeds, negative_prompt_embeds = (
            half.to(device, torch.float32).repeat_interleave(num_images_per_prompt, 0)
            for half in (prompt_embeds, negative_prompt_embeds)
        )
        return prompt_embeds, negative_prompt_embeds

    def _encode(
        self,
        prompts: list[str],
        device: torch.device,
        kind: Literal["prompt", "negative prompt"],
    ) -> Tensor:
        if self.text_encoder is None:
            raise RelayError("this cascade was opened without its text encoder: give prompt_embeds")
        if self.tokenizer is None:
            raise RelayError(NO_TOKENIZER)
        max_tokens, known_words = self.config.max_tokens, self.config.known_words
        unets = [unet for unet in (self.base_unet, self.relay_unet) if unet is not None]
        adapted = any(getattr(unet, "peft_config", None) for unet in unets)
        # Of a negative prompt that no network reads, only that is said (run.py).
        read = kind == "prompt" or not unets or not all(map(has_guidance, unets))
        for prompt in prompts if read else ():
            for line in remarks_on(prompt, self.tokenizer, max_tokens, known_words, kind, adapted):
                warn_once(line)
        texts = list(dict.fromkeys(prompts))  # a negative prompt, say, is that of all pictures
        embeds = encode_prompts(self.text_encoder, self.tokenizer, texts, max_tokens, device)
        return embeds[[texts.index(prompt) for prompt in prompts]]

    def expander_for(
        self, expand: bool | str | Expander | None, model: str | None = None
    ) -> Expander | None:
        """The expander that was chosen, as ``prompts.open_expander`` opens it; one with a language
        model is the same object each time, so that the model is loaded once.

        Raises: RelayError if there is no such expander.
        """
        opened = open_expander(expand, self.config, model, str(self._execution_device))
        if isinstance(opened, Cached):
            return self._expanders.setdefault(opened.key, opened)
        return opened

    def expand_prompts(
        self, prompts: Sequence[str], expand: bool | str | Expander, seeds: Sequence[int]
    ) -> list[str]:
        """The long form of each prompt by its seed, or the prompt where there is none to be had.

        Raises: RelayError if there is no such expander.
        """
        expander = self.expander_for(expand)
        if expander is None:
            return list(prompts)
        if self.tokenizer is None:
            raise RelayError(NO_TOKENIZER)
        return [
            expand_prompt(expander, prompt, seed, self.tokenizer, self.config.max_tokens)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def no_text(self, num: int) -> tuple[Tensor, Tensor]:
        """The embeddings of no text, for both guidance halves: zeros, (num, L, D)."""
        shape = (num, self.config.max_tokens, self.text_width or 0)
        zeros = torch.zeros(shape, device=self._execution_device)
        return zeros, zeros

    @property
    def text_width(self) -> int | None:
        """D, numbers of a token that the networks take; None if none is there to say."""
        unet = self.relay_unet if self.relay_unet is not None else self.base_unet
        return None if unet is None else int(unet.config.cross_attention_dim)
