"""The expander behind an OpenAI-compatible endpoint, against a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay_diffusion.pipelines.prompts import endpoint
from relay_diffusion.pipelines.prompts.endpoint import EndpointExpander
from relay_diffusion.pipelines.prompts.expander import ExpansionError
from relay_diffusion.pipelines.prompts.instructions import messages
from tests.chat_server import Reply, Server, serving

ANSWER = "A red fox stands on a meadow."


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(ANSWER) as running:
        yield running


@pytest.fixture(autouse=True)
def _asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 0)


def expander(server: Server) -> EndpointExpander:
    return EndpointExpander("m", server.url, "k")


def test_the_endpoint_is_asked_as_the_paper_asks(server: Server) -> None:
    assert expander(server).expand("a red fox", 2**40 + 7) == ANSWER
    (request,) = server.requests
    assert request["messages"] == messages("a red fox")
    assert (request["model"], request["temperature"], request["top_p"]) == ("m", 0.01, 0.7)
    assert request["seed"] == 7
    assert server.keys == ["Bearer k"]


def test_a_server_that_fails_for_a_moment_is_asked_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    server.replies = [(500, "busy"), (200, ANSWER)]
    assert expander(server).expand("a red fox", 0) == ANSWER


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
        ((200, {"finish_reason": "length", "message": {"content": ANSWER}}), "was cut off"),
        ((200, "fox " * 5000), "5000 words"),
        ((200, "红色的狐狸站在草地上"), "not in English"),
    ],
)
def test_bad_answers_are_failures(server: Server, reply: Reply, complaint: str) -> None:
    server.replies = [reply]
    with pytest.raises(ExpansionError, match=complaint):
        expander(server).expand("a red fox", 0)


def test_an_endpoint_that_is_down_is_a_failure(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ExpansionError, match="m did not answer: Connection error"):
        expander(server).expand("a red fox", 0)


def test_without_the_package_it_says_what_to_install(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ExpansionError, match=r"pip install 'relay-diffusion\[expand\]'"):
        expander(server).expand("a red fox", 0)
