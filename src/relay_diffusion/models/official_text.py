"""A T5 encoder and its tokenizer from a folder of transformers, complete or not opened at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.checkpoint import logger, prefixes, read_tensors
from relay_diffusion.models.fitting import fit

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PARTS = ("shared.", "encoder.")


def text_encoder_from_folder(folder: str | Path) -> T5EncoderModel:
    """Open the encoder half of a T5, from safetensors or from torch files, sharded or not.

    transformers would fill what is missing with random numbers; here it is an error. The weights
    keep their dtype and stay mapped from the files; a decoder is left aside and logged.

    Raises: RelayError as ``unet_from_official``.
    """
    folder = Path(folder)
    config = _read_config(folder)
    tensors: dict[str, Any] = {}
    for file in _weight_files(folder):
        tensors.update(read_tensors(file))
    others = prefixes(name for name in tensors if not name.startswith(PARTS))
    if others:
        logger.warning("%s: left aside %s", folder, others)
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(PARTS)}
    # One matrix under two names, either or both of which may be stored.
    embedding = tensors.pop("encoder.embed_tokens.weight", None)
    if embedding is not None:
        tensors.setdefault("shared.weight", embedding)
    with torch.device("meta"):
        encoder = T5EncoderModel(config)
    names = {key: key for key in encoder.state_dict()}
    names["encoder.embed_tokens.weight"] = "shared.weight"
    fit(encoder, tensors, names, folder)
    encoder.tie_weights()
    return encoder


def tokenizer_from_folder(folder: str | Path) -> Any | None:
    """The tokenizer in a folder, None if there is none.

    Raises: RelayError if it cannot be opened.
    """
    folder = Path(folder)
    has_fast = (folder / "tokenizer.json").is_file()
    if not has_fast and not (folder / "spiece.model").is_file():
        return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # of many kinds, some from Rust
        first = first_line(error)
        raise RelayError(f"the tokenizer in {folder} cannot be opened: {first}") from error


def _read_config(folder: Path) -> T5Config:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RelayError(f"{folder} is no T5 folder: config.json is missing") from None
    except (OSError, ValueError) as error:
        raise RelayError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") not in ("t5", None):
        raise RelayError(f"{folder / 'config.json'} is of no T5; CogView3's text encoder is one")
    return T5Config.from_dict(config)


def _weight_files(folder: Path) -> list[Path]:
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError) as error:
                raise RelayError(f"{index} is damaged: {error}") from error
            return sorted(folder / shard for shard in shards)
        if (folder / name).is_file():
            return [folder / name]
    raise RelayError(f"{folder} is no T5 folder: {' or '.join(WEIGHTS)} is missing")
