"""Cascades for the tests, see tiny.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.notices import warn_once

from .tiny import tiny_cascade


@pytest.fixture(scope="session")
def cascade() -> RelayPipeline:
    """Shared by all tests: what one changes in it, it puts back."""
    return tiny_cascade()


@pytest.fixture
def distilled() -> RelayPipeline:
    """Guidance from 2 to 9 embedded in both networks; base 4 steps, relay 1 or 2."""
    return tiny_cascade(
        {"time_cond_proj_dim": 16},
        guidance_range=[2.0, 9.0],
        num_inference_steps=4,
        num_relay_steps=1,
        trained_base_steps=4,
        trained_relay_steps=[1, 2],
    )


@pytest.fixture(scope="session")
def cascade_folder(cascade: RelayPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "cascade"
    cascade.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _every_notice_is_new() -> None:
    warn_once.cache_clear()
