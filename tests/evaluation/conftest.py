"""A judge that has learnt nothing and drawings of shapes, for the small world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.world import World
from relay_diffusion.evaluation.entries import Entry
from relay_diffusion.evaluation.instruments import Instruments
from relay_diffusion.evaluation.judge import Judge
from relay_diffusion.evaluation.judge.network import NO_TINT, Answers, JudgeNetwork
from relay_diffusion.evaluation.run import Settings, evaluate
from relay_diffusion.evaluation.suites.prompt import Prompt, Suite
from tests.data.shapes import shapes_atlas
from tests.pipelines.conftest import cascade, cascade_folder

__all__ = ["cascade", "cascade_folder"]

CPU = torch.device("cpu")
PROMPTS = tuple(Prompt(text) for text in ("a red fox", "a blue mushroom", "pixel art"))
Paint = Callable[..., dict[str, Any]]


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


@pytest.fixture
def paint(cascade_folder: Path) -> Paint:
    """A run that measures nothing: a picture of each of three prompts, ``batch`` at once, for
    each suite of ``names``."""

    def go(
        out: Path, batch: int = 1, names: Sequence[str] = ("mine",), **options: Any
    ) -> dict[str, Any]:
        entries = [
            Entry("tiny", str(cascade_folder), options={"steps": 1, "size": (64, 64), **options})
        ]
        suites = [Suite(name, PROMPTS) for name in names]
        return evaluate(entries, suites, Settings(1, 0, batch), out, Instruments(CPU))

    return go
