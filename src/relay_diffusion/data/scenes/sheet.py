"""A contact sheet of scenes with their captions: the world at a glance."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 8
LINE_HEIGHT = 13


def contact_sheet(x: Tensor, captions: Sequence[str], columns: int) -> Image.Image:
    """Pictures (B, 3, H, W) in [-1, 1] in rows of ``columns``, each over its caption."""
    num, _, height, width = x.shape
    font = ImageFont.load_default(size=11)
    wrapped = [textwrap.wrap(caption, max(16, width // 6)) for caption in captions]
    text_height = LINE_HEIGHT * max((len(lines) for lines in wrapped), default=0)
    cell_width, cell_height = width + MARGIN, height + text_height + MARGIN
    rows = -(-num // columns)
    sheet = Image.new(
        "RGB", (columns * cell_width + MARGIN, rows * cell_height + MARGIN), (255, 255, 255)
    )
    draw = ImageDraw.Draw(sheet)
    pixels = ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    for index, (picture, lines) in enumerate(zip(pixels, wrapped, strict=True)):
        left = MARGIN + index % columns * cell_width
        top = MARGIN + index // columns * cell_height
        sheet.paste(Image.fromarray(picture), (left, top))
        for number, line in enumerate(lines):
            at = (left, top + height + 2 + number * LINE_HEIGHT)
            draw.text(at, line, fill=(40, 40, 40), font=font)
    return sheet
