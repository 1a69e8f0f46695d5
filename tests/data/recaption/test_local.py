"""The writer that runs a vision-language model here, on a random one of a few thousand weights."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from relay_diffusion.data.recaption.instruction import Instruction
from relay_diffusion.data.recaption.local import LocalWriter
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError
from tests.data.drawn import picture

WORDS = [
    "<pad>",
    "</s>",
    "<unk>",
    "<image>",
    "a",
    "red",
    "fox",
    "stands",
    "on",
    "meadow",
    "Describe",
]
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)
REQUEST = Request(Instruction("Describe"), picture(0, 40, 30), "a fox")


def vision_model(folder: Path, template: str | None = TEMPLATE, **generation: Any) -> Path:
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    side = {"height": 28, "width": 28}
    LlavaProcessor(
        CLIPImageProcessor(size=side, crop_size=side, do_center_crop=True),
        fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    torch.manual_seed(1)
    shape = {"intermediate_size": 32, "num_attention_heads": 2, "hidden_size": 16}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(num_hidden_layers=2, image_size=28, patch_size=14, **shape),
        text_config=LlamaConfig(
            vocab_size=len(WORDS), num_hidden_layers=1, pad_token_id=0, eos_token_id=1, **shape
        ),
        image_token_index=WORDS.index("<image>"),
    )
    network = LlavaForConditionalGeneration(config)
    network.generation_config.update(suppress_tokens=[0, 2, 3], **generation)
    network.save_pretrained(folder)
    return folder


def write(folder: Path, max_tokens: int, request: Request = REQUEST) -> Answer:
    async def run() -> Any:
        writer = LocalWriter(str(folder), torch.device("cpu"), torch.float32, max_tokens)
        await writer.check()
        return await writer.write(request)

    return asyncio.run(run())


def test_a_local_model_reads_picture_and_caption_and_counts_tokens(tmp_path: Path) -> None:
    model = vision_model(tmp_path, forced_eos_token_id=1)
    answer = write(model, 7)
    assert answer.flaw == ""
    assert len(answer.text.split()) == answer.completion_tokens - 1 <= 6
    assert set(answer.text.split()) <= set(WORDS)
    # Describe, 2 x 2 patches, and Original caption: a fox
    assert answer.prompt_tokens == 1 + 4 + 4
    assert write(model, 7, Request(REQUEST.instruction, REQUEST.picture, None)).prompt_tokens == 5


def test_an_answer_that_has_no_end_is_cut_off(tmp_path: Path) -> None:
    answer = write(vision_model(tmp_path, bad_words_ids=[[1]]), 7)
    assert answer.flaw == "cut off"
    assert len(answer.text.split()) == answer.completion_tokens == 7


def test_a_stopped_run_does_not_wait_for_the_end_of_an_answer(tmp_path: Path) -> None:
    model = vision_model(tmp_path, bad_words_ids=[[1]])
    passes: list[int] = []

    async def run() -> None:
        writer = LocalWriter(str(model), torch.device("cpu"), torch.float32, 3000)
        await writer.check()
        writer._network.register_forward_hook(lambda *_: passes.append(1))
        writing = asyncio.create_task(writer.write(REQUEST))
        while not passes and not writing.done():
            await asyncio.sleep(0.01)
        writing.cancel()
        await writer.close()

    asyncio.run(run())
    assert 0 < len(passes) < 2000


def test_a_model_that_cannot_be_had_or_told_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="none cannot be opened"):
        write(tmp_path / "none", 4)
    with pytest.raises(RelayError, match="it has no chat template"):
        write(vision_model(tmp_path / "plain", template=None), 4)
