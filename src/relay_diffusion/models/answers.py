"""What chat models put around the text that they were asked for, and how they refuse."""

from __future__ import annotations

import re

_THOUGHTS = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
"""Up to the last end: the beginning may be in the model's template, and not in the answer."""

_STILL_THINKING = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_LABEL = re.compile(
    r"^\W*(?:(?:expanded|rewritten|final)\s+)?(?:prompt|caption)\W*:[\s*_]*", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"^(?:unfortunately,? )?(?:i['\u2019]?m sorry|i am sorry|sorry|(?:i|my) apolog(?:i[sz]e|ies)"
    r"|i can(?:no|['\u2019])t|i(?:['\u2019]?m| am) (?:unable|not able)"
    r"|as an (?:ai|artificial intelligence)\b[^.]{0,60}\bi)\b",
    re.IGNORECASE,
)
_QUOTES = "\"'\u201c\u201d\u2018\u2019"


def without_thoughts(answer: str) -> str:
    """An answer without what the model thought aloud, and without the fence around it; empty if it
    breaks off in thought."""
    said = _THOUGHTS.sub("", answer)
    return "" if _STILL_THINKING.search(said) else _FENCE.sub("", said.strip())


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
