"""A judge that has learnt nothing and drawings of shapes, for the small world."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.world import World
from relay_diffusion.evaluation.judge import Judge
from relay_diffusion.evaluation.judge.network import NO_TINT, Answers, JudgeNetwork
from tests.data.shapes import shapes_atlas
from tests.pipelines.conftest import cascade, cascade_folder

__all__ = ["cascade", "cascade_folder"]


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    world = World.small()
    answers = Answers(world.subjects, (NO_TINT, *world.tints), world.backgrounds, world.styles)
    folder = tmp_path_factory.mktemp("judge")
    Judge(JudgeNetwork(answers, width=8), {"rendered": {"count": 0.9}}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    return shapes_atlas(World.small().subjects)
