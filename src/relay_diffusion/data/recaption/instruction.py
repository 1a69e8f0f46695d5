"""What a model is told to write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path

from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class Instruction:
    """The same text for every picture."""

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
