"""What a suite is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.evaluation.entries import file_name
from relay_diffusion.evaluation.judge.partial import PartialScene


@dataclass(frozen=True)
class Prompt:
    """What is asked for, and what it can be judged by.

    Attributes:
        asked: the truth, for the judge; None where nobody knows it.
        id: its name in the suite it comes from.
        task: category, by which scores are also given.
        reference: a true picture of it.
    """

    text: str
    asked: Scene | PartialScene | None = None
    id: str = ""
    task: str | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class Suite:
    """A fixed list of prompts.

    Attributes:
        source: where they come from: file, address, licence, SHA-256 of the file.
        scene_at: scene i of the world the suite is drawn from, beyond its prompts too; None where
            there is no such world.
    """

    name: str
    prompts: tuple[Prompt, ...]
    source: Mapping[str, str] = field(default_factory=dict)
    scene_at: Callable[[int], Scene] | None = None

    def first(self, num: int | None) -> Suite:
        """Its first ``num`` prompts; None is all of them."""
        return self if num is None else replace(self, prompts=self.prompts[:num])

    @property
    def folder_name(self) -> str:
        """Of its pictures."""
        return file_name(self.name)

    @property
    def sha256(self) -> str:
        """Of the texts, in order."""
        texts = json.dumps([prompt.text for prompt in self.prompts], ensure_ascii=False)
        return hashlib.sha256(texts.encode()).hexdigest()
