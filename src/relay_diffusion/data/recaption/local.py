"""Captions by a vision-language model on this machine, through ``transformers``."""

from __future__ import annotations

import asyncio
from typing import Any

from relay_diffusion.data.recaption.answers import Unusable
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError


class LocalWriter:
    """Asks an ``image-text-to-text`` model with a chat template, one picture at a time.

    Args:
        model: a folder or a hub id.
        device: a ``torch.device``.
        dtype: a ``torch.dtype``.
        max_tokens: of an answer; a longer one is cut off, and refused.
    """

    def __init__(self, model: str, device: Any, dtype: Any, max_tokens: int) -> None:
        self.model, self.max_tokens = model, max_tokens
        self._device, self._dtype = device, dtype
        self._pipeline: Any = None

    async def check(self) -> None:
        """Opens the model."""
        from transformers import pipeline

        try:
            self._pipeline = pipeline(
                "image-text-to-text", model=self.model, device=self._device, dtype=self._dtype
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RelayError(f"{self.model} cannot be opened: {first}") from error
        if getattr(self._pipeline.processor, "chat_template", None) is None:
            raise RelayError(f"{self.model} cannot be told what to write: it has no chat template")

    async def write(self, request: Request) -> Answer:
        return await asyncio.to_thread(self._write, request)

    async def close(self) -> None: ...

    def _write(self, request: Request) -> Answer:
        content = request.content({"type": "image", "image": request.picture})
        try:
            (made,) = self._pipeline(
                text=[{"role": "user", "content": content}],
                max_new_tokens=self.max_tokens,
                return_full_text=False,
            )
        except (RuntimeError, ValueError) as error:  # out of memory, or a picture that it rejects
            raise Unusable("no answer", f"{type(error).__name__}: {error}"[:200]) from error
        text = made["generated_text"]
        num_tokens = len(self._pipeline.tokenizer(text, add_special_tokens=False).input_ids)
        return Answer(text, 0, num_tokens, "cut off" if num_tokens >= self.max_tokens else "")
