"""What is said of a download holds for everything that is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.cascade import RelayPipeline


@pytest.fixture
def asked(
    siblings: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, dict[str, Any]]]:
    """What the hub is asked for; it has owner/full and owner/fast, which name each other."""
    full, fast = siblings
    for folder, key in ((full, "fast_sibling"), (fast, "shares")):
        file = folder / "model_index.json"
        other = "owner/fast" if key == "fast_sibling" else "owner/full"
        file.write_text(json.dumps({**json.loads(file.read_text()), key: other}))
    calls: list[tuple[str, dict[str, Any]]] = []

    def snapshot_download(hub_id: str, **settings: Any) -> str:
        del settings["allow_patterns"]
        calls.append((hub_id, settings))
        return str({"owner/full": full, "owner/fast": fast}[hub_id])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_a_lender_is_downloaded_as_the_cascade_is(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    how = {"token": "secret", "cache_dir": tmp_path, "local_files_only": True}
    RelayPipeline.from_pretrained("owner/fast", revision="v2", force_download=True, **how)
    how["force_download"] = True
    # Each once, however many parts there are; the revision is that of the cascade named.
    assert asked == [
        ("owner/fast", {"revision": "v2", **how}),
        ("owner/full", {"revision": None, **how}),
    ]


def test_so_is_a_fast_sibling(asked: list[tuple[str, dict[str, Any]]]) -> None:
    RelayPipeline.from_pretrained("owner/full", fast=True, revision="v2", token="secret")
    assert asked == [
        ("owner/full", {"revision": "v2", "token": "secret"}),
        ("owner/fast", {"revision": None, "token": "secret"}),
        ("owner/full", {"revision": None, "token": "secret"}),
    ]


def test_the_hub_is_asked_once_without_settings_too(
    asked: list[tuple[str, dict[str, Any]]],
) -> None:
    RelayPipeline.from_pretrained("owner/fast")
    assert [hub_id for hub_id, _ in asked] == ["owner/fast", "owner/full"]


def test_an_id_is_one_whatever_lies_in_the_working_directory(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "full").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    RelayPipeline.from_pretrained("owner/fast")
    assert [hub_id for hub_id, _ in asked] == ["owner/fast", "owner/full"]


def test_what_was_said_is_forgotten_afterwards(asked: list[tuple[str, dict[str, Any]]]) -> None:
    RelayPipeline.from_pretrained("owner/full", token="secret")
    RelayPipeline.from_pretrained("owner/full")
    assert asked[-1] == ("owner/full", {"revision": None})


def test_proxies_are_not_dropped_in_silence() -> None:
    with pytest.raises(RelayError, match="takes no proxies: set HTTPS_PROXY"):
        RelayPipeline.from_pretrained("owner/full", proxies={"https": "http://localhost"})
