"""CLIPScore, with a small CLIP of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.metrics.clip import ClipScorer
from tests.pipelines.tiny import tiny_tokenizer


def tiny_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    common = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = {**common, "vocab_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 8}
    vision = {**common, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(
        text_config={**text, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 0},
        vision_config=vision,
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_a_score_belongs_to_its_own_picture_and_prompt(tmp_path: Path) -> None:
    scorer = ClipScorer.from_pretrained(tiny_clip(tmp_path))
    pictures = [Image.new("RGB", (48, 32), "red"), Image.new("RGB", (16, 64), "blue")]
    prompts = ["a red fox", "a blue mushroom above a fox a fox a fox a fox a fox"]
    both = scorer.score(prompts, pictures)
    alone = [scorer.score([t], [p])[0] for t, p in zip(prompts, pictures, strict=True)]
    assert both == pytest.approx(alone, abs=1e-3)
    assert all(0 <= value <= 100 for value in both)
    assert scorer.score(prompts[::-1], pictures) != both


def test_a_folder_without_a_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="cannot be opened as a CLIP model"):
        ClipScorer.from_pretrained(tmp_path)
