from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

# The tests share one tiny world; pytest's importlib mode finds no module beside a test by itself.
sys.path.insert(0, str(Path(__file__).parent))

from tiny_training import TEXT_ENCODER, UNET, VAE, tokenizer

from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.training.networks import (
    build_text_encoder,
    build_unet,
    build_vae,
    save_half,
)

# Networks this small lose time to a second thread, and the bit-for-bit tests should not depend on
# how many there are.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def starting_point(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade with random weights, whose relay stage may stand for the one to compare with."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cascade")
    save_half(build_vae(VAE), folder / "vae")
    save_half(build_text_encoder(TEXT_ENCODER, 8), folder / "text_encoder")
    save_half(build_unet(UNET, 4, 16), folder / "base_unet")
    save_half(build_unet(UNET, 4, 16), folder / "relay_unet")
    save_half(build_unet({**UNET, "in_channels": 8}, 4, 16), folder / "concat_unet")
    tokenizer().save_pretrained(folder / "tokenizer")
    cascade_scheduler("v_prediction").save_pretrained(folder / "scheduler")
    index = {"max_tokens": 8, "base_size": 32, "num_inference_steps": 4, "relay_start": [300]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
