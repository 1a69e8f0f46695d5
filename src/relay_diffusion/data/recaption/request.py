"""What a model is asked about a picture."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from relay_diffusion.data.pictures.decoding import decode
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.recaption.instruction import Instruction
from relay_diffusion.data.recaption.settings import Settings

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Request:
    """A picture, RGB, and the caption that it has, if any."""

    instruction: Instruction
    picture: Image.Image
    original: str | None

    def content(self, picture: dict[str, Any]) -> list[dict[str, Any]]:
        """The parts of the message. What all requests share comes first, where servers that keep
        common beginnings, such as vLLM, need to read it only once.

        Args:
            picture: the part that is the picture, as the model's interface has it.
        """
        parts = [{"type": "text", "text": self.instruction.text}, picture]
        if self.original:
            parts.append({"type": "text", "text": f"Original caption: {self.original}"})
        return parts

    def data_url(self) -> str:
        """The picture as JPEG within an address."""
        file = io.BytesIO()
        self.picture.save(file, "JPEG", quality=JPEG_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def make_request(records: Records, i: int, settings: Settings) -> Request:
    """The request for a record, its picture made smaller where it is too large.

    Raises: PictureFault.
    """
    captions = records.texts(i).captions
    with records.open(i) as file:
        picture = decode(file, least=settings.side)
    picture.thumbnail((settings.side, settings.side), Image.Resampling.LANCZOS)
    original = captions.get(settings.original) if settings.original else None
    return Request(settings.instruction, picture, original)
