"""A model behind an endpoint that speaks the OpenAI interface: which, where, with which key."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class Hosted:
    """What an ``openai`` client is made with.

    Attributes:
        model: its name there.
        base_url: such as ``http://127.0.0.1:8000/v1``; None is OpenAI's own.
        key: "none" where there is none: servers in one's own house seldom ask for one.
    """

    model: str
    base_url: str | None
    key: str = field(repr=False)

    @classmethod
    def named(
        cls,
        task: str,
        purpose: str,
        option: str,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> Hosted:
        """What is None comes from ``RELAY_{task}_MODEL``, ``_BASE_URL`` and ``_API_KEY``. Without
        the last two it is ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``; that key goes to no server
        that is named in any other way.

        Args:
            purpose: what the model is for, as in "to expand prompts with".
            option: of the command line, that names a model.
        Raises: RelayError if no model is named, or OpenAI's own server without a key.
        """
        variables = f"RELAY_{task}"
        wanted = model or os.environ.get(f"{variables}_MODEL")
        if not wanted:
            raise RelayError(
                f"no model is named {purpose}: give {option}, or set {variables}_MODEL"
            )
        own = base_url or os.environ.get(f"{variables}_BASE_URL")
        shared = os.environ.get("OPENAI_BASE_URL")
        key = api_key or os.environ.get(f"{variables}_API_KEY")
        if not own:
            key = key or os.environ.get("OPENAI_API_KEY")
        if not (own or shared or key):
            raise RelayError(
                f"no endpoint {purpose}: set {variables}_BASE_URL to a server of yours, or "
                "OPENAI_API_KEY for OpenAI's"
            )
        return cls(wanted, own or shared or None, key or "none")
