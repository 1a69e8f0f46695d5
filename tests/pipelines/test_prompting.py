"""What is read of a prompt, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.prompting import remarks_on

from .tiny import PROMPT, generators


def test_an_empty_prompt_is_unconditional(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    embeds, _ = cascade.encode_prompt(["", PROMPT])
    assert not embeds[0].any() and embeds[1].any()
    assert caplog.messages == ["the prompt is empty: the picture shows whatever the networks like"]


def test_what_is_cut_off_a_long_prompt_is_said_once(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    long = "a red fox above a blue fox above a mushroom"  # 7 words and </s> fit
    short = "a red fox above a blue fox"
    for _ in range(2):
        embeds, _ = cascade.encode_prompt(long)
    (line,) = caplog.messages
    assert "longer than 8 tokens" in line and "'above a mushroom'" in line
    torch.testing.assert_close(embeds, cascade.encode_prompt(short)[0])


def test_what_is_cut_off_is_quoted_as_it_was_typed(cascade: RelayPipeline) -> None:
    start = "a red fox above a blue fox"
    cut, *_ = remarks_on(f"{start} Unknown\n mushroom, zzz", cascade.tokenizer, 8, None)
    assert cut.endswith("not read: 'Unknown mushroom, zzz'")
    cut, *_ = remarks_on(f"{start} {'above a mushroom ' * 99}", cascade.tokenizer, 8, None)
    quotation = cut.partition("not read: ")[2]
    assert len(quotation) <= 62 and quotation.startswith("'above a mushroom above")
    assert quotation.endswith("...'")


def test_a_negative_prompt_is_remarked_on_as_one(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade.encode_prompt(["a fox", "a blue fox"], "a red foxx above a blue fox above a mushroom")
    cut, unknown = caplog.messages
    assert cut.startswith("the negative prompt is longer than 8 tokens") and "'above a mush" in cut
    assert unknown.endswith("has never seen, in the negative prompt: 'foxx' (it knows 'fox')")
    caplog.clear()
    cascade.encode_prompt("a fox", "")
    assert not caplog.messages


def test_a_cascade_without_a_tokenizer_says_what_to_do(cascade_folder: Any) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, tokenizer=None)
    with pytest.raises(RelayError, match=r"has no tokenizer, or .* --tokenizer FOLDER, or give"):
        pipe(PROMPT)


def test_a_word_that_was_never_seen_is_named_with_the_nearest(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade.encode_prompt("a red foxx")
    (line,) = caplog.messages
    assert "'foxx'" in line and "'fox'" in line


def test_prompts_can_be_encoded_and_the_encoder_freed(cascade_folder: Any) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    whole = pipe(PROMPT, negative_prompt="a mushroom", generator=generators(6), output_type="pt")
    embeds, negative = pipe.encode_prompt(PROMPT, "a mushroom")
    pipe.text_encoder = None
    freed = pipe(
        prompt_embeds=embeds,
        negative_prompt_embeds=negative,
        generator=generators(6),
        output_type="pt",
    )
    assert torch.equal(freed.images, whole.images)
    with pytest.raises(RelayError, match="give prompt_embeds"):
        pipe(PROMPT)


def test_words_are_not_missed_by_a_tokenizer_that_spells_them() -> None:
    spelling = Tokenizer(BPE({"f": 0, "o": 1, "x": 2}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelling)
    assert not list(remarks_on("fox", tokenizer, 8, None))
    (line,) = remarks_on("fox", tokenizer, 8, ["cat", "box"])
    assert "'fox'" in line and "'box'" in line


def test_the_words_of_the_cascade_go_before_those_of_the_tokenizer(
    cascade: RelayPipeline,
) -> None:
    (line,) = remarks_on("a blue fox", cascade.tokenizer, 8, ["a", "fox", "glue"])
    assert "'blue'" in line and "'glue'" in line


def test_a_word_unlike_any_is_named_alone(cascade: RelayPipeline) -> None:
    (line,) = remarks_on("a zyzzyva above a foxx", cascade.tokenizer, 8, None, adapted=True)
    assert line.endswith(
        "in the prompt: 'zyzzyva', 'foxx' (it knows 'fox'), unless an adapter taught it"
    )
