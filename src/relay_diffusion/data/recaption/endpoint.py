"""Captions by any server that speaks the OpenAI interface, through the ``openai`` client."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

from relay_diffusion.data.recaption.answers import Unusable
from relay_diffusion.data.recaption.pace import Pace
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError
from relay_diffusion.models.hosted import Hosted

LIMITS = ("max_tokens", "max_completion_tokens")
"""What the limit of an answer is called: first by most servers, then by OpenAI's newer models."""


class EndpointWriter:
    """Asks a vision-language model behind an HTTP endpoint, with its own sampling defaults.

    Args:
        max_tokens: of an answer; a longer one is cut off, and refused.
        timeout: seconds for one try.
        retries: further tries where the network or the server fails, or asks to wait; the client
            waits half a second, then twice as long each time, or as long as the server says.
        pace: of all requests, further tries included.
    Raises: RelayError if the ``openai`` package is missing.
    """

    def __init__(
        self, hosted: Hosted, max_tokens: int, timeout: float, retries: int, pace: Pace
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise RelayError(
                "the openai package is missing: pip install 'relay-diffusion[expand]'"
            ) from None

        async def goes(_: Any) -> None:
            await pace.wait()
            self._num_open[asyncio.current_task()] += 1

        async def came(response: Any) -> None:
            await response.aread()  # what comes too late in part is not there either
            self._num_open[asyncio.current_task()] -= 1

        self.model, self.max_tokens, self.tries = hosted.model, max_tokens, retries + 1
        self._limit = 0
        self._num_open: Counter[Any] = Counter()  # requests without a response, by who asked
        hooks: Any = {"request": [goes], "response": [came]}
        self._client = openai.AsyncOpenAI(
            base_url=hosted.base_url,
            api_key=hosted.key,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
        )
        self.url = str(self._client.base_url)

    async def check(self) -> None:
        """Asks which models there are, which costs nothing. Many servers do not say, or name them
        in another way than they take them, or have keys that may ask and not list, so only a
        server that is not there or does not know the key is an error."""
        import openai

        try:
            await self._client.with_options(max_retries=0).models.list()
        except (openai.APIConnectionError, openai.AuthenticationError) as error:
            raise self._fatal(error) from error
        except (openai.OpenAIError, ValueError):
            pass

    async def write(self, request: Request, tries: int | None = None) -> Answer:
        url = await asyncio.to_thread(request.data_url)
        content = request.content({"type": "image_url", "image_url": {"url": url}})
        try:
            messages = [{"role": "user", "content": content}]
            answer = await self._answer(messages, self.tries if tries is None else tries)
        except Unusable as fault:
            answer = Answer("", flaw=str(fault))
        # The client tries again by itself, and does not say how often nothing came in time.
        timed_out = self._num_open.pop(asyncio.current_task(), 0)
        return replace(answer, num_uncounted=answer.num_uncounted + timed_out)

    async def close(self) -> None:
        await self._client.close()

    async def _answer(self, messages: Any, tries: int) -> Answer:
        """Raises: Unusable if there is none; RelayError if there will be none for any picture."""
        import openai

        try:
            completion = await self._ask(messages, tries)
        except openai.APITimeoutError as error:
            raise Unusable("no answer", "timed out") from error
        except openai.APIStatusError as error:
            # 402: the account is empty.
            if error.status_code in (401, 402, 404) or error.code == "insufficient_quota":
                raise self._fatal(error) from error
            raise Unusable("no answer", f"{error.status_code}, {_said(error)}") from error
        except openai.APIConnectionError as error:
            raise self._fatal(error) from error
        except (openai.OpenAIError, ValueError) as error:
            raise Unusable("no answer", f"{type(error).__name__}: {error}") from error
        return _answer_of(completion)

    async def _ask(self, messages: Any, tries: int) -> Any:
        import openai

        async def ask(limit: int) -> Any:
            options: Any = {LIMITS[limit]: self.max_tokens}
            timed_out = self._num_open[asyncio.current_task()]
            client = self._client.with_options(max_retries=tries - 1 - timed_out)
            return await client.chat.completions.create(
                model=self.model, messages=messages, **options
            )

        used = self._limit
        try:
            return await ask(used)
        except openai.BadRequestError as error:
            other = 1 - used
            if LIMITS[used] not in _said(error):
                raise
            completion = await ask(other)
            self._limit = other
            return completion

    def _fatal(self, error: Any) -> RelayError:
        import openai

        if isinstance(error, openai.APIStatusError):
            status, said = error.status_code, _said(error)
            if status == 401:
                return RelayError(
                    f"{self.url} does not take the key ({said}): set RELAY_RECAPTION_API_KEY"
                )
            if status == 404:
                return RelayError(f"{self.url} has no model {self.model!r}, or is no API ({said})")
            return RelayError(f"{self.url} wants money: {said}")
        return RelayError(
            f"there is no server at {self.url}, or it is gone: start it, or give --base-url"
        )


def _said(error: Any) -> str:
    """The server's own words."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)[:200]


def _answer_of(completion: Any) -> Answer:
    """Of a completion, which may be anything: some servers send HTML with status 200."""
    choice = next(iter(getattr(completion, "choices", None) or ()), None)
    message = getattr(choice, "message", None)
    if message is None:
        raise Unusable("no answer", f"not a completion: {str(completion)[:60]}")
    usage = getattr(completion, "usage", None)
    read = getattr(usage, "prompt_tokens", None) or 0
    written = getattr(usage, "completion_tokens", None) or 0
    flaws = {"length": "cut off", "content_filter": "withheld by the server's filter"}
    return Answer(
        getattr(message, "content", None) or getattr(message, "refusal", None) or "",
        read,
        written,
        flaws.get(getattr(choice, "finish_reason", ""), ""),
        num_uncounted=int(not (read or written)),
    )
