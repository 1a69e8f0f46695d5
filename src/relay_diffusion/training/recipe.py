"""What a training run is: one TOML file, read into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from relay_diffusion.config import apply_overrides, from_dict, load_extended
from relay_diffusion.errors import RelayError
from relay_diffusion.training.cascade import fill_from_cascade
from relay_diffusion.training.data_settings import Data, at_least, within
from relay_diffusion.training.effects import insist_on_effect
from relay_diffusion.training.ema import EmaSettings
from relay_diffusion.training.lora import LoraSettings
from relay_diffusion.training.objective_settings import (
    NUM_TRAIN_STEPS,
    AutoencoderObjective,
    BaseObjective,
    ConcatObjective,
    RelayObjective,
    TextObjective,
    insist_on_pictures,
)
from relay_diffusion.training.optimizer import OptimizerSettings


@dataclass(frozen=True)
class Run:
    """The run itself. Its files go to the folder ``out``/``name``.

    Attributes:
        name: of the run's folder.
        objective: what is trained: "autoencoder", "text", "base", "relay", "concat", "distill" or
            "judge", each with an ``objective`` table of its own.
        steps: optimiser steps in all.
        seed: of every random draw: the same seed, the same run; 0 to 4294967295.
        out: folder of runs.
        dtype: of the forward pass (autocast); weights, their average and the optimiser are float32.
        device: "auto" is the GPU if there is one.
        channels_last: keep kernels and activations with their channels last in memory, which
            bfloat16 convolutions are faster with.
        activation_checkpointing: of the networks that learn: less memory, a third more arithmetic.
        compile: of the networks that learn.
        activation_memory_budget: with ``compile``, the share of activations that is kept for the
            backward pass; the compiler computes the cheapest of the others again. In place of
            ``activation_checkpointing``.
        replicas: copies of the weights under torchrun: 1 shares one out over all processes; the
            number of machines keeps one on each, so that passes need no weights from another.
        num_threads: of the CPU; 0 leaves PyTorch's choice.
        max_minutes: save and stop after so long, to go on with ``--resume``; 0 is no limit.
        log_every: steps between two lines of ``log.jsonl``.
        wandb: project of Weights & Biases that the figures go to as well; "" is none.
    """

    name: str
    objective: str
    steps: int
    seed: int = 0
    out: str = "runs"
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    activation_checkpointing: bool = False
    activation_memory_budget: float = 1.0
    replicas: int = 1
    num_threads: int = 0
    max_minutes: float = 0.0
    log_every: int = 50
    wandb: str = ""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, log_every=self.log_every, replicas=self.replicas)
        at_least(0, num_threads=self.num_threads, max_minutes=self.max_minutes)
        within(0, 2**32 - 1, seed=self.seed)
        within(0, 1, activation_memory_budget=self.activation_memory_budget)
        if self.name in ("", ".", "..") or "/" in self.name:
            raise RelayError(f"name is {self.name!r}, must be the name of a folder")


@dataclass(frozen=True)
class Model:
    """The networks. ``vae``, ``text_encoder`` and ``unet`` are each the path of a folder in the
    diffusers or transformers layout, or a table of arguments for the class.

    Attributes:
        cascade: to start from, a registered name, a folder or a hub id: its parts take the place of
            those below that are not given, and so do its ``max_tokens`` and ``prediction_type``.
        stage: of ``cascade``, whose UNet to start from: "base" for a relay stage that begins as the
            base stage; "" is the stage that the objective trains.
        vae: ``class`` is "AutoencoderDC" or "AutoencoderKL", the rest are its arguments.
        text_encoder: of ``T5Config``.
        unet: of ``UNet2DConditionModel``; what follows from the other networks and from the
            conditioning may be left out.
        tokenizer: path of a folder; "" is the one of the world.
        max_tokens: length of a tokenized caption.
        prediction_type: what the UNet predicts.
        rank: of all that the UNet learns as its difference from the weights that it starts from,
            which can then be stored in a fraction of their space (``relay assemble --rank``); 0
            leaves it free. Unlike with ``lora``, biases and norms learn too and a network results.
        init_from: module name to folder with the weights to start from, in any precision.
    """

    cascade: str = ""
    stage: Literal["", "base", "relay"] = ""
    vae: str | dict[str, Any] = ""
    text_encoder: str | dict[str, Any] = ""
    unet: str | dict[str, Any] = ""
    tokenizer: str = ""
    max_tokens: int = 64
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    rank: int = 0
    init_from: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(0, rank=self.rank)
        at_least(1, max_tokens=self.max_tokens)
        if self.stage and not self.cascade:
            raise RelayError(
                f'stage is "{self.stage}", of no cascade: name one in model.cascade, such as '
                '"starter", or leave it out'
            )


@dataclass(frozen=True)
class Validation:
    """Held-out pictures, always the same, with always the same noise, under the averaged weights.

    Attributes:
        every: steps; 0 is never.
        num_pictures: how many (for the autoencoder: at each size).
        sizes: of whole pictures, for the autoencoder.
    """

    every: int = 1000
    num_pictures: int = 128
    sizes: tuple[int, ...] = (128, 256, 512)

    def __post_init__(self) -> None:
        at_least(0, every=self.every)
        at_least(1, num_pictures=self.num_pictures, **{"each of sizes": min(self.sizes, default=1)})
        if not self.sizes:
            raise RelayError("sizes is empty, give at least one, such as [128]")


@dataclass(frozen=True)
class Preview:
    """A grid of samples under the averaged weights.

    Attributes:
        every: steps; 0 is never.
        num_pictures: of held-out scenes.
        prompts: for the base, instead of held-out captions.
        guidance: scale.
        num_steps: of the sampler.
    """

    every: int = 2000
    num_pictures: int = 16
    prompts: tuple[str, ...] = ()
    guidance: float = 3.0
    num_steps: int = 25

    def __post_init__(self) -> None:
        at_least(0, every=self.every, guidance=self.guidance)
        at_least(1, num_pictures=self.num_pictures)
        within(1, NUM_TRAIN_STEPS, num_steps=self.num_steps)


@dataclass(frozen=True)
class CheckpointSettings:
    """All of a run's state, for ``--resume``.

    Attributes:
        every: steps.
        keep: so many of the newest.
    """

    every: int = 1000
    keep: int = 2

    def __post_init__(self) -> None:
        at_least(1, every=self.every, keep=self.keep)


@dataclass(frozen=True)
class Recipe:
    """One training run; ``objective`` is the table that goes with ``run.objective``."""

    run: Run
    data: Data = field(default_factory=Data)
    model: Model = Model()
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    ema: EmaSettings = field(default_factory=EmaSettings)
    validation: Validation = Validation()
    preview: Preview = Preview()
    checkpoint: CheckpointSettings = CheckpointSettings()

    def __post_init__(self) -> None:
        if self.data.batch_size % self.optimizer.accumulate:
            raise RelayError(
                f"optimizer.accumulate is {self.optimizer.accumulate}, "
                f"must divide data.batch_size, which is {self.data.batch_size}"
            )

        if self.model.rank and not isinstance(self, DenoisingRecipe):
            raise RelayError(
                f"model.rank is of a UNet's difference, and {self.run.objective} trains no UNet by "
                "it: leave it out"
            )

    @property
    def folder(self) -> Path:
        return Path(self.run.out) / self.run.name


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    objective: AutoencoderObjective = field(default_factory=AutoencoderObjective)


@dataclass(frozen=True)
class TextRecipe(Recipe):
    objective: TextObjective = field(default_factory=TextObjective)


@dataclass(frozen=True)
class DenoisingRecipe(Recipe):
    """With ``lora``, an adapter of the UNet learns, and nothing else."""

    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora and self.model.stage:
            raise RelayError(
                f'model.stage is "{self.model.stage}", and an adapter is of the stage that the '
                "objective trains: leave it out"
            )
        if self.lora and self.model.rank:
            raise RelayError("lora has a rank of its own: leave model.rank out")
        if self.lora and self.lora.dora and self.run.channels_last:
            # peft looks at kernels as rows, which then do not lie in one piece.
            kernels = [name for name in self.lora.target_modules if name in KERNELS]
            if kernels:
                raise RelayError(
                    f"lora.dora of {kernels[0]} does not go with run.channels_last = true: set "
                    "that to false"
                )


KERNELS = ("conv", "conv1", "conv2", "conv_in", "conv_out")
"""Layers whose kernels are wider than a pixel."""


@dataclass(frozen=True)
class BaseRecipe(DenoisingRecipe):
    objective: BaseObjective = field(default_factory=BaseObjective)


@dataclass(frozen=True)
class UpscalingRecipe(DenoisingRecipe):
    """Of a stage that doubles a picture."""

    objective: ConcatObjective = field(default_factory=ConcatObjective)

    def __post_init__(self) -> None:
        super().__post_init__()
        insist_on_pictures(self.objective.redraw, self.data)


@dataclass(frozen=True)
class ConcatRecipe(UpscalingRecipe):
    pass


@dataclass(frozen=True)
class RelayRecipe(UpscalingRecipe):
    objective: RelayObjective = field(default_factory=RelayObjective)


Kinds = Mapping[str, type[Recipe]]

RECIPES: Kinds = {
    "autoencoder": AutoencoderRecipe,
    "text": TextRecipe,
    "base": BaseRecipe,
    "relay": RelayRecipe,
    "concat": ConcatRecipe,
}


def read_recipe(path: str | Path, overrides: Sequence[str] = (), kinds: Kinds = RECIPES) -> Recipe:
    """Read a recipe file.

    Args:
        path: of the TOML file, which may extend another one.
        overrides: ``"data.batch_size=8"`` and the like, applied on top.
        kinds: by ``run.objective``, the dataclass with its ``objective`` table.
    Raises: RelayError on what is missing, unknown or out of range.
    """
    return recipe_from_dict(apply_overrides(load_extended(path), list(overrides)), kinds)


def recipe_from_dict(mapping: Mapping[str, Any], kinds: Kinds = RECIPES) -> Recipe:
    """A recipe from its tables. Raises: as :func:`read_recipe`."""
    run = mapping.get("run")
    kind = run.get("objective") if isinstance(run, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise RelayError(f"run.objective is {kind!r}, allowed are {', '.join(kinds)}")
    recipe = from_dict(kinds[kind], fill_from_cascade(mapping))
    insist_on_effect(recipe)
    return recipe
