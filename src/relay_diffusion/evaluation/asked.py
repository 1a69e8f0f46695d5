"""What a model is asked for, so that pictures that were asked for otherwise are not mixed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.fingerprint import fingerprint
from relay_diffusion.evaluation.painters import Where, plain
from relay_diffusion.evaluation.peers import find_peer
from relay_diffusion.models.folder import read_index, shared_parts
from relay_diffusion.models.registry import resolve
from relay_diffusion.pipelines.folder import check_cascade_folder
from relay_diffusion.pipelines.prompts import check_expander, language_model


def asked_of(entry: Entry, where: Where) -> dict[str, Any]:
    """What must stay the same for pictures to stay the same.

    Raises: RelayError if the model, or the language model that expands for it, is not to be had.
    """
    options, expansion = entry.options, {}
    if entry.is_peer:
        _, folders = find_peer(entry)
    else:
        folder = resolve(entry.source)
        check_cascade_folder(folder)
        choice, model = options.get("expand"), options.get("expander_model")
        expansion = language_model(check_expander(choice, read_index(folder), model))
        language_folder = Path(expansion.get("expander_model", ""))
        if expansion and language_folder.is_dir():
            expansion["expander_weights"] = fingerprint(language_folder)
        lent = shared_parts(folder).items()
        folders = [folder, *(owner / part for owner, parts in lent for part in parts)]
    on_gpu = where.device.type == "cuda"
    return {
        "weights": [fingerprint(folder) for folder in folders],
        "class": entry.class_name,
        "device": torch.cuda.get_device_name(where.device) if on_gpu else where.device.type,
        "dtype": plain(where.dtype) if where.dtype else "auto",
        "low_memory": where.low_memory,
        **{name: options[name] for name in sorted(options)},
        **expansion,
    }
