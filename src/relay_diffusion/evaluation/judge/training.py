"""Training the judge, with the trainer's own loop, and measuring how far it can be believed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.evaluation.judge.judge import Judge
from relay_diffusion.evaluation.judge.learning import judge_loss, spoil, targets_of
from relay_diffusion.evaluation.judge.network import NO_TINT, Answers, JudgeNetwork
from relay_diffusion.evaluation.judge.verdict import Verdict, agreement
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.training import distributed
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source
from relay_diffusion.training.networks import build_vae
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe
from relay_diffusion.training.sources import open_world

MEASURED_SIZE = 256


@dataclass(frozen=True)
class JudgeObjective:
    """Reading scenes.

    Attributes:
        width: channels of the network's first layer; the others are multiples of it.
    """

    width: int = 32


@dataclass(frozen=True)
class JudgeRecipe(Recipe):
    """``model.vae`` may name the autoencoder whose pictures the accuracy is also measured on."""

    objective: JudgeObjective = JudgeObjective()


def answers_of(world: World) -> Answers:
    """What there is to say about pictures of a world."""
    return Answers(
        tuple(world.subjects),
        (NO_TINT, *world.tints),
        tuple(world.backgrounds),
        tuple(world.styles),
    )


def judge(recipe: JudgeRecipe, source: Source, device: torch.device) -> Objective:
    """The judge's objective: a fresh network on fresh scenes, half of them spoilt."""
    distributed.insist_on_one("the judge")
    torch.manual_seed(recipe.run.seed)
    answers = answers_of(open_world(recipe.data))
    network = JudgeNetwork(answers, recipe.objective.width).to(device)
    vae = build_vae(recipe.model.vae).eval().to(device) if recipe.model.vae else None

    def prepare(pictures: Any, draws: Draws) -> Batch:
        targets = targets_of(pictures.scenes, answers)
        x = spoil(pictures.x.to(device), draws)
        return {"x": x} | {name: values.to(device) for name, values in targets.items()}

    measured: dict[str, dict[str, float]] = {}

    def loss(batch: Batch, draws: Draws) -> Tensor:
        measured.clear()
        return judge_loss(network(batch["x"]), batch)

    def figures() -> dict[str, dict[str, float]]:
        """Of the weights as they are: validation and export often fall on one step."""
        if not measured:
            num_pictures = recipe.validation.num_pictures
            measured.update(measure(Judge(network, {}), source, num_pictures, vae))
        return measured

    def validate() -> dict[str, float]:
        return {
            f"{kind}/{name}": share
            for kind, shares in figures().items()
            for name, share in shares.items()
        }

    def export(folder: Path) -> None:
        Judge(network, dict(figures())).save_pretrained(folder)

    return Objective(
        trained={"judge": network},
        feed=Feed(
            source("train", recipe.data.views), prepare, recipe.data, recipe.run.seed, device
        ),
        loss=loss,
        export=export,
        validate=validate,
    )


@torch.no_grad()
def measure(
    judge: Judge, source: Source, num_pictures: int, vae: nn.Module | None = None
) -> dict[str, dict[str, float]]:
    """Share of questions answered rightly about held-out scenes at 256, as rendered and, with an
    autoencoder, as they come out of it."""
    stream = source("held-out", (View(MEASURED_SIZE),))
    seen: dict[str, list[Verdict]] = defaultdict(list)
    scenes: list[Scene] = []
    batch_size = 16
    for step in range(-(-num_pictures // batch_size)):
        pictures: Pictures = stream.batch(step, batch_size)
        scenes += pictures.scenes  # type: ignore[attr-defined]
        seen["rendered"] += judge.read(pictures.x)
        if vae is not None:
            seen["autoencoder"] += judge.read(decode(vae, encode(vae, pictures.x)).clamp(-1, 1))
    return {kind: accuracy(scenes, read) for kind, read in seen.items()}


def accuracy(scenes: Sequence[Scene], read: Sequence[Verdict]) -> dict[str, float]:
    """Share of right answers to each question, over all scenes that ask it; and ``things``, the
    share of single things found by name within half their size of where they stand."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for scene, verdict in zip(scenes, read, strict=True):
        facts = agreement(scene, verdict)
        for thing in scene.things:
            near = any(
                seen.subject == thing.subject
                and abs(seen.x - thing.x) < thing.size / 2
                and abs(seen.y - thing.y) < thing.size / 2
                for seen in verdict.things
            )
            asked["things"] += 1
            right["things"] += near
        asked.update(facts.keys())
        right.update(name for name, holds in facts.items() if holds)
    return {name: right[name] / asked[name] for name in sorted(asked)}
