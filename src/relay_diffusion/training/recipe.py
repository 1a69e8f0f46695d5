"""What a training run is: one TOML file, read into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from relay_diffusion.config import apply_overrides, from_dict, load_extended
from relay_diffusion.diffusion import Blur
from relay_diffusion.errors import RelayError
from relay_diffusion.training.cascade import fill_from_cascade
from relay_diffusion.training.data_settings import Data, at_least
from relay_diffusion.training.ema import EmaSettings
from relay_diffusion.training.lora import LoraSettings
from relay_diffusion.training.optimizer import OptimizerSettings


@dataclass(frozen=True)
class Run:
    """The run itself. Its files go to the folder ``out``/``name``.

    Attributes:
        name: of the run's folder.
        objective: what is trained: "autoencoder", "text", "base", "relay", "concat", "distill" or
            "judge", each with an ``objective`` table of its own.
        steps: optimiser steps in all.
        seed: of every random draw: the same seed, the same run.
        out: folder of runs.
        dtype: of the forward pass (autocast); weights, their average and the optimiser are float32.
        device: "auto" is the GPU if there is one.
        channels_last: keep kernels and activations with their channels last in memory, which
            bfloat16 convolutions are faster with.
        activation_checkpointing: of the networks that learn: less memory, a third more arithmetic.
        compile: of the networks that learn.
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
    num_threads: int = 0
    max_minutes: float = 0.0
    log_every: int = 50
    wandb: str = ""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, log_every=self.log_every)
        if not self.name or "/" in self.name:
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
    init_from: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
class AutoencoderObjective:
    """The L1 distance of a picture from what is decoded of its latents, and what is added to it.

    Attributes:
        gradient: weight of the L1 distance of finite differences, which keeps edges sharp.
        latent_noise: normal noise on the latents that are decoded, times their root mean square.
        equivariance: weight of the same distances at half the size, of halved latents.
        kl: weight of the divergence from a normal distribution, of an ``AutoencoderKL``.
        decoder_only: the encoder stays as it is, and with it every latent that other networks were
            trained on.
    """

    gradient: float = 1.0
    latent_noise: float = 0.03
    equivariance: float = 0.0
    kl: float = 1e-6
    decoder_only: bool = False


@dataclass(frozen=True)
class BaseObjective:
    """Noise prediction (docs/math.md, The two stages).

    Attributes:
        text_dropout: share of samples whose text embedding is zeroed, for guidance.
        offset_noise: standard deviation of one extra normal per sample, added to all its latents.
        weighting: "epsilon" weighs sigma^-2 |D - z_0|^2 by 1, "v" by 1 + sigma^2 (plain loss of
            v prediction, which gives the highest noise, so layout and overall colour, more).
        min_snr_gamma: bounds the weight by gamma sigma^2 (arXiv:2303.09556); 0 does not.
    """

    text_dropout: float = 0.1
    offset_noise: float = 0.0
    weighting: Literal["epsilon", "v"] = "epsilon"
    min_snr_gamma: float = 5.0


@dataclass(frozen=True)
class Redraw:
    """Low-resolution pictures that a base stage has drawn anew in part (``training/redrawing.py``):
    they have the faults that it makes, for the stage above to mend.

    Attributes:
        cascade: whose base stage draws, in its own number of steps and at its own guidance scale: a
            registered name, a folder or a hub id, of the recipe's autoencoder and text encoder.
        share: of the samples that it can draw: whole pictures of twice its own size.
        strength: lowest and highest share of its steps that is run, drawn for each sample.
    """

    cascade: str
    share: float = 0.5
    strength: tuple[float, float] = (0.25, 0.75)

    def __post_init__(self) -> None:
        low, high = self.strength
        if not 0 <= self.share <= 1 or not 0 < low <= high <= 1:
            raise RelayError(
                f"redraw has share {self.share:g} and strength {[low, high]}: the share must be 0 "
                "to 1, strength the lowest and the highest, above 0 and at most 1"
            )


@dataclass(frozen=True)
class ConcatObjective(BaseObjective):
    """Super-resolution that is given the low-resolution latents beside the noised ones, what the
    relay is compared with. The UNet has twice the latent channels as ``in_channels``; one that is
    opened with fewer starts with zeros for the others.

    Attributes:
        through_vae: share of samples whose low-resolution picture passes through the autoencoder
            at its own size, as it does in use.
        redraw: some of the samples have it drawn by a base stage on the way; none by default.
    """

    through_vae: float = 0.5
    redraw: Redraw | None = None


@dataclass(frozen=True)
class RelayObjective(ConcatObjective):
    """The relay loss (docs/math.md, The two stages).

    Attributes:
        num_relay_train_steps: T_r, where the mean is all low-resolution.
        blur: how the low resolution fades in up to there (``diffusion.relay_tau``); the cascade is
            sampled with the same, its ``relay_blur``.
    """

    offset_noise: float = 0.05
    min_snr_gamma: float = 0.0
    num_relay_train_steps: int = 500
    blur: Blur = "linear"


@dataclass(frozen=True)
class TextObjective:
    """What a text encoder learns of captions.

    Attributes:
        contrast: weight of the loss on which two captions are of one picture; 0 is none.
        temperature: divides the cosines of captions.
        reading: weight of the loss on what can be read of a scene from its caption; 0 is none.
    """

    contrast: float = 1.0
    temperature: float = 0.07
    reading: float = 0.0

    def __post_init__(self) -> None:
        if min(self.contrast, self.reading) < 0 or self.contrast == self.reading == 0:
            raise RelayError(
                f"objective.contrast is {self.contrast} and reading {self.reading}: give at least "
                "one of them a weight, and neither one below 0"
            )


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
        redraw = getattr(getattr(self, "objective", None), "redraw", None)
        if redraw and self.data.source == "prepared":
            raise RelayError(
                "objective.redraw draws small pictures, and prepared data have theirs already: "
                "leave it out, or train from pictures"
            )

    @property
    def folder(self) -> Path:
        return Path(self.run.out) / self.run.name


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    objective: AutoencoderObjective = AutoencoderObjective()


@dataclass(frozen=True)
class TextRecipe(Recipe):
    objective: TextObjective = TextObjective()


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


@dataclass(frozen=True)
class BaseRecipe(DenoisingRecipe):
    objective: BaseObjective = BaseObjective()


@dataclass(frozen=True)
class ConcatRecipe(DenoisingRecipe):
    objective: ConcatObjective = ConcatObjective()


@dataclass(frozen=True)
class RelayRecipe(DenoisingRecipe):
    objective: RelayObjective = RelayObjective()


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
    return from_dict(kinds[kind], fill_from_cascade(mapping))
