"""The cascade whose networks encode: where it is, what it is, and opening its parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.hashes import network_hash, tokenizer_hash
from relay_diffusion.models.registry import resolve


@dataclass(frozen=True)
class Encoders:
    """Hashes of what turned pictures and captions into numbers, see :mod:`models.hashes`.

    Attributes:
        max_tokens: length of a tokenized caption.
    """

    vae: str
    text_encoder: str
    tokenizer: str
    max_tokens: int


def read_encoders(folder: Path) -> Encoders:
    """Of the cascade in ``folder``. Raises: RelayError if a part is missing."""
    return Encoders(
        vae=network_hash(folder / "vae"),
        text_encoder=network_hash(folder / "text_encoder"),
        tokenizer=tokenizer_hash(open_tokenizer(folder)),
        max_tokens=int(_index(folder).get("max_tokens", 225)),
    )


def cascade_folder(model: str) -> tuple[Path, int]:
    """Folder of a cascade by name, and the side of its base stage's square.

    Raises: RelayError if it is none.
    """
    folder = resolve(model)
    return folder, int(_index(folder).get("base_size", 512))


def open_vae(folder: Path) -> Any:
    """In float32, to be used and not trained."""
    from diffusers import AutoModel

    _quietly()
    return AutoModel.from_pretrained(str(folder / "vae")).float().eval().requires_grad_(False)


def open_text_encoder(folder: Path, dtype: str) -> Any:
    import torch
    from transformers import T5EncoderModel

    _quietly()
    encoder = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=getattr(torch, dtype))
    return encoder.eval().requires_grad_(False)


def open_tokenizer(folder: Path) -> Any:
    """Raises: RelayError if there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RelayError(f"{folder / 'tokenizer'} holds no tokenizer: {first}") from error


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    try:
        index: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RelayError(f"{folder} is no cascade: {file.name} cannot be read: {error}") from error
    return index


def _quietly() -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
