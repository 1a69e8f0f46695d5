"""Expansion by a chat model on this machine, through ``transformers``."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.pipelines.prompts.answers import usable
from relay_diffusion.pipelines.prompts.expander import ExpansionError
from relay_diffusion.pipelines.prompts.instructions import (
    MAX_NEW_TOKENS,
    TEMPERATURE,
    TOP_P,
    messages,
)


class ChatModelExpander:
    """Asks a causal language model with a chat template, opened when the first prompt comes.

    Args:
        model: a folder or a hub id; None: ``RELAY_EXPAND_MODEL``.
        device: as ``pick_device`` takes it.
    Raises: RelayError if no model is named.
    """

    def __init__(self, model: str | None = None, device: str = "auto") -> None:
        wanted = model or os.environ.get("RELAY_EXPAND_MODEL")
        if not wanted:
            raise RelayError(
                "no model is named to expand prompts with: give --expander-model a folder or a "
                "hub id, or set RELAY_EXPAND_MODEL"
            )
        self.model: str = wanted
        self.device = device
        self._opened: tuple[Any, Any] | None = None

    @property
    def identity(self) -> str:
        """What its texts depend on: the name, and for a folder where it is and, by their sizes and
        times, its files; to read all weights would take longer than many an answer."""
        folder = Path(self.model)
        if not folder.is_dir():
            return self.model
        states = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
        files = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
        return f"{folder.resolve()} {sha256(repr(files).encode()).hexdigest()[:16]}"

    def expand(self, prompt: str, seed: int) -> str:
        import torch

        tokenizer, network = self._open()
        told = tokenizer.apply_chat_template(
            messages(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(network.device)
        devices = [network.device] if network.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            out = network.generate(
                **told,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )
        answer = out[0, told["input_ids"].shape[1] :]
        return usable(tokenizer.decode(answer, skip_special_tokens=True))

    def check(self) -> None:
        """Raise ExpansionError if the model is nowhere, or no chat model; no weights are read."""
        self._open_tokenizer()

    def _open_tokenizer(self) -> Any:
        from transformers import AutoConfig, AutoTokenizer

        try:
            AutoConfig.from_pretrained(self.model)
            tokenizer = AutoTokenizer.from_pretrained(self.model)
        except (OSError, ValueError, RuntimeError) as error:
            raise ExpansionError(f"{self.model} cannot be opened: {first_line(error)}") from error
        if tokenizer.chat_template is None:
            raise ExpansionError(f"{self.model} is no chat model: it has no chat template")
        return tokenizer

    def _open(self) -> tuple[Any, Any]:
        if self._opened is None:
            from transformers import AutoModelForCausalLM

            from relay_diffusion.pipelines.devices import pick_device, pick_dtype

            where = pick_device(self.device)
            tokenizer = self._open_tokenizer()
            try:
                network = AutoModelForCausalLM.from_pretrained(
                    self.model, dtype=pick_dtype("auto", where)
                )
            except (OSError, ValueError, RuntimeError) as error:
                first = first_line(error)
                raise ExpansionError(f"{self.model} cannot be opened: {first}") from error
            self._opened = tokenizer, network.to(where).eval()
        return self._opened
