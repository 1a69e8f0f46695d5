"""What a cascade makes and takes, without its weights: to check a run before anything is paid."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from relay_diffusion.models.folder import part_folder, read_index, read_json
from relay_diffusion.models.registry import resolve
from relay_diffusion.models.stored import class_of, described
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.components import settings_of
from relay_diffusion.pipelines.folder import check_cascade_folder


def outline(model: str | Path, without: frozenset[str] = frozenset()) -> RelayPipeline:
    """A cascade whose networks have shapes only, and which reads no text: enough for its config,
    ``distilled`` and ``stages_for``.

    Args: without: parts that the run does without, and that need not be there.
    Raises: RelayError for a folder that is no cascade, naming the file at fault.
    """
    folder = resolve(model)
    check_cascade_folder(folder, without)
    index = read_index(folder)
    networks = {part: _shapes(index, part, folder) for part in ("vae", "base_unet", "relay_unet")}
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "scheduler"))
    return RelayPipeline(**nothing, **networks, **settings_of(folder))


def _shapes(index: Mapping[str, Any], part: str, folder: Path) -> Any:
    named = class_of(index, part, folder)
    if named is None:
        return None
    own = part_folder(folder, part)
    config = read_json(own.parent, own / "config.json")
    config.pop("quantization_config", None)
    return described(getattr(import_module(named[0]), named[1]), config, own / "config.json")
