"""Whether prepared data fit the run: latents of its autoencoder, tokens of its tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay_diffusion.data.coverage import Coverage
from relay_diffusion.data.prepare.manifest import Manifest, mismatch, read_manifest
from relay_diffusion.errors import RelayError
from relay_diffusion.models.hashes import network_hash, tokenizer_hash
from relay_diffusion.training import distributed
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.recipe import BaseRecipe, Model, Recipe

log = logging.getLogger(__name__)


def text_is_fixed(recipe: Recipe) -> bool:
    """Whether the text encoder stays as it is, so that stored embeddings are what it gives."""
    learns = isinstance(recipe, BaseRecipe) and recipe.lora is None
    return not learns or recipe.optimizer.scales.get("text_encoder", 1.0) == 0


def check_prepared(
    data: Data, model: Model, tokenizer: Any, fixed_text: bool, low_resolution: bool = False
) -> None:
    """See that prepared data are of the networks of a run; other data pass.

    Args:
        fixed_text: as of :func:`text_is_fixed`; then stored embeddings are used, unless
            ``data.embeddings`` is false.
        low_resolution: whether the objective needs z_lr.
    Raises: RelayError, naming both hashes, if they are of another autoencoder, tokenizer or (where
        embeddings are used) text encoder; if tokens have another length, or z_lr is missing.
    """
    if data.source != "prepared":
        return
    folder = Path(data.path)
    manifest = read_manifest(folder)
    _check_view(data, manifest)
    theirs = manifest.encoders
    trained = "prepared data are of a trained one"
    vae = weights_of(model, "vae", trained)
    found = {"vae": network_hash(vae), "tokenizer": tokenizer_hash(tokenizer)}
    if manifest.settings.embeddings and data.embeddings and fixed_text:
        found["text_encoder"] = network_hash(weights_of(model, "text_encoder", trained))
    for part, mine in found.items():
        if mine != getattr(theirs, part):
            way = "prepare again with that cascade"
            if part == "text_encoder":
                way += ", or set data.embeddings = false to use the stored tokens"
            raise RelayError(f"{mismatch(folder, part, getattr(theirs, part), mine)}: {way}")
    if theirs.max_tokens != model.max_tokens:
        raise RelayError(
            f"{folder} has captions of {theirs.max_tokens} tokens, and model.max_tokens is "
            f"{model.max_tokens}: set it to {theirs.max_tokens}"
        )
    if low_resolution and not manifest.settings.low_resolution:
        raise RelayError(
            f"{folder} was prepared with --no-low-resolution, which is for the base stage: "
            "prepare again without that option, to another --out"
        )
    for name, coverage in manifest.captions.items():
        if data.captions.get(name, 0.0 if data.captions else 1.0):
            warn_of_unread(f"{data.path}, {name}", coverage)


def warn_of_unread(where: str, coverage: Coverage) -> None:
    """Say in one line, once for all processes, that the networks cannot read much of the captions
    that they are about to be trained on."""
    if coverage.poor and distributed.is_main():
        log.warning(
            "%s: %s; unknown words are all one to the networks, and what is cut they never see: "
            "write shorter captions, in words of the tokenizer (relay models --words lists them, "
            "where a cascade has whole words)",
            where,
            coverage,
        )


def _check_view(data: Data, manifest: Manifest) -> None:
    """Raises: RelayError if the recipe's view is not the one that was prepared."""
    view, theirs = data.views[0], manifest.settings.view
    if (view.size, view.crop) != (theirs.size, theirs.crop):
        crop = f", crop = {theirs.crop}" if theirs.crop else ""
        raise RelayError(
            f"{data.path} was prepared at another size than data.views: "
            f"set views = [{{ size = {theirs.size}{crop} }}]"
        )


def weights_of(model: Model, part: str, reason: str) -> Path:
    """Folder of the weights that a network starts from.

    Args: reason: why it cannot start from nothing.
    Raises: RelayError if it does.
    """
    spec: str | Mapping[str, Any] = getattr(model, part)
    path = model.init_from.get(part) or spec
    if not isinstance(path, str) or not path:
        raise RelayError(
            f"model.{part} starts from nothing, and {reason}: give its folder, such as the "
            f"{part}/ of that cascade"
        )
    return Path(path)
