"""Captions by a vision-language model on this machine, through ``transformers``."""

from __future__ import annotations

import asyncio
from typing import Any

from relay_diffusion.data.recaption.answers import Unusable
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError, first_line


class LocalWriter:
    """Asks an ``image-text-to-text`` model with a chat template, one picture at a time, with the
    sampling defaults that the model comes with.

    Not by the pipeline of that name: it does not say how many tokens were read and written.

    Args:
        model: a folder or a hub id.
        device: a ``torch.device``.
        dtype: a ``torch.dtype``.
        max_tokens: of an answer; a longer one is cut off, and refused.
    """

    def __init__(self, model: str, device: Any, dtype: Any, max_tokens: int) -> None:
        self.model, self.max_tokens, self.tries = model, max_tokens, 1
        self._device, self._dtype = device, dtype
        self._processor: Any = None
        self._network: Any = None
        self._closed = False

    async def check(self) -> None:
        """Opens the model."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self._processor = AutoProcessor.from_pretrained(self.model)
            network = AutoModelForImageTextToText.from_pretrained(self.model, dtype=self._dtype)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            first = first_line(error)
            raise RelayError(f"{self.model} cannot be opened: {first}") from error
        if getattr(self._processor, "chat_template", None) is None:
            raise RelayError(f"{self.model} cannot be told what to write: it has no chat template")
        self._network = network.to(self._device).eval()

    async def write(self, request: Request, tries: int | None = None) -> Answer:
        return await asyncio.to_thread(self._write, request)

    async def close(self) -> None:
        """Ends what is being written, at its next token: its thread cannot be cancelled."""
        self._closed = True

    def _write(self, request: Request) -> Answer:
        import torch

        content = request.content({"type": "image", "image": request.picture})
        try:
            told = self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(self._device, dtype=self._dtype)
            with torch.no_grad():
                out = self._network.generate(
                    **told, max_new_tokens=self.max_tokens, stopping_criteria=[self._is_closed]
                )
        except (RuntimeError, ValueError) as error:  # out of memory, or a picture it does not take
            raise Unusable("no answer", f"{type(error).__name__}: {error}"[:200]) from error
        num_read = told["input_ids"].shape[1]
        written = out[0, num_read:]
        ends = self._network.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        whole = len(written) < self.max_tokens or int(written[-1]) in ends
        text = self._processor.decode(written, skip_special_tokens=True)
        return Answer(text, num_read, len(written), "" if whole else "cut off")

    def _is_closed(self, ids: Any, *_: Any, **__: Any) -> Any:
        """As ``transformers`` has its criteria: of each sequence."""
        import torch

        return torch.full((len(ids),), self._closed, device=ids.device)
