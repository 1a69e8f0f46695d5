"""A server on this machine that speaks as much of the OpenAI interface as is used here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str | bytes | dict[str, Any] | None]
"""Status; content of the message (of the error, if there is one), fields of the choice, or bytes
that are sent as they are."""

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


class Server(ThreadingHTTPServer):
    """Answers with ``replies`` in turn, or with what ``reply`` makes of a request, and keeps all.

    Attributes:
        delay: seconds before an answer.
        models: status of the list of models.
        usage: what is said of it.
    """

    def __init__(self, answer: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = [(200, answer)]
        self.reply: Callable[[dict[str, Any]], Reply] | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.delay = 0.0
        self.models = 200
        self.usage: dict[str, int] | None = USAGE

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *args: Any) -> None:
        """Clients that are killed are expected."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(self.server.models, json.dumps({"object": "list", "data": []}).encode())

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.times.append(time.monotonic())
        self.server.requests.append(request)
        self.server.keys.append(self.headers["Authorization"])
        time.sleep(self.server.delay)
        replies = self.server.replies
        if self.server.reply:
            status, content = self.server.reply(request)
        else:
            status, content = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(content, bytes):
            self._send(status, content)
            return
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if isinstance(content, dict):
            choice |= content
        else:
            choice["message"] = {"role": "assistant", "content": content}
        answer: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": self.server.usage,
        }  # fmt: skip
        if status != 200:
            answer = {"error": {"message": content}}
        self._send(status, json.dumps(answer).encode())

    def _send(self, status: int, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(answer: str) -> Iterator[Server]:
    with Server(answer) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
