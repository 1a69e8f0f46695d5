"""Parts of another cascade are opened as one's own would be, and no more of them than wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline

from relay_diffusion.pipelines.cascade import RelayPipeline


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What diffusers is told to open, by the name of the folder; it is told of no quantisation."""
    told: dict[str, dict[str, Any]] = {}
    plain = DiffusionPipeline.from_pretrained.__func__  # type: ignore[attr-defined]

    def open_plain(cls: Any, folder: Path, **kwargs: Any) -> Any:
        told[folder.name] = dict(kwargs)
        kwargs.pop("quantization_config", None)
        return plain(cls, folder, **kwargs)

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(open_plain))
    return told


def test_shared_parts_are_quantised_as_asked(
    siblings: tuple[Path, Path], opened: dict[str, dict[str, Any]]
) -> None:
    RelayPipeline.from_pretrained(siblings[1], quantization_config="int8")
    assert {name: told["quantization_config"] for name, told in opened.items()} == {
        "full": "int8",
        "fast": "int8",
    }


def test_parts_that_are_not_wanted_are_not_lent(
    siblings: tuple[Path, Path], opened: dict[str, dict[str, Any]]
) -> None:
    pipe = RelayPipeline.from_pretrained(siblings[1], text_encoder=None, tokenizer=None)
    assert pipe.text_encoder is None and pipe.vae is not None
    unwanted = {name for name, part in opened["full"].items() if part is None}
    assert unwanted == {"text_encoder", "tokenizer", "base_unet", "relay_unet"}
    opened.clear()
    RelayPipeline.from_pretrained(siblings[1], text_encoder=None, tokenizer=None, vae=pipe.vae)
    assert opened.keys() == {"fast"}
