"""What pictures are measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge import Judge
from relay_diffusion.evaluation.metrics.clip import ClipScorer
from relay_diffusion.evaluation.metrics.features import InceptionFeatures, JudgeFeatures
from relay_diffusion.evaluation.scorers.command import Scorer
from relay_diffusion.evaluation.suites.prompt import Suite


@dataclass(frozen=True)
class Instruments:
    """What is None or empty is not measured.

    The networks wait on the CPU, where they were opened, until ``on_device``: models that are
    measured get the whole device, and their memory is theirs alone.

    Attributes:
        judge: for suites whose prompts say what to see; its features are those of the distances
            of the scene suites.
        atlas: drawings of the world, for true pictures of the scene suites.
        inception: features of the distances to reference pictures.
    """

    device: torch.device
    judge: Judge | None = None
    atlas: Atlas | None = None
    inception: InceptionFeatures | None = None
    clip: ClipScorer | None = None
    scorers: Sequence[Scorer] = ()

    @property
    def judge_features(self) -> JudgeFeatures | None:
        return None if self.judge is None else JudgeFeatures(self.judge.network)

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """While pictures are measured, the networks are on the device."""
        networks: list[nn.Module] = []
        if self.judge is not None:
            networks.append(self.judge.network)
        if self.inception is not None:
            networks.append(self.inception)
        if self.clip is not None:
            networks.append(self.clip.model)
        for network in networks:
            network.to(self.device)
        try:
            yield
        finally:
            for network in networks:
                network.cpu()


def check_references(tools: Instruments, suite: Suite) -> None:
    """Raise RelayError if there are reference pictures that no distance can be taken to."""
    without = [prompt for prompt in suite.prompts if prompt.reference is None]
    if len(without) == len(suite.prompts):
        return
    if without:
        raise RelayError(
            f"{suite.name}: {len(without)} prompts have no reference picture and others have, so "
            f"there is no distance: give {without[0].text!r} and the others one, or none at all"
        )
    if tools.inception is None:
        raise RelayError(
            f"{suite.name} has reference pictures, and the distance to them needs Inception's "
            "features: give --inception inception-2015-12-05.pt, or leave the references out"
        )


def check_judge(judge: Judge, suite: Suite) -> None:
    """Raise RelayError if prompts speak of what the judge has no word for."""
    answers = judge.answers
    for prompt in suite.prompts:
        if prompt.asked is None:
            continue
        asked = prompt.asked
        named = [
            *((thing.subject, answers.subjects) for thing in asked.things),
            *((thing.tint, answers.tints) for thing in asked.things),
            (asked.background, answers.backgrounds),
            (asked.style, answers.styles),
        ]
        for name, known in named:
            if name is not None and name not in known:
                raise RelayError(
                    f"{suite.name}: {prompt.text!r} is about {name!r}, which the judge does not "
                    "know; give the judge of that world with --judge"
                )
