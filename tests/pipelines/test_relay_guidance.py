"""The relay stages have a guidance scale of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.models.guidance import guidance_embedding
from relay_diffusion.pipelines.cascade import RelayPipeline

from .test_upscale import picture
from .tiny import PROMPT, generators, record_calls, tiny_cascade, tiny_unet


@pytest.fixture(scope="module")
def own() -> RelayPipeline:
    """A cascade whose relay runs unguided by default."""
    return tiny_cascade(guidance_scale=7.5, relay_guidance_scale=1.0)


def halves(
    monkeypatch: pytest.MonkeyPatch, pipe: RelayPipeline, **scales: float
) -> tuple[set[int], set[int]]:
    """How many guidance halves each evaluation of the base and of the relay network had."""
    base = record_calls(monkeypatch, pipe.base_unet)
    relay = record_calls(monkeypatch, pipe.relay_unet)
    pipe(PROMPT, height=128, width=128, **scales)
    assert (len(base), len(relay)) == (3, 2 * 2)
    return {len(call["sample"]) for call in base}, {len(call["sample"]) for call in relay}


@pytest.mark.parametrize(
    ("default", "scales", "base", "relay"),
    [
        # Without a default of its own the relay follows the base stage.
        (None, {}, 2, 2),
        (None, {"guidance_scale": 1.0}, 1, 1),
        (None, {"relay_guidance_scale": 1.0}, 2, 1),
        (None, {"guidance_scale": 1.0, "relay_guidance_scale": 3.0}, 1, 2),
        # One gives way only to what is asked of the relay.
        (1.0, {}, 2, 1),
        (1.0, {"guidance_scale": 3.0}, 2, 1),
        (1.0, {"guidance_scale": 1.0, "relay_guidance_scale": 3.0}, 1, 2),
    ],
)
def test_each_stage_is_guided_by_its_own_scale(
    cascade: RelayPipeline,
    own: RelayPipeline,
    monkeypatch: pytest.MonkeyPatch,
    default: float | None,
    scales: dict[str, float],
    base: int,
    relay: int,
) -> None:
    pipe = cascade if default is None else own
    assert pipe.config.relay_guidance_scale == default
    assert halves(monkeypatch, pipe, **scales) == ({base}, {relay})


def test_it_changes_the_relayed_picture_and_not_the_one_below(cascade: RelayPipeline) -> None:
    def made(**scales: float) -> list[Any]:
        return cascade(PROMPT, generator=generators(0), output_type="pt", **scales).stages

    followed, same, other = (
        made(guidance_scale=3.0),
        made(guidance_scale=3.0, relay_guidance_scale=3.0),
        made(guidance_scale=3.0, relay_guidance_scale=9.0),
    )
    assert all(torch.equal(a, b) for a, b in zip(followed, same, strict=True))
    assert torch.equal(other[0], followed[0])
    assert (other[1] - followed[1]).abs().max() > 1e-3


def test_upscaling_runs_at_the_relays_scale(
    own: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, own.relay_unet)
    for scales, num in (({}, 1), ({"guidance_scale": 3.0}, 2)):
        calls.clear()
        own.upscale(picture(32, 32), PROMPT, **scales)
        assert {len(call["sample"]) for call in calls} == {num}
    with pytest.raises(RelayError, match="relay guidance -1; give a number of 0 or more"):
        own.upscale(picture(32, 32), PROMPT, guidance_scale=-1)


def test_a_student_of_the_relay_is_told_its_own(
    distilled: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    for stage in ("base", "relay"):
        told[stage] = record_calls(monkeypatch, getattr(distilled, f"{stage}_unet"))
    distilled(PROMPT, guidance_scale=4.0, relay_guidance_scale=2.0)
    for stage, scale in (("base", 4.0), ("relay", 2.0)):
        expected = guidance_embedding(torch.tensor([scale]), 16)
        torch.testing.assert_close(told[stage][-1]["timestep_cond"], expected)


def test_each_student_refuses_what_is_outside_its_own_range(distilled: RelayPipeline) -> None:
    relay_range = r"relay guidance {} is outside .* the relay network was distilled for: {}"
    with pytest.raises(RelayError, match=relay_range.format(12, "2 to 9")):
        distilled(PROMPT, relay_guidance_scale=12)
    distilled.register_to_config(relay_guidance_range=[1.0, 3.0])
    distilled(PROMPT, guidance_scale=9, relay_guidance_scale=1)
    distilled.upscale(picture(32, 32), guidance_scale=1)
    with pytest.raises(RelayError, match=relay_range.format(4, "1 to 3")):
        distilled(PROMPT, guidance_scale=4)
    with pytest.raises(RelayError, match=relay_range.format(4, "1 to 3")):
        distilled.upscale(picture(32, 32), guidance_scale=4)


def test_a_relay_that_is_no_student_has_no_range(distilled: RelayPipeline) -> None:
    distilled.register_modules(relay_unet=tiny_unet(2))
    distilled(PROMPT, relay_guidance_scale=12)
    with pytest.raises(RelayError, match="the base network was distilled for: 2 to 9"):
        distilled(PROMPT, guidance_scale=12, relay_guidance_scale=3)


def test_a_folder_may_say_it_or_not(cascade_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cascade_folder, tmp_path / "copy"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index.pop("relay_guidance_scale") is None
    for said in ({}, {"relay_guidance_scale": 2}):
        (folder / "model_index.json").write_text(json.dumps({**index, **said}))
        opened = RelayPipeline.from_pretrained(folder)
        assert opened.config.relay_guidance_scale == said.get("relay_guidance_scale")
