"""Hashes of what a network or a tokenizer computes, whatever its files look like.

A cache of latents is good for one autoencoder. The hash says which, and does not change when a
library saves the same weights again, with another comment in the configuration or cut into files.
Of a network that is stored as a difference (``models/low_rank.py``) it is of that difference: saved
whole, it is another.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from relay_diffusion.errors import RelayError

NOT_CONTENT = ("architectures", "dtype", "torch_dtype", "transformers_version")
"""Keys of a configuration that change nothing, as do those with an underscore in front."""


LOW_RANK_FILE = "low_rank.safetensors"
"""In a network's folder, in the place of its weights: its difference from another."""


def weight_files(folder: Path) -> list[Path]:
    """The files with a network's weights; its difference from another one, if it has no others."""
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if file.name != LOW_RANK_FILE] or files


def network_hash(folder: Path) -> str:
    """SHA-256 of the configuration and of all tensors, by name, in the precision they are stored
    in. They are mapped from the file, never all in memory.

    Args: folder: in the layout of diffusers or transformers, with ``.safetensors``.
    Raises: RelayError if it holds no such network.
    """
    total = hashlib.sha256()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        content = {
            key: value
            for key, value in config.items()
            if not key.startswith("_") and key not in NOT_CONTENT
        }
        total.update(json.dumps(content, sort_keys=True).encode())
        names: dict[str, Path] = {}
        for file in weight_files(folder):
            with safe_open(file, framework="pt") as weights:
                names |= dict.fromkeys(weights.keys(), file)
        if not names:
            raise RelayError(f"{folder} holds no .safetensors with the weights of a network")
        for name in sorted(names):
            with safe_open(names[name], framework="pt") as weights:
                tensor = weights.get_tensor(name).contiguous()
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.flatten().view(torch.uint8).numpy())
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        if isinstance(error, RelayError):
            raise
        raise RelayError(f"{folder} holds no network with its weights: {error}") from error
    return total.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer of transformers: its vocabulary and rules and what it pads with, but
    not the length that it was last asked for.

    Raises: RelayError if it is none of the tokenizers library.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise RelayError("the tokenizer has no tokenizer.json: save it with one, as transformers 5")
    content = json.loads(backend.to_str())
    for asked in ("truncation", "padding"):
        content.pop(asked, None)
    text = json.dumps([content, tokenizer.pad_token_id], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
