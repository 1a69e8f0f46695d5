"""Expansions kept on disk: a prompt that a model has rewritten once is not sent again."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from relay_diffusion.files import cache_folder, put_text
from relay_diffusion.pipelines.prompts.expander import Expander


class Cached:
    """An expander that looks on disk first. A cache that cannot be read or written is none.

    Args:
        key: all that the text depends on besides prompt and seed: backend, model, instructions.
    """

    def __init__(self, expander: Expander, *key: str, folder: Path | None = None) -> None:
        self.expander, self.key = expander, key
        self.folder = folder or cache_folder("expansions")

    def expand(self, prompt: str, seed: int) -> str:
        parts = [*self.key, prompt, seed]
        digest = sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
        file = self.folder / f"{digest[:32]}.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["key"] == parts and isinstance(content["text"], str):
                return content["text"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        text = self.expander.expand(prompt, seed)
        self._keep(file, json.dumps({"key": parts, "text": text}, ensure_ascii=False, indent=1))
        return text

    def _keep(self, file: Path, content: str) -> None:
        """The file appears whole or not at all: other processes may be reading."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            put_text(file, content + "\n")
        except OSError:
            pass
