"""The expander that runs a chat model here, on a random one of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from relay_diffusion.pipelines.prompts.chat_model import ChatModelExpander
from relay_diffusion.pipelines.prompts.expander import ExpansionError

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "fox", "stands", "on", "meadow")
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"


def chat_model(folder: Path, template: str | None = TEMPLATE) -> Path:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_local_model_answers_the_same_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_diffusion.pipelines.prompts.chat_model.MAX_NEW_TOKENS", 12)
    expander = ChatModelExpander(str(chat_model(tmp_path)), device="cpu")
    state = torch.get_rng_state()
    once = expander.expand("a red fox", 5)
    assert once == expander.expand("a red fox", 5)
    assert once and set(once.split()) <= set(WORDS)
    assert len(once.split()) <= 12
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_cannot_be_had_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ExpansionError, match="none cannot be opened"):
        ChatModelExpander(str(tmp_path / "none")).expand("a red fox", 0)
    with pytest.raises(ExpansionError, match="no chat template"):
        plain = chat_model(tmp_path / "plain", template=None)
        ChatModelExpander(str(plain), device="cpu").expand("a red fox", 0)
