"""The text objective: its loss by hand, and an encoder that comes to tell captions apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.run import run
from relay_diffusion.training.text import contrastive_loss

WORDS = ("fox", "owl", "cat", "key", "bus", "crab", "cake", "rose")


class Captions:
    """Two ways of saying one of eight things; no pictures."""

    def caption_pairs(self, step: int, batch_size: int) -> Sequence[tuple[str, str]]:
        chosen = [WORDS[(step + i) % len(WORDS)] for i in range(batch_size)]
        return [(f"a {word}", f"this picture shows a small {word} .") for word in chosen]


def recipe(out: Path, **optimizer: float):
    return recipe_from_dict(
        {
            "run": {"name": "text", "objective": "text", "steps": 40, "out": str(out)},
            "data": {"batch_size": 8},
            "model": {
                "max_tokens": 16,
                "text_encoder": {
                    "d_model": 32,
                    "d_kv": 8,
                    "d_ff": 32,
                    "num_layers": 1,
                    "num_heads": 2,
                },
            },
            "optimizer": {"lr": 5e-3, "warmup": 1, **optimizer},
            "validation": {"every": 40, "num_pictures": 8},
            "preview": {"every": 0},
        }
    )


def test_the_loss_is_the_mean_of_both_directions() -> None:
    similarity = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    forth = -math.log(math.exp(2.0) / (math.exp(2.0) + 1))
    back = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.0)))
    loss = contrastive_loss(similarity, temperature=0.5)
    assert loss.shape == (2,)
    assert float(loss[0]) == pytest.approx((forth + back) / 2, rel=1e-5)


def test_an_encoder_learns_which_captions_say_the_same(tmp_path: Path) -> None:
    assert run(recipe(tmp_path), source=lambda split, views: Captions())
    log = (tmp_path / "text" / "log.jsonl").read_text()
    assert '"validation/retrieval": 1.0' in log
    export = tmp_path / "text" / "export"
    assert (export / "text_encoder" / "model.safetensors").is_file()
    assert (export / "tokenizer" / "tokenizer.json").is_file()


def test_a_batch_that_would_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="accumulate must be 1"):
        run(recipe(tmp_path, accumulate=2), source=lambda split, views: Captions())
