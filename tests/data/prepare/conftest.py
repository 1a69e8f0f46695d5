"""The tiny cascade of the pipeline tests, and a cache of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.conftest import cascade, cascade_folder

__all__ = ["cascade", "cascade_folder"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
