"""A model's answer, made into a caption or refused."""

from __future__ import annotations

import json

from relay_diffusion.data.pictures.faults import Fault
from relay_diffusion.data.pictures.records import escaped
from relay_diffusion.models.answers import is_refusal, plain, without_thoughts


class Unusable(Fault):
    """Why a picture got no caption, such as "too short", "3 words, at least 20"."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, " ".join(detail.split()))


def caption_of(answer: str, min_words: int, max_words: int) -> str:
    """The caption in an answer: one paragraph, one line.

    An answer in JSON is its ``result``: the instruction in CogView3's appendix B asks for
    questions, their answers and such a result.

    Raises: Unusable if it is empty, a refusal, too short or too long, or cannot be written down.
    """
    text = plain(_result(answer))
    if not text:
        raise Unusable("empty answer")
    if is_refusal(text):
        raise Unusable("refusal", text[:80])
    num_words = len(text.split())
    if num_words < min_words:
        raise Unusable("too short", f"{num_words} words, at least {min_words}: {text[:60]}")
    if num_words > max_words:
        raise Unusable("too long", f"{num_words} words, at most {max_words}: {text[:60]}")
    if escaped(text) != text:
        raise Unusable("not text", "half of a surrogate pair")
    return text


def _result(answer: str) -> str:
    bare = without_thoughts(answer)
    if not bare.startswith("{"):
        return answer
    try:
        result = json.loads(bare)["result"]
    except (ValueError, KeyError) as error:
        raise Unusable("JSON without result", bare[:60]) from error
    return result if isinstance(result, str) else ""
