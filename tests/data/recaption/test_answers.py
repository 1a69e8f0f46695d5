"""What is taken for a caption and what is not."""

from __future__ import annotations

import json

import pytest

from relay_diffusion.data.recaption.answers import Unusable, caption_of

FOX = "A red fox stands on a snowy meadow at dusk."


@pytest.mark.parametrize(
    "answer",
    [
        FOX,
        f'"{FOX}"',
        f"\u201c{FOX}\u201d\n",
        f"<think>A fox?\n\nYes.</think>\n{FOX}",
        f"A fox? In <think> I said so.</think> Or a dog?\n</think>\n{FOX}",
        f"**Caption:** {FOX}",
        f"```\n{FOX}\n```",
        FOX.replace(" stands", "\n\nstands"),
        json.dumps({"queries": [{"question": "What?", "answer": "A fox."}], "result": FOX}),
        f"```json\n{json.dumps({'result': FOX})}\n```",
    ],
)
def test_a_caption_is_one_paragraph_without_what_stands_around_it(answer: str) -> None:
    assert caption_of(answer, 5, 50) == FOX


@pytest.mark.parametrize(
    "caption",
    [
        "As an AI robot looks on, a fox stands on a meadow. I",
        "Unfortunately labelled, a box of foxes stands on a meadow.",
    ],
)
def test_what_only_begins_like_a_refusal_is_none(caption: str) -> None:
    assert caption_of(caption, 5, 50) == caption


def test_quotation_marks_of_the_picture_stay() -> None:
    signs = '"OPEN" is written above a door, and below it "CLOSED"'
    assert caption_of(signs, 5, 50) == signs


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty answer"),
        (' "..." ', "empty answer"),
        ("I'm sorry, but I cannot describe the people in this picture.", "refusal: I'm sorry"),
        ("I am unable to help with that one today.", "refusal"),
        ("I apologize, but this picture shows people.", "refusal"),
        ("Unfortunately, I can\u2019t describe the picture.", "refusal"),
        ("As an AI language model, I do not look at pictures.", "refusal"),
        (f"<think>{FOX} Or is it a dog, I wonder", "empty answer"),
        (f"{FOX}</think>\n<thinking>{FOX} Or", "empty answer"),
        ("A fox.", "too short: 2 words, at least 5"),
        ("fox " * 51, "too long: 51 words, at most 50"),
        ('{"queries": []}', "JSON without result"),
        ('{"result": "A red fox', "JSON without result"),
        (f"{FOX} \ud83d", "not text"),
    ],
)
def test_what_is_no_caption_says_why(answer: str, reason: str) -> None:
    with pytest.raises(Unusable, match=f"^{reason}"):
        caption_of(answer, 5, 50)
