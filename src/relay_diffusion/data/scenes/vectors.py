"""SVG documents to pixels (resvg, the one place that needs the ``data`` extra)."""

from __future__ import annotations

import io

from PIL import Image

from relay_diffusion.errors import RelayError


def rasterise(svg: str, side: int) -> Image.Image:
    """An SVG document as a square RGBA picture of ``side`` pixels, centred, aspect kept."""
    try:
        import resvg_py
    except ImportError:
        raise RelayError(
            "drawing vectors needs resvg: pip install 'relay-diffusion[data]'"
        ) from None
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if picture.size == (side, side):
        return picture
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
