"""The writer behind an OpenAI-compatible endpoint, against a server on this machine."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relay_diffusion.data.recaption.endpoint import EndpointWriter
from relay_diffusion.data.recaption.instruction import Instruction
from relay_diffusion.data.recaption.pace import Pace
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError
from relay_diffusion.models.hosted import Hosted
from tests.chat_server import USAGE, Reply, Server
from tests.data.drawn import picture
from tests.data.recaption.conftest import described

REQUEST = Request(Instruction("Describe."), picture(3, 64, 40), "a picture")


def with_writer(
    server: Server, use: Callable[[EndpointWriter], Awaitable[Any]], **options: Any
) -> Any:
    async def run() -> Any:
        writer = EndpointWriter(
            Hosted("m", server.url, "k"),
            **{"max_tokens": 300, "timeout": 5.0, "retries": 0, "pace": Pace(), **options},
        )
        try:
            return await use(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


def write(server: Server, **options: Any) -> Answer:
    return with_writer(server, lambda writer: writer.write(REQUEST), **options)


def test_the_picture_goes_along_with_the_instruction_and_its_caption(server: Server) -> None:
    assert write(server) == Answer(described("a picture"), 1000, 100)
    (request,) = server.requests
    assert (request["model"], request["max_tokens"]) == ("m", 300)
    assert server.keys == ["Bearer k"]
    instruction, image, original = request["messages"][0]["content"]
    assert instruction == {"type": "text", "text": "Describe."}
    assert original == {"type": "text", "text": "Original caption: a picture"}
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert sent.size == (64, 40)
    difference = np.asarray(sent).astype(int) - np.asarray(REQUEST.picture)
    assert np.abs(difference).mean() < 3


def test_a_server_that_is_busy_or_broken_for_a_moment_is_asked_again(server: Server) -> None:
    server.replies = [(429, "slow down"), (500, "oops"), (200, described("a picture"))]
    assert write(server, retries=2).text == described("a picture")
    assert len(server.requests) == 3


def test_the_pace_holds_for_repeated_requests_too(server: Server) -> None:
    server.replies = [(429, "slow down"), (429, "slow down"), (200, described("a picture"))]
    write(server, retries=2, pace=Pace(60 / 0.05))
    assert len(server.times) == 3
    # Of all three: that one arrives late shortens the gap behind it.
    assert server.times[-1] - server.times[0] > 0.09


def test_a_model_that_wants_the_limit_by_its_newer_name_is_asked_so_from_then_on(
    server: Server,
) -> None:
    def reply(request: dict[str, Any]) -> tuple[int, str]:
        if "max_tokens" in request:
            return 400, "'max_tokens' is not supported, use 'max_completion_tokens'"
        return 200, described("a picture")

    async def twice(writer: EndpointWriter) -> None:
        await writer.write(REQUEST)
        await writer.write(REQUEST)

    server.reply = reply
    with_writer(server, twice)
    limits = ["max_tokens" in request for request in server.requests]
    assert limits == [True, False, False]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, "out of order"), "no answer: 500, out of order"),
        ((400, "the picture is not allowed"), "no answer: 400, the picture is not allowed"),
        ((200, b"<html>welcome</html>"), "no answer"),
        ((200, b"{}"), "no answer: not a completion"),
        ((200, b'{"choices": [{}]}'), "no answer: not a completion"),
    ],
)
def test_one_picture_without_an_answer_is_no_more_than_that(
    server: Server, reply: tuple[int, Any], reason: str
) -> None:
    server.replies = [reply]
    assert write(server).flaw.startswith(reason)


def test_what_may_be_paid_for_without_a_count_of_tokens_is_counted_itself(server: Server) -> None:
    server.usage = None
    assert write(server).num_uncounted == 1

    def late_at_first(request: dict[str, Any]) -> Reply:
        time.sleep(0.2 if len(server.requests) == 1 else 0)
        return 200, described("a picture")

    server.usage, server.reply = USAGE, late_at_first
    server.requests.clear()
    assert write(server, timeout=0.1, retries=1) == Answer(
        described("a picture"), 1000, 100, num_uncounted=1
    )
    server.requests.clear()
    assert write(server, timeout=0.1) == Answer("", flaw="no answer: timed out", num_uncounted=1)


def test_no_more_tries_are_made_than_allowed(server: Server) -> None:
    server.delay = 0.3

    def twice(writer: EndpointWriter) -> Awaitable[Answer]:
        return writer.write(REQUEST, 2)

    answer = with_writer(server, twice, timeout=0.1, retries=5)
    assert answer == Answer("", flaw="no answer: timed out", num_uncounted=2)
    assert len(server.requests) == 2


def test_the_tries_before_the_limit_was_called_otherwise_count(server: Server) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        if len(server.requests) == 2:
            return 400, "'max_tokens' is not supported, use 'max_completion_tokens'"
        time.sleep(0.2)
        return 200, described("a picture")

    server.reply = reply
    answer = write(server, timeout=0.1, retries=2)
    assert answer == Answer("", flaw="no answer: timed out", num_uncounted=3)


def test_an_answer_that_comes_too_late_in_part_may_have_to_be_paid_for() -> None:
    async def stall(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{")
        await reader.read()  # until the client goes
        out.close()

    async def run() -> Answer:
        stalling = await asyncio.start_server(stall, "127.0.0.1", 0)
        port = stalling.sockets[0].getsockname()[1]
        hosted = Hosted("m", f"http://127.0.0.1:{port}/v1", "k")
        writer = EndpointWriter(hosted, max_tokens=300, timeout=0.1, retries=1, pace=Pace())
        try:
            return await writer.write(REQUEST)
        finally:
            await writer.close()
            stalling.close()

    assert asyncio.run(run()) == Answer("", flaw="no answer: timed out", num_uncounted=2)


@pytest.mark.parametrize(
    ("choice", "flaw"),
    [
        ({"finish_reason": "length", "message": {"content": "A red"}}, "cut off"),
        ({"finish_reason": "content_filter", "message": {"content": None}}, "withheld"),
    ],
)
def test_an_answer_that_is_not_whole_is_marked_and_counted(
    server: Server, choice: dict[str, Any], flaw: str
) -> None:
    server.replies = [(200, choice)]
    answer = write(server)
    assert answer.flaw.startswith(flaw)
    assert (answer.prompt_tokens, answer.completion_tokens) == (1000, 100)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ((401, "no such key"), r"does not take the key \(no such key\)"),
        ((404, "no such model"), r"has no model 'm', or is no API \(no such model\)"),
        ((402, "nothing left"), "wants money: nothing left"),
    ],
)
def test_what_holds_for_all_pictures_ends_the_run(
    server: Server, reply: tuple[int, str], complaint: str
) -> None:
    server.replies = [reply]
    with pytest.raises(RelayError, match=complaint):
        write(server)


def test_a_wrong_key_and_a_server_that_is_not_there_cost_no_request(server: Server) -> None:
    def check() -> None:
        with_writer(server, lambda writer: writer.check(), retries=6)

    check()
    for status in (404, 403):  # many have no such list, or do not show it to all
        server.models = status
        check()
    server.models = 401
    with pytest.raises(RelayError, match="does not take the key"):
        check()
    server.shutdown()
    server.server_close()
    with pytest.raises(RelayError, match=r"there is no server at http://127\.0\.0\.1"):
        check()
    assert server.requests == []


def test_without_the_package_it_says_what_to_install(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(RelayError, match=r"pip install 'relay-diffusion\[expand\]'"):
        write(server)
