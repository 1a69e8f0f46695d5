from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

# The tests share one tiny world; pytest's importlib mode finds no module beside a test by itself.
sys.path.insert(0, str(Path(__file__).parent))

from tiny_training import UNET, write_cascade

from relay_diffusion.training.networks import build_unet, save_half

# Networks this small lose time to a second thread, and the bit-for-bit tests should not depend on
# how many there are.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def starting_point(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade with random weights, whose relay stage may stand for the one to compare with."""
    folder = tmp_path_factory.mktemp("cascade")
    write_cascade(folder, base_size=32, num_inference_steps=4, relay_start=[300])
    save_half(build_unet({**UNET, "in_channels": 8}, 4, 16), folder / "concat_unet")
    return folder
