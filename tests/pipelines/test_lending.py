"""Parts of another cascade are opened as one's own would be, and no more of them than wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.assemble import assemble
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.lending import parts_of_differences


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What diffusers is told to open, by the name of the folder; it is told of no quantisation."""
    told: dict[str, dict[str, Any]] = {}
    plain = DiffusionPipeline.from_pretrained.__func__  # type: ignore[attr-defined]

    def open_plain(cls: Any, folder: str, **kwargs: Any) -> Any:
        told[Path(folder).name] = dict(kwargs)
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


def test_shared_parts_are_loaded_as_ones_own(
    siblings: tuple[Path, Path], opened: dict[str, dict[str, Any]]
) -> None:
    how = {"device_map": "cpu", "disable_mmap": True, "low_cpu_mem_usage": True}
    RelayPipeline.from_pretrained(siblings[1], **how)
    assert {name: told.items() >= how.items() for name, told in opened.items()} == {
        "full": True,
        "fast": True,
    }


@pytest.fixture
def low_rank(siblings: tuple[Path, Path], tmp_path: Path) -> Path:
    """A cascade whose relay stage is stored as its difference from the base stage, which it is."""
    full, _ = siblings
    parts = {part: full / part for part in ("base_unet", "text_encoder", "tokenizer", "vae")}
    assemble(tmp_path / "low_rank", **parts, relay_unet=full / "base_unet", rank=1)
    return tmp_path / "low_rank"


def test_a_network_of_a_difference_comes_to_the_device_that_is_mapped(low_rank: Path) -> None:
    (unet,) = parts_of_differences(low_rank, {}, {"device_map": "meta"}).values()
    assert unet.device == torch.device("meta")
    with pytest.raises(RelayError, match="device cuda:99"):
        parts_of_differences(low_rank, {}, {"device_map": "cuda:99"})


def test_what_cannot_be_balanced_is_refused(siblings: tuple[Path, Path], low_rank: Path) -> None:
    for folder, parts in (
        (siblings[1], "text_encoder, tokenizer, vae"),
        (low_rank, "relay_unet"),
    ):
        with pytest.raises(RelayError, match=f"{parts} of .* cannot balance: give a device_map of"):
            RelayPipeline.from_pretrained(folder, device_map="balanced", dtype=torch.float32)
