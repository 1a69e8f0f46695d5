"""Opening a cascade as the commands do: on a device, quietly, in little memory if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import max_tokens_of, part_folder, read_index
from relay_diffusion.models.lora import Adapter
from relay_diffusion.models.quiet import quiet_libraries
from relay_diffusion.models.registry import resolve
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.folder import check_cascade_folder
from relay_diffusion.pipelines.prompting import NO_TOKENIZER
from relay_diffusion.pipelines.prompts import expand_prompt, open_expander

BARS: dict[str, Any] = {"leave": False, "disable": None}
"""Progress bars that go when they are done, and only appear on a terminal."""


Scaled = Sequence[tuple[Adapter, float]]
"""Adapters, each with its scale."""


def open_cascade(
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    low_memory: bool = False,
    adapters: Scaled = (),
    **parts: Any,
) -> RelayPipeline:
    """A cascade, ready to be called.

    Args:
        dtype: of the UNets and the text encoder.
        low_memory: keep one network at a time on an accelerator, run the VAE in tiles.
        adapters: to be put into its UNets.
        parts: those not to be opened, as None.
    """
    quiet_libraries()
    pipe = RelayPipeline.from_pretrained(model, dtype=dtype, **parts)
    pipe.set_progress_bar_config(**BARS)
    for index, (adapter, scale) in enumerate(adapters):
        pipe.load_lora_adapter(adapter, scale, f"adapter_{index}")
    if low_memory:
        pipe.enable_low_memory(device)
    else:
        pipe.to(device)
    return pipe


def open_with_texts(
    prompts: Sequence[str],
    negative_prompt: str | None,
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    low_memory: bool,
    adapters: Scaled = (),
) -> tuple[RelayPipeline, Iterator[tuple[Tensor, Tensor]]]:
    """A cascade and the embeddings of each prompt and its negative prompt, (1, L, D), in order.

    In little memory the text encoder is opened alone, read with, and closed before the rest is
    opened. Prompts are encoded one by one, so that no picture depends on the other prompts.
    """
    if not low_memory:
        pipe = open_cascade(model, device, dtype, adapters=adapters)
        return pipe, (pipe.encode_prompt(prompt, negative_prompt) for prompt in prompts)
    reader = open_cascade(model, device, dtype, vae=None, base_unet=None, relay_unet=None)
    texts = [reader.encode_prompt(prompt, negative_prompt) for prompt in prompts]
    del reader
    if device.type == "cuda":
        torch.cuda.empty_cache()
    pipe = open_cascade(
        model, device, dtype, low_memory, adapters, text_encoder=None, tokenizer=None
    )
    return pipe, iter(texts)


def open_expansion(
    model: str, choice: bool | str, expander_model: str | None = None, device: str = "auto"
) -> Callable[[str, int], str]:
    """How prompts are expanded for a cascade, by prompt and seed.

    Of the cascade only the tokenizer is opened: a language model that expands is gone from memory
    again before the networks come.

    Args:
        choice, expander_model, device: as ``open_expander`` takes them.
    Raises: RelayError as ``check_cascade_folder`` and ``open_expander``, and without a tokenizer.
    """
    folder = resolve(model)
    check_cascade_folder(folder)
    config = read_index(folder)
    if config["tokenizer"][0] is None:
        raise RelayError(NO_TOKENIZER)
    expander = open_expander(choice, config, expander_model, device)
    tokenizer = AutoTokenizer.from_pretrained(part_folder(folder, "tokenizer"))
    max_tokens = max_tokens_of(config)

    def expand(prompt: str, seed: int) -> str:
        if expander is None:
            return prompt
        return expand_prompt(expander, prompt, seed, tokenizer, max_tokens)

    return expand
