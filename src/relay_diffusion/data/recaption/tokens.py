"""How many tokens a picture takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay_diffusion.data.pictures.decoding import measure
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.recaption.journal import Entry
from relay_diffusion.data.recaption.settings import Settings

PIXELS_PER_TOKEN = 28 * 28
"""Of Qwen2-VL (arXiv:2409.12191, section 2.1), which merges 2 x 2 patches of 14 x 14 pixels. Others
count in other ways, so this is a guess until a model has answered."""

CHARACTERS_PER_TOKEN = 4
COMPLETION_TOKENS = 220
"""Of the 150 words that the packaged instruction asks for on average, about."""

NUM_MEASURED = 64


@dataclass(frozen=True)
class Tokens:
    """Of one picture, on average."""

    prompt: float
    completion: float


def expected_tokens(
    answered: Iterable[Entry], records: Records, ask: Sequence[int], settings: Settings
) -> Tokens:
    """From the answers that there are or, before the first, from the sizes of some pictures."""
    counted = [entry for entry in answered if entry.prompt_tokens]
    if counted:
        return Tokens(
            sum(entry.prompt_tokens for entry in counted) / len(counted),
            sum(entry.completion_tokens for entry in counted) / len(counted),
        )
    pixels = []
    for i in ask[:: max(1, len(ask) // NUM_MEASURED)]:
        try:
            with records.open(i) as file:
                height, width = measure(file)
        except PictureFault:
            continue
        scale = min(1.0, settings.side / max(height, width))
        pixels.append(height * width * scale**2)
    pictures = sum(pixels) / max(1, len(pixels)) / PIXELS_PER_TOKEN
    return Tokens(
        pictures + len(settings.instruction.text) / CHARACTERS_PER_TOKEN, COMPLETION_TOKENS
    )
