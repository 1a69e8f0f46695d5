"""A part of a file as a file of its own, of which only what is asked for is read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast


class _Window(io.RawIOBase):
    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = min(len(buffer), max(0, self._size - self._at))
        self._file.seek(self._start + self._at)
        num = self._file.readinto(memoryview(buffer)[:room]) or 0
        self._at += num
        return num

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError(f"seek to {origin + offset}, before the beginning")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def window(path: Path, start: int, size: int, buffer_size: int = 4096) -> BinaryIO:
    """``size`` bytes of a file from ``start``, seekable, to be closed.

    Args: buffer_size: read at once, where less is asked for.
    Raises: OSError.
    """
    return cast(BinaryIO, io.BufferedReader(_Window(path, start, size), max(1, buffer_size)))
