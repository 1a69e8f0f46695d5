"""The cascades that come with the package."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.models.registry import PACKAGED, resolve
from relay_diffusion.pipelines.cascade import RelayPipeline


def num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_together_they_stay_small() -> None:
    assert sum(num_bytes(resolve(name)) for name in PACKAGED) < 48e6


@pytest.fixture(scope="module")
def fast() -> RelayPipeline:
    pipe = RelayPipeline.from_pretrained("starter", fast=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_fast_one_takes_the_steps_that_it_was_made_for(
    fast: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    evaluations = []
    for unet in (fast.base_unet, fast.relay_unet):
        unet.register_forward_hook(lambda *_: evaluations.append(1))
    with caplog.at_level(logging.WARNING):
        picture = fast("a mushroom", generator=torch.Generator().manual_seed(0)).images[0]
    assert "is distilled for" not in caplog.text
    assert picture.size == (256, 256)
    assert len(evaluations) == 5  # four steps and one, guidance included


def test_the_fast_one_says_what_it_was_not_made_for(
    fast: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RelayError, match=r"guidance 9 is outside .* distilled for: 1 to 5"):
        fast("a mushroom", guidance_scale=9)
    with caplog.at_level(logging.WARNING):
        fast("a mushroom", num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    assert "the base network is distilled for 4 steps: 3 will look worse" in caplog.text
