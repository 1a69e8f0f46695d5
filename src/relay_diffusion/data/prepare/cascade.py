"""The cascade whose networks encode: where it is, what it is, and opening its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.folder import PARTS, max_tokens_of, part_folder, read_index
from relay_diffusion.models.hashes import network_hash, tokenizer_hash
from relay_diffusion.models.quiet import quiet_libraries
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
        vae=network_hash(part_folder(folder, "vae")),
        text_encoder=network_hash(part_folder(folder, "text_encoder")),
        tokenizer=tokenizer_hash(open_tokenizer(folder)),
        max_tokens=max_tokens_of(read_index(folder)),
    )


def cascade_folder(model: str) -> tuple[Path, int]:
    """Folder of a cascade by name, and the side of its base stage's square.

    Raises: RelayError if it is none, or the networks that encode are not whole.
    """
    from relay_diffusion.models.stored import check_weights

    folder = resolve(model)
    check_weights(folder, without=frozenset(PARTS) - {"vae", "text_encoder"})
    return folder, int(read_index(folder).get("base_size", 512))


def open_vae(folder: Path) -> Any:
    """In float32, to be used and not trained."""
    from diffusers import AutoModel

    quiet_libraries()
    vae = AutoModel.from_pretrained(str(part_folder(folder, "vae")))
    return vae.float().eval().requires_grad_(False)


def open_text_encoder(folder: Path, dtype: str) -> Any:
    import torch
    from transformers import T5EncoderModel

    quiet_libraries()
    own = part_folder(folder, "text_encoder")
    encoder = T5EncoderModel.from_pretrained(own, dtype=getattr(torch, dtype))
    return encoder.eval().requires_grad_(False)


def open_tokenizer(folder: Path) -> Any:
    """Raises: RelayError if there is none."""
    from transformers import AutoTokenizer

    own = part_folder(folder, "tokenizer")
    try:
        return AutoTokenizer.from_pretrained(own, local_files_only=True)
    except (OSError, ValueError) as error:
        first = first_line(error)
        raise RelayError(f"{own} holds no tokenizer: {first}") from error
