"""The expander behind an OpenAI-compatible endpoint, against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from relay_diffusion.pipelines.prompts.endpoint import EndpointExpander
from relay_diffusion.pipelines.prompts.expander import ExpansionError
from relay_diffusion.pipelines.prompts.instructions import messages

ANSWER = "A red fox stands on a meadow."


class Server(ThreadingHTTPServer):
    """Answers with ``replies`` in turn, (status, content of the message), and keeps requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, str | None]] = [(200, ANSWER)]
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(body))
        self.server.keys.append(self.headers["Authorization"])
        replies = self.server.replies
        status, content = replies.pop(0) if len(replies) > 1 else replies[0]
        message = {"role": "assistant", "content": content}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        answer: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices,
        }  # fmt: skip
        if status != 200:
            answer = {"error": {"message": content}}
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()


def expander(server: Server, **options: Any) -> EndpointExpander:
    return EndpointExpander("m", server.url, **{"retries": 0, "api_key": "k", **options})


def test_the_endpoint_is_asked_as_the_paper_asks(server: Server) -> None:
    assert expander(server).expand("a red fox", 2**40 + 7) == ANSWER
    (request,) = server.requests
    assert request["messages"] == messages("a red fox")
    assert (request["model"], request["temperature"], request["top_p"]) == ("m", 0.01, 0.7)
    assert request["seed"] == 7
    assert server.keys == ["Bearer k"]


def test_a_server_that_fails_for_a_moment_is_asked_again(server: Server) -> None:
    server.replies = [(500, "busy"), (200, ANSWER)]
    assert expander(server, retries=1).expand("a red fox", 0) == ANSWER


def test_a_model_without_sampling_options_is_asked_without(server: Server) -> None:
    server.replies = [(400, "temperature is not supported"), (200, ANSWER)]
    assert expander(server).expand("a red fox", 0) == ANSWER
    assert set(server.requests[1]) == {"model", "messages"}


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ((500, "out of order"), "m did not answer: .*out of order"),
        ((401, "wrong key"), "m did not answer: .*wrong key"),
        ((400, "no such model"), "m did not answer: .*no such model"),
        ((200, None), "the answer is empty"),
        ((200, "fox " * 5000), "5000 words"),
        ((200, "红色的狐狸站在草地上"), "not in English"),
    ],
)
def test_bad_answers_are_failures(
    server: Server, reply: tuple[int, str | None], complaint: str
) -> None:
    server.replies = [reply]
    with pytest.raises(ExpansionError, match=complaint):
        expander(server).expand("a red fox", 0)


def test_an_endpoint_that_is_down_is_a_failure(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ExpansionError, match="m did not answer: Connection error"):
        expander(server, timeout=5.0).expand("a red fox", 0)


def test_without_the_package_it_says_what_to_install(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ExpansionError, match=r"pip install 'relay-diffusion\[expand\]'"):
        expander(server).expand("a red fox", 0)
