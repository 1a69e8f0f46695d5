"""Which expander: the cascade's own, one by name, or one that the caller brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.prompts.cache import Cached
from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander
from relay_diffusion.pipelines.prompts.endpoint import EndpointExpander
from relay_diffusion.pipelines.prompts.expander import Expander, ExpansionError
from relay_diffusion.pipelines.prompts.instructions import version
from relay_diffusion.pipelines.prompts.scenes import ScenesExpander

NAMES = ("scenes", "openai", "transformers")


def open_expander(
    choice: bool | str | Expander | None,
    config: Mapping[str, Any],
    model: str | None = None,
    device: str = "auto",
) -> Expander | None:
    """The expander that was chosen, None where there shall be none.

    Args:
        choice: None or False for none, True for the cascade's own, a name of :data:`NAMES`, or an
            expander, which comes back as it is.
        config: of the cascade: "expander" is the name of its own, "world" that of its scenes.
        model: of "openai" and "transformers"; for "scenes" a world in place of the cascade's.
        device: of a language model on this machine, as ``pick_device`` takes it.
    Raises: RelayError if the cascade has none of its own, or the name is no name.
    """
    if not choice:
        return None
    if not isinstance(choice, bool | str):
        if not isinstance(choice, Expander):
            raise RelayError(
                f"expand is a {type(choice).__name__}; give True, one of {', '.join(NAMES)}, or an "
                "object with a method expand(prompt, seed)"
            )
        return choice
    name = config.get("expander") if choice is True else choice
    if name is None:
        raise RelayError(
            f"this cascade has no expander of its own; name one: {', '.join(NAMES)} (on the "
            "command line --expander)"
        )
    if name == "scenes":
        world = model or config.get("world")
        if world is None:
            raise RelayError(
                "the expander 'scenes' is for cascades trained on the scene world, and this one "
                "names no world; allowed are openai and transformers"
            )
        return ScenesExpander(world)
    if name == "openai":
        endpoint = EndpointExpander(model)
        key = (name, endpoint.base_url or "", endpoint.model, version())
        return Cached(endpoint, *key)
    if name == "transformers":
        chat = ChatModelExpander(model, device)
        return Cached(chat, name, chat.identity, version())
    raise RelayError(f"there is no expander {name!r}; allowed are {', '.join(NAMES)}")


def check_expander(
    choice: bool | str | Expander | None, config: Mapping[str, Any], model: str | None = None
) -> Expander | None:
    """Refuse what could expand no prompt at all, where that is worse than a warning a picture.

    Args: as :func:`open_expander` takes them.
    Returns: the expander, None where there shall be none.
    Raises: RelayError where that does, and where a language model on this machine is not to be had
        or is no chat model, or the package that asks an endpoint is missing.
    """
    opened = open_expander(choice, config, model)
    asking = _asking(opened)
    if isinstance(asking, ChatModelExpander | EndpointExpander):
        try:
            asking.check()
        except ExpansionError as error:
            raise RelayError(f"prompts cannot be expanded: {error}") from error
    return opened


def language_model(expander: Expander | None) -> dict[str, str]:
    """The language model that an expander asks, an option or a variable having named it.

    Returns: "expander_model", and "expander_base_url" of an endpoint unless it is OpenAI's own;
        nothing, where no language model is asked.
    """
    asking = _asking(expander)
    if isinstance(asking, ChatModelExpander):
        return {"expander_model": asking.model}
    if isinstance(asking, EndpointExpander):
        url = {"expander_base_url": asking.base_url} if asking.base_url else {}
        return {"expander_model": asking.model, **url}
    return {}


def _asking(expander: Expander | None) -> Expander | None:
    """An expander without the cache before it."""
    return expander.expander if isinstance(expander, Cached) else expander
