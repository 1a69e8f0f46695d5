"""``relay models``: the cascades that can be named."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import typer

from relay_diffusion.errors import RelayError
from relay_diffusion.models.registry import list_cascades


def models(
    words: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="List the words that this one knows, and those that an adapter can teach it.",
        ),
    ] = None,
) -> None:
    """List the cascades that can be named, each with its own base size, steps (base stage + each
    doubling), guidance (base stage + each doubling, or one for all; in brackets the range it was
    distilled for) and solver; --model takes folders and hub ids as well."""
    if words is not None:
        known, free = known_and_free(words)
        for told, these in (("It knows", known), ("It has a token for, and has never seen", free)):
            line = f"{told}: {' '.join(these) or 'none'}"
            typer.echo(textwrap.fill(line, 100, break_on_hyphens=False))
        return
    for cascade in list_cascades():
        told = "not installed"
        if cascade.index:
            told = f"{cascade.num_bytes / 1e6:.0f} MB, {_settings(cascade.index)}"
        typer.echo(f"{cascade.name}  {told}  {cascade.description}")


def known_and_free(model: str) -> tuple[list[str], list[str]]:
    """The words that a cascade was trained on, and those that its tokenizer has beside them, which
    are free to be taught; each in the order of the alphabet, without punctuation.

    Raises: RelayError if there is no such cascade, or it spells words out of parts.
    """
    from transformers import AutoTokenizer

    from relay_diffusion.models.folder import part_folder, read_index
    from relay_diffusion.models.registry import resolve
    from relay_diffusion.models.text import knows_whole_words

    folder = resolve(model)
    index = read_index(folder)
    if index["tokenizer"][0] is None:
        raise RelayError(f"{model} has no tokenizer, so no words")
    known = index.get("known_words")
    tokenizer = AutoTokenizer.from_pretrained(part_folder(folder, "tokenizer"))
    if not knows_whole_words(tokenizer):
        raise RelayError(
            f"{model} has no list of words: it spells them out of parts, and takes any"
        )
    every = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)

    def listed(words: Collection[str]) -> list[str]:
        return sorted(word for word in words if any(map(str.isalnum, word)))

    return listed(known or every), listed(every - set(known or every))


def _settings(index: Mapping[str, Any]) -> str:
    side, scale, known = index["base_size"], index["guidance_scale"], index["guidance_range"]
    base = _guidance(scale, known)
    own = index["relay_guidance_scale"]
    relay = _guidance(scale if own is None else own, index["relay_guidance_range"] or known)
    return (
        f"base {side}x{side}, {index['num_inference_steps']} + {index['num_relay_steps']} steps, "
        f"guidance {base if relay == base else f'{base} + {relay}'}, {index['solver']}"
    )


def _guidance(scale: float, known: Sequence[float] | None) -> str:
    return f"{scale:g} ({known[0]:g} to {known[1]:g})" if known else f"{scale:g}"
