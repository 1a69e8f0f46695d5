"""One hash for all the files of a model, so that changed weights are noticed."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from pathlib import Path

from relay_diffusion.files import files_below, sha256_of

_CONTENT = {".json", ".safetensors", ".model", ".txt", ".bin"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's weights, configurations and vocabularies.

    A file of the hub's cache is a link to one named after its hash, which is taken as it is.
    """
    total = hashlib.sha256()
    for file in sorted(files_below(folder)):
        if file.suffix in _CONTENT and file.is_file():
            target = file.resolve().name
            known = file.is_symlink() and _SHA256.fullmatch(target)
            digest = target if known else sha256_of(file)
            total.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def num_parameters(folder: Path, variant: str | None = None) -> int:
    """Numbers in the weights of a diffusers pipeline, or of one network, read off the headers of
    its safetensors files.

    Args:
        variant: the set of files that is loaded ("fp16"), where a part has it.
    """
    total = 0
    is_pipeline = (folder / "model_index.json").is_file()
    for part in [path for path in folder.iterdir() if path.is_dir()] if is_pipeline else [folder]:
        files = sorted(part.glob("*.safetensors"))
        chosen = [file for file in files if variant and f".{variant}" in file.name]
        plain = [file for file in files if len(file.name.split(".")) == 2]
        total += sum(_numbers_in(file) for file in chosen or plain)
    return total


def _numbers_in(file: Path) -> int:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())
