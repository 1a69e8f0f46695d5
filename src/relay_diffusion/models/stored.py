"""Whether the weights of a cascade are all there, and fit their configurations.

The libraries would go on with random numbers for what is missing, or say so in many lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.fitting import listed, misfit, shapes_of
from relay_diffusion.models.folder import PARTS, part_folder, read_index, read_json
from relay_diffusion.models.registry import INDEX

WEIGHTLESS = ("tokenizer", "scheduler")
_LIBRARIES = ("diffusers", "transformers")
_WEIGHTS = ("diffusion_pytorch_model", "model")
"""How the names of the files begin that they read."""


def check_weights(folder: Path, without: frozenset[str] = frozenset()) -> None:
    """Raise RelayError, naming file and tensors, if the networks of the cascade in ``folder`` are
    stored with tensors missing, left over or of another shape than their configurations say.

    What was saved quantised is left to the libraries: its tensors are stored in pieces, under names
    of the quantiser's.

    Args:
        without: parts that are not opened from there.
    """
    index = read_index(folder)
    for part in PARTS:
        if part in without or part in WEIGHTLESS:
            continue
        named = class_of(index, part, folder)
        own = part_folder(folder, part)
        network = _described(own, *named) if named else None
        if network is not None:
            check_stored(own, network)


def class_of(index: Mapping[str, Any], part: str, folder: Path) -> tuple[str, str] | None:
    """Library and class of a part as the index names them, None where there shall be no such part.

    Raises: RelayError if it does not say, or the library has no such class.
    """
    named: Any = index.get(part)
    if named == [None, None]:
        return None
    known = (
        isinstance(named, list)
        and len(named) == 2
        and all(isinstance(one, str) for one in named)
        and (named[0] not in _LIBRARIES or hasattr(import_module(named[0]), named[1]))
    )
    if not known:
        raise RelayError(
            f"{folder} is no complete cascade: its {INDEX} names no class of "
            f"{' or '.join(_LIBRARIES)} for its {part}; copy it again from where the cascade came "
            "from"
        )
    return named[0], named[1]


def _described(own: Path, library: str, name: str) -> nn.Module | None:
    """The network that a part's configuration describes, shapes only; None if it is none of the
    libraries', or was saved quantised. Raises: RelayError if it describes none."""
    config = read_json(own.parent, own / "config.json")
    if library not in _LIBRARIES or config.get("quantization_config"):
        return None
    return described(getattr(import_module(library), name), config, own / "config.json")


def described(kind: Any, config: Mapping[str, Any], file: Path) -> nn.Module:
    """The network of a library's class that a configuration describes, shapes only.

    Args: file: of the configuration, for messages.
    Raises: RelayError if it describes none.
    """
    try:
        with torch.device("meta"):
            if hasattr(kind, "from_config"):  # of diffusers
                network = kind.from_config(config)
            else:
                network = kind(kind.config_class.from_dict(config))
    except Exception as error:  # of many kinds, as any value of any of its keys may be wrong
        raise RelayError(f"{file} describes no {kind.__name__}: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise RelayError(f"{file}: {kind.__name__} is no network")
    return network


def check_stored(own: Path, network: nn.Module) -> None:
    """As :func:`check_weights`, of the one network in the folder ``own``.

    Args: network: that its configuration describes, shapes only.
    """
    files = [file for file in own.glob("*.safetensors") if file.name.startswith(_WEIGHTS)]
    stored: dict[str, tuple[int, ...]] = {}
    for file in files:
        stored |= stored_shapes(file)
    wanted = shapes_of(network.state_dict())
    names: dict[int, list[str]] = {}  # a tied parameter has several, one of which is stored
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    missing = [tied[0] for tied in names.values() if stored.keys().isdisjoint(tied)]
    unread = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()  # a T5's decoder
    left_over = sorted(
        name
        for name in stored.keys() - wanted.keys()
        if not any(re.search(pattern, name) for pattern in unread)
    )
    misfits = [
        misfit(name, stored[name], shape)
        for name, shape in wanted.items()
        if stored.get(name, shape) != shape
    ]
    problems = listed(missing, left_over, misfits)
    if problems:
        file = files[0] if len(files) == 1 else own / "*.safetensors"
        raise RelayError(
            f"{file} does not fit the config.json beside it; {problems}; copy both again from "
            "where the cascade came from"
        )


def stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a file, by name. Raises: RelayError, naming it, if it is cut off or
    damaged.

    Reads the header only, which says how long the file must be.
    """
    try:
        with safe_open(file, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RelayError(
            f"{file} is cut off, damaged or no safetensors file ({first_line(error)}): "
            "copy or download it again"
        ) from error
