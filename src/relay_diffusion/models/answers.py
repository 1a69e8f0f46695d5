"""What chat models put around the text that they were asked for, and how they refuse."""

from __future__ import annotations

import re

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_LABEL = re.compile(
    r"^\W*(?:(?:expanded|rewritten|final)\s+)?(?:prompt|caption)\W*:[\s*_]*", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"^(?:i['\u2019]?m sorry|i am sorry|sorry|i can(?:no|['\u2019])t"
    r"|i(?:['\u2019]?m| am) (?:unable|not able))\b",
    re.IGNORECASE,
)
_QUOTES = "\"'\u201c\u201d\u2018\u2019"


def without_thoughts(answer: str) -> str:
    """An answer without what the model thought aloud, and without the fence around it."""
    return _FENCE.sub("", _THOUGHTS.sub("", answer).strip())


def plain(answer: str) -> str:
    """The text of an answer in one line, without thoughts, labels and quotation marks around it;
    empty if nothing in it can be read."""
    text = " ".join(_LABEL.sub("", without_thoughts(answer)).split())
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        inside = text[1:-1]
        # "OPEN" and "CLOSED" are two signs in the picture; an apostrophe is no second quotation.
        if text[0] == "'" or text[0] not in inside:
            text = inside.strip()
    return text if any(map(str.isalnum, text)) else ""


def is_refusal(text: str) -> bool:
    """Whether a text begins as refusals do."""
    return _REFUSAL.match(text) is not None
