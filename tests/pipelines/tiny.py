"""A whole cascade of a few thousand random weights: base 32, relay to 64 and 128."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.pipelines.cascade import RelayPipeline

WORDS = ("a", "red", "blue", "fox", "above", "mushroom", "pixel", "art")


PROMPT = "a red fox above a mushroom"

SETTINGS = (
    "base_size",
    "max_tokens",
    "relay_start",
    "guidance_scale",
    "guidance_range",
    "num_inference_steps",
    "num_relay_steps",
    "solver",
)
"""Of a cascade, that a sibling made of it keeps."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_unet(seed: int, **changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (1, 2),
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 48,
        "use_linear_projection": True,
    }
    unet = UNet2DConditionModel(**{**config, **changes}).eval()
    if unet.config.time_cond_proj_dim is not None:  # zero at first, when guidance has no effect
        torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    return unet


def tiny_cascade(unets: dict[str, Any] | None = None, **config: Any) -> RelayPipeline:
    """``unets``: changed arguments of both; ``config``: of the pipeline."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        norm_num_groups=2,
        latent_channels=4,
        sample_size=64,
    ).eval()
    text = T5Config(
        vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    pipe = RelayPipeline(
        text_encoder=T5EncoderModel(text).eval(),
        tokenizer=tiny_tokenizer(),
        vae=vae,
        base_unet=tiny_unet(1, **(unets or {})),
        relay_unet=tiny_unet(2, **(unets or {})),
        scheduler=cascade_scheduler(),
        **{
            "base_size": 32,
            "num_inference_steps": 3,
            "num_relay_steps": 2,
            "relay_start": [500, 300],
            "max_tokens": 8,
            **config,
        },
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def record_calls(
    monkeypatch: pytest.MonkeyPatch, unet: UNet2DConditionModel
) -> list[dict[str, Any]]:
    """Keep what a network is called with."""
    calls: list[dict[str, Any]] = []
    forward = unet.forward

    def recording(sample: Tensor, timestep: Tensor, **kwargs: Any) -> Any:
        calls.append({"sample": sample, "timestep": timestep, **kwargs})
        return forward(sample, timestep, **kwargs)

    monkeypatch.setattr(unet, "forward", recording)
    return calls
