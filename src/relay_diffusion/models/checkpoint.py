"""Reading other people's checkpoint files: memory-mapped, and tensors only."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from relay_diffusion.errors import RelayError

logger = logging.getLogger(__name__)

DEEPSPEED_FILE = "mp_rank_00_model_states.pt"


def find_checkpoint(path: str | Path) -> Path:
    """The weight file of a released network.

    Args:
        path: that file itself, the folder of a step that holds ``mp_rank_00_model_states.pt``, or
            the folder above it, whose file ``latest`` names the step.
    Raises: RelayError naming the file that is missing.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise RelayError(f"there is no {path}; give a checkpoint file or its folder")
    folder = path
    latest = path / "latest"
    if not (path / DEEPSPEED_FILE).is_file() and latest.is_file():
        folder = path / latest.read_text(encoding="utf-8", errors="replace").strip()
    file = folder / DEEPSPEED_FILE
    if not file.is_file():
        hint = "" if latest.is_file() else f", and {path} has no file 'latest' that names a step"
        raise RelayError(f"there is no {file}{hint}")
    if (folder / DEEPSPEED_FILE.replace("00", "01", 1)).exists():
        raise RelayError(f"{folder} is split over several ranks; give one merged into {file.name}")
    return file


def read_tensors(file: Path) -> dict[str, Any]:
    """All named values of a checkpoint, mapped from the file rather than read into memory.

    Understands safetensors, and torch files that hold a table of tensors, either whole or under
    ``module`` (DeepSpeed) or ``state_dict``. Values that are not tensors are kept for the caller
    to judge.

    Raises: RelayError if the file is missing, damaged, or holds pickled objects that are not plain
        data: they are named, and never run.
    """
    if not file.is_file():
        raise RelayError(f"there is no {file}")
    if file.suffix == ".safetensors":
        return read_safetensors(file)[0]
    content = _load(file)
    if isinstance(content, dict):
        for table in ("module", "state_dict"):
            if isinstance(content.get(table), dict):
                content = content[table]
                break
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise RelayError(f"{file} holds no table of tensors, neither whole nor under 'module'")
    return {str(name): value for name, value in content.items()}


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, mapped from the file, and metadata. Raises: RelayError if it cannot be read."""
    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RelayError(f"{file} is damaged or no safetensors file: {error}") from error


def _load(file: Path) -> Any:
    with file.open("rb") as opened:
        is_zip = opened.read(4) == b"PK\x03\x04"
    try:
        # Only the zip format, torch's since 1.6, can be mapped.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise RelayError(f"{file} is no torch checkpoint, or is damaged") from error
        raise RelayError(
            f"{file} holds a pickled {refused[1]}, which could run code and was refused; have its "
            "tensors saved on their own, as safetensors"
        ) from error
    except OSError as error:
        raise RelayError(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:  # damaged bytes fail in many ways
        first = (str(error).strip() or type(error).__name__).split(". ")[0].splitlines()[0]
        raise RelayError(f"{file} is damaged or cut short: {first}") from error


def with_prefix(tensors: dict[str, Any], prefix: str, file: Path) -> dict[str, Any]:
    """What stands under ``prefix``, by names without it; the prefixes of the rest are logged.

    Raises: RelayError if nothing does.
    """
    chosen = {
        name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)
    }
    others = prefixes(name for name in tensors if not name.startswith(prefix))
    if not chosen:
        raise RelayError(f"{file} holds nothing named {prefix}*; it has {others or 'nothing'}")
    if others:
        logger.warning("%s: left aside %s", file, others)
    return chosen


def prefixes(names: Iterable[str]) -> str:
    """The first parts of names, with how many there are of each: "model_ema (686), loss (2)".

    "model" alone would say nothing beside ``model.diffusion_model``: its second part is shown too.
    """
    firsts = Counter(re.sub(r"^((?:model\.)?[^.]+).*", r"\1", name) for name in names)
    listed = [f"{name} ({count})" for name, count in firsts.most_common(12)]
    rest = len(firsts) - len(listed)
    return ", ".join(listed) + (f" and {rest} more prefixes" if rest else "")
