"""Pictures that are not wanted, by the words of their captions or by where they came from.

CogView3 (arXiv:2403.05121) drops pictures by their source too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.errors import RelayError

_SCHEME = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


class Blocklists:
    """Words and domains, one a line in their files; blank lines and lines with # are passed over.

    Args:
        words: words or phrases; whole words, whatever their case and the spaces between them.
        domains: such as ``example.com``, which covers ``img.example.com`` too.
    Raises: RelayError if a file cannot be read, or a line is no domain.
    """

    def __init__(self, words: Path | None = None, domains: Path | None = None) -> None:
        self.words = _lines(words)
        self.domains = frozenset(line.lower().removeprefix("www.") for line in _lines(domains))
        for domain in self.domains:
            if not re.fullmatch(r"[^\s/:.]+(\.[^\s/:.]+)+", domain):
                raise RelayError(f"{domain!r} in {domains} is no domain, such as example.com")
        self._pattern = None
        if self.words:
            # The longest first, so that the phrase and not a word of it is named.
            ordered = sorted(self.words, key=lambda word: (-len(word), word))
            either = "|".join(r"\s+".join(map(re.escape, word.split())) for word in ordered)
            self._pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.IGNORECASE)

    def check(self, captions: Mapping[str, str], link: str) -> None:
        """Raises: PictureFault if a caption or the link is on a list."""
        for name, text in captions.items() if self._pattern else ():
            assert self._pattern is not None
            found = self._pattern.search(text)
            if found:
                raise PictureFault("blocked caption", f"{found[0]!r} in {name}")
        host = _host(link) if self.domains and link else ""
        labels = host.split(".")
        for start in range(len(labels)):
            domain = ".".join(labels[start:])
            if domain in self.domains:
                raise PictureFault("blocked link", domain)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"cannot read {file}, which must be UTF-8: {error}") from error
    return sorted({line.strip() for line in lines if line.strip() and line.strip()[0] != "#"})


def _host(link: str) -> str:
    try:
        whole = link if _SCHEME.match(link) else f"//{link}"
        return (urlsplit(whole).hostname or "").rstrip(".")
    except ValueError:
        return ""
