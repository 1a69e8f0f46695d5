"""A server, a cache of its own for each test, and a writer that needs neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.recaption.instruction import Instruction
from relay_diffusion.data.recaption.journal import Journal, journal_path
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.session import Watch, recaption
from relay_diffusion.data.recaption.settings import Settings
from relay_diffusion.data.recaption.writer import Answer
from tests.chat_server import Server, serving

LONG = "A red ramp runs from left to right and a green one down, over a blue that never changes"
SETTINGS = Settings("long", "caption", Instruction("Describe."), min_words=5)


def described(original: str | None) -> str:
    """What the writers here make of a picture; long enough, and another for each."""
    return f"{LONG}, which somebody called {original}."


class Scripted:
    """Describes pictures by their caption, unless told otherwise."""

    def __init__(self, answer: Callable[[Request], Answer] | None = None) -> None:
        self.model = "scripted"
        self.max_tokens, self.tries = 100, 1
        self.asked: list[str | None] = []
        self._answer = answer or (lambda request: Answer(described(request.original), 1000, 100))

    async def check(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, request: Request, tries: int | None = None) -> Answer:
        self.asked.append(request.original)
        return self._answer(request)


def go(data: Path, writer: Scripted, settings: Settings = SETTINGS) -> list[str]:
    """Recaption a data set, as the command does. Returns: the lines for the user."""
    lines: list[str] = []
    records = open_records(str(data))
    with Journal.held(journal_path(records, settings.field)) as journal:
        recaption(records, journal, settings, writer, Watch(lines.append))
    return lines


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(described("a picture")) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_cache_and_no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("RELAY_RECAPTION_MODEL", "RELAY_RECAPTION_BASE_URL", "RELAY_RECAPTION_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
