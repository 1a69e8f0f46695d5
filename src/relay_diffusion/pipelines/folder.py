"""A cascade on disk: what a folder must hold to be one."""

from __future__ import annotations

from pathlib import Path

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import PARTS, part_folder, read_index, read_json
from relay_diffusion.models.registry import INDEX
from relay_diffusion.models.stored import WEIGHTLESS, class_of, stored_shapes

_CONFIGS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
_VOCABULARIES = ("tokenizer.json", "spiece.model")


def check_cascade_folder(folder: Path, without: frozenset[str] = frozenset()) -> None:
    """Raise RelayError, naming the file, if ``folder`` is no cascade or lacks a part of one.

    Args:
        without: parts that the caller brings along or does without.
    """
    index = read_index(folder)
    kind = index.get("_class_name")
    if kind != "RelayPipeline":
        raise RelayError(f"{folder} is no relay cascade: its {INDEX} names a {kind}")
    for part in PARTS:
        if part in without or class_of(index, part, folder) is None:
            continue
        own = part_folder(folder, part)
        read_json(own.parent, own / _CONFIGS.get(part, "config.json"))
        files = list(own.glob("*.safetensors"))
        if part not in WEIGHTLESS and not files:
            raise RelayError(
                f"{own.parent} is no complete cascade: {part}/ holds no .safetensors "
                "with its weights"
            )
        for file in files:
            stored_shapes(file)
        if part == "tokenizer" and not any((own / name).is_file() for name in _VOCABULARIES):
            raise RelayError(
                f"{own.parent} is no complete cascade: {part}/ holds neither "
                f"{' nor '.join(_VOCABULARIES)}; copy it again from where the cascade came from"
            )
