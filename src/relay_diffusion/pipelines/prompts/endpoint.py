"""Expansion by any server that speaks the OpenAI interface, through the ``openai`` client."""

from __future__ import annotations

from typing import Any

from relay_diffusion.models.hosted import Hosted
from relay_diffusion.pipelines.prompts.answers import usable
from relay_diffusion.pipelines.prompts.expander import ExpansionError, UnusableAnswer
from relay_diffusion.pipelines.prompts.instructions import (
    MAX_NEW_TOKENS,
    TEMPERATURE,
    TOP_P,
    messages,
)

TIMEOUT = 60.0
"""Seconds for one try."""
RETRIES = 2
"""Further tries where the network or the server fails."""


class EndpointExpander:
    """Asks a chat model behind an HTTP endpoint.

    Model, address and key that are None come from the environment, see :class:`Hosted`.

    Raises: RelayError if no model is named, or OpenAI's own server without a key.
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self._hosted = Hosted.named(
            "EXPAND", "to expand prompts with", "--expander-model", model, base_url, api_key
        )
        self.model, self.base_url = self._hosted.model, self._hosted.base_url
        self._client: Any = None

    def check(self) -> None:
        """Raise ExpansionError if the package is missing; the server is not asked."""
        try:
            import openai  # noqa: F401
        except ModuleNotFoundError:
            raise ExpansionError(
                "the openai package is missing: pip install 'relay-diffusion[expand]'"
            ) from None

    def expand(self, prompt: str, seed: int) -> str:
        self.check()
        import openai

        if self._client is None:
            self._client = openai.OpenAI(
                base_url=self.base_url,
                api_key=self._hosted.key,
                timeout=TIMEOUT,
                max_retries=RETRIES,
            )
        sampling: dict[str, Any] = {
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "max_tokens": MAX_NEW_TOKENS,
            "seed": seed % 2**31,
        }
        try:
            try:
                answer = self._ask(prompt, sampling)
            except openai.BadRequestError:  # some models take no sampling options
                answer = self._ask(prompt, {})
        except openai.OpenAIError as error:
            raise ExpansionError(f"{self.model} did not answer: {error}") from error
        return usable(answer)

    def _ask(self, prompt: str, sampling: dict[str, Any]) -> str:
        completion = self._client.chat.completions.create(
            model=self.model, messages=messages(prompt), **sampling
        )
        choices = getattr(completion, "choices", None)
        if not choices:
            return ""
        if getattr(choices[0], "finish_reason", None) == "length":
            raise UnusableAnswer("the answer was cut off before its end")
        return choices[0].message.content or ""
