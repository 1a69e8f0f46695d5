"""Where the commands put their pictures."""

from __future__ import annotations

import re
from pathlib import Path

from relay_diffusion.errors import RelayError


class PictureFolder:
    """A folder whose pictures are numbered: they sort as they were made, none is overwritten."""

    def __init__(self, path: Path) -> None:
        """Make the folder if need be. Raises: RelayError if that cannot be done."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RelayError(f"{path} cannot be a folder for pictures: {error.strerror}") from error
        numbers = [re.match(r"(\d+)-", file.name) for file in path.iterdir()]
        self._last = max((int(match[1]) for match in numbers if match), default=0)
        self._path = path

    def next(self, words: str) -> Path:
        """The name of the next picture: its number, then ``words`` as far as names allow them."""
        self._last += 1
        slug = re.sub(r"\W+", "-", words.lower()).strip("-")
        return self._path / f"{self._last:04d}-{slug}.png"
