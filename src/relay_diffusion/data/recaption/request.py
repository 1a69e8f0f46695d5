"""What a model is asked about a picture."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from relay_diffusion.data.pictures.decoding import decode
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.errors import RelayError

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Instruction:
    """What to write, the same for every picture."""

    text: str

    @cached_property
    def version(self) -> str:
        """Changes whenever the text does."""
        return sha256(self.text.encode()).hexdigest()[:12]

    @classmethod
    def read(cls, path: Path | None = None) -> Instruction:
        """Of a file, or the one that comes with the package.

        Raises: RelayError if the file cannot be read, is not UTF-8 or is blank.
        """
        packaged = resources.files("relay_diffusion.data.recaption") / "instruction.txt"
        try:
            text = (path or packaged).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RelayError(f"cannot read the instruction {path}: {error}") from error
        if not text:
            raise RelayError(f"the instruction {path} is blank: write what captions shall say")
        return cls(text)


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


def make_request(
    records: Records, i: int, instruction: Instruction, original: str | None, side: int
) -> Request:
    """The request for a record.

    Args:
        original: the field of the caption that goes along; None for none.
        side: of the picture, at most; larger ones are made smaller.
    Raises: PictureFault.
    """
    caption = records.texts(i).captions.get(original) if original else None
    with records.open(i) as file:
        picture = decode(file, least=side)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Request(instruction, picture, caption)
