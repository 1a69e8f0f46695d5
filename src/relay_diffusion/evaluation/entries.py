"""What takes part in a comparison: models, each with a name, a source and its settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.sizes import parse_size

_FORM = re.compile(r"(?:(?P<label>[\w .+-]+)=)?(?P<source>[^@]+)(?:@(?P<options>.+))?")
_CLASS = re.compile(r"(.+):([A-Z]\w*Pipeline)")
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "steps": int,
    "relay_steps": int,
    "guidance": float,
    "relay_guidance": float,
    "solver": str,
    "eta": float,
    "size": str,
    "expand": lambda value: {"true": True, "false": False}.get(value.lower(), value),
    "expander": str,
    "expander_model": str,
}
_OF_PEERS = ("steps", "guidance", "size")


@dataclass(frozen=True)
class Entry:
    """A model with the settings it is run with.

    Attributes:
        label: its name in tables, and that of its folder of pictures.
        source: registered name, folder or hub id; of a peer, also one of ``peers.PEERS``.
        class_name: of a peer, the diffusers class to open it with, if its folder is not to say.
        options: those of ``_OPTIONS`` that are set; what is not is the model's own. "expand" is
            True or the name of an expander, which "expander_model" goes with.
    """

    label: str
    source: str
    is_peer: bool = False
    class_name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        return file_name(self.label)

    @classmethod
    def parse(
        cls, text: str, is_peer: bool = False, defaults: Mapping[str, Any] | None = None
    ) -> Entry:
        """From [LABEL=]SOURCE[@KEY=VALUE,...]; a peer's source may end in :CLASS.

        Args:
            defaults: options where the text sets none, None among them for "its own".
        Raises: RelayError if it has another form.
        """
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise RelayError(f"model {text!r}; give a name or a folder, as in fast=my-cascade")
        source, class_name = found["source"], None
        if is_peer and (named := _CLASS.fullmatch(source)):
            source, class_name = named[1], named[2]
        own = _read_options(
            text, _said(found["options"]), _OF_PEERS if is_peer else tuple(_OPTIONS)
        )
        label = found["label"]
        if not label:
            label = " ".join([Path(source).resolve().name, *_said(found["options"])])
        run = defaults or {}
        options = {**run, **own, **_expansion(text, own, run)}
        set_ = {name: value for name, value in options.items() if value is not None}
        if "size" in set_:
            size = set_["size"]
            set_["size"] = size if isinstance(size, tuple) else parse_size(size)
        return cls(label, source, is_peer, class_name, set_)


def file_name(name: str) -> str:
    """What a folder of this name is called on every system."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def _said(options: str | None) -> list[str]:
    return [part.strip() for part in (options or "").split(",") if part.strip()]


def check_labels(entries: Sequence[Entry]) -> None:
    """Raise RelayError if two entries would be called the same."""
    twice = [name for name, num in Counter(e.folder_name for e in entries).items() if num > 1]
    if twice:
        raise RelayError(f"two models are called {twice[0]!r}; name them: --model NAME={twice[0]}")


def _expansion(text: str, own: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """How a model expands prompts: "expand", and the "expander_model" where one is named; what is
    None is not to be set.

    What the model says itself wins. The run's language model is for the run's expander: a model
    that names another has its own or none.

    Raises: RelayError if two of its options do not go together.
    """
    named, model = own.get("expander"), own.get("expander_model")
    if named and own.get("expand", True) is not True:
        raise RelayError(f"{text!r} sets expander and another expand; give one of the two")
    choice = named or own.get("expand")
    if choice is None or choice is True:
        choice = run.get("expand") or choice
    if model and not choice:
        raise RelayError(f"{text!r}: expander_model goes with expander, or with expand=true")
    if choice and not model and choice == run.get("expand"):
        model = run.get("expander_model")
    return {"expand": choice or None, "expander": None, "expander_model": model}


def _read_options(text: str, options: list[str], allowed: tuple[str, ...]) -> dict[str, Any]:
    read = {}
    for part in options:
        name, _, value = part.partition("=")
        if name not in allowed:
            raise RelayError(f"{text!r} sets {name!r}; after @ stand {', '.join(allowed)}")
        if not value:
            raise RelayError(f"{text!r}: {name} has no value; give {name}=VALUE")
        try:
            read[name] = _OPTIONS[name](value)
        except ValueError:
            raise RelayError(f"{text!r}: {name} is {value!r}, which is no number") from None
    return read
