"""A cascade on disk: what a folder must hold to be one."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.folder import PARTS, part_folder, read_index, read_json
from relay_diffusion.models.registry import INDEX

_CONFIGS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
_WEIGHTLESS = ("tokenizer", "scheduler")
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
        if part in without or (index.get(part) or [None])[0] is None:
            continue
        own = part_folder(folder, part)
        read_json(own.parent, own / _CONFIGS.get(part, "config.json"))
        files = list(own.glob("*.safetensors"))
        if part not in _WEIGHTLESS and not files:
            raise RelayError(
                f"{own.parent} is no complete cascade: {part}/ holds no .safetensors "
                "with its weights"
            )
        for file in files:
            _stored_names(file)
        if part == "tokenizer" and not any((own / name).is_file() for name in _VOCABULARIES):
            raise RelayError(
                f"{own.parent} is no complete cascade: {part}/ holds neither "
                f"{' nor '.join(_VOCABULARIES)}; copy it again from where the cascade came from"
            )


def check_weights(folder: Path, module: nn.Module) -> None:
    """Raise RelayError, naming them, if parameters of ``module`` are not stored in its ``folder``.

    The libraries would warn and go on with random numbers. A network that was saved quantised is
    left to them: its tensors are stored in pieces, under names of the quantiser's.
    """
    if read_json(folder.parent, folder / "config.json").get("quantization_config"):
        return
    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        stored.update(_stored_names(file))
    names: dict[int, list[str]] = {}  # a tied parameter has several, one of which is stored
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    missing = [tied[0] for tied in names.values() if stored.isdisjoint(tied)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise RelayError(f"{folder} lacks weights of the network: {', '.join(missing[:3])}{more}")


def _stored_names(file: Path) -> list[str]:
    """Names of the tensors in a file. Raises: RelayError, naming it, if it is cut off or damaged.

    Reads the header only, which says how long the file must be.
    """
    try:
        with safe_open(file, framework="pt") as weights:
            return list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise RelayError(
            f"{file} is cut off, damaged or no safetensors file ({first_line(error)}): "
            "copy or download it again"
        ) from error
