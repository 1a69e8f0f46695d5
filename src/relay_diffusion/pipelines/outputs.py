"""Where the commands put their pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay_diffusion.errors import RelayError

MOST_LETTERS = 60
MOST_BYTES = 120
"""Of the words in a name: file systems count its bytes, and 255 are to do for all of it."""


class PictureFolder:
    """A folder whose pictures are numbered: they sort as they were made, none is overwritten, also
    where two processes write into it."""

    def __init__(self, path: Path) -> None:
        """Make the folder if need be. Raises: RelayError if that cannot be done."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RelayError(f"{path} cannot be a folder for pictures: {error.strerror}") from error
        numbers = [re.match(r"(\d+)-", file.name) for file in path.iterdir()]
        self._last = max((int(match[1]) for match in numbers if match), default=0)
        self._path = path

    @contextmanager
    def next(self, words: str, end: str = "") -> Iterator[Path]:
        """A new file for the next picture, named by its number, ``words`` as far as there is room,
        and ``end``; removed again if the block raises."""
        path = self._reserved("-".join(filter(None, (_slug(words), _slug(end)))))
        try:
            yield path
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _reserved(self, slug: str) -> Path:
        while True:
            self._last += 1
            path = self._path / f"{self._last:04d}-{slug}.png"
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            return path


def _slug(words: str) -> str:
    joined = re.sub(r"\W+", "-", words[:MOST_LETTERS].lower())
    return joined.encode()[:MOST_BYTES].decode(errors="ignore").strip("-")
