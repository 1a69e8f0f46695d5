"""Cascades for the tests, see tiny.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from relay_diffusion.pipelines.assemble import assemble
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.notices import warn_once

from .tiny import SETTINGS, tiny_cascade


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


@pytest.fixture
def siblings(cascade_folder: Path, distilled: RelayPipeline, tmp_path: Path) -> tuple[Path, Path]:
    """A cascade that names its fast sibling, and the sibling, side by side."""
    full = Path(shutil.copytree(cascade_folder, tmp_path / "full"))
    index = json.loads((full / "model_index.json").read_text())
    (full / "model_index.json").write_text(json.dumps({**index, "fast_sibling": "../fast"}))
    students = tmp_path / "students"
    distilled.save_pretrained(students)
    assemble(
        tmp_path / "fast",
        base_unet=students / "base_unet",
        relay_unet=students / "relay_unet",
        shares="../full",
        prediction_type=distilled.scheduler.config.prediction_type,
        dtype=torch.float32,
        **{name: distilled.config[name] for name in SETTINGS},
    )
    return full, tmp_path / "fast"


@pytest.fixture(autouse=True)
def _every_notice_is_new() -> None:
    warn_once.cache_clear()
