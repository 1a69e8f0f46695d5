"""What a recipe says in its table ``objective``, for each objective that has one of its own here.

Those of distillation and of the judge are beside what reads them (``rounds.py``,
``evaluation/judge/training.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay_diffusion.diffusion import Blur
from relay_diffusion.errors import RelayError
from relay_diffusion.training.data_settings import Data, at_least, within

NUM_TRAIN_STEPS = 1000
"""Levels of the noise schedule, of which a run of so many steps at most takes one each."""


@dataclass(frozen=True)
class AutoencoderObjective:
    """The L1 distance of a picture from what is decoded of its latents, and what is added to it.

    Attributes:
        gradient: weight of the L1 distance of finite differences, which keeps edges sharp.
        latent_noise: normal noise on the latents that are decoded, times their root mean square.
        equivariance: weight of the same distances at half the size, of halved latents.
        kl: weight of the divergence from a normal distribution, of an ``AutoencoderKL``; of
            means, like the distances.
        decoder_only: the encoder stays as it is, and with it every latent that other networks were
            trained on.
    """

    gradient: float = 1.0
    latent_noise: float = 0.03
    equivariance: float = 0.0
    kl: float = 1e-6
    decoder_only: bool = False

    def __post_init__(self) -> None:
        at_least(0, gradient=self.gradient, latent_noise=self.latent_noise)
        at_least(0, equivariance=self.equivariance, kl=self.kl)


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

    def __post_init__(self) -> None:
        within(0, 1, text_dropout=self.text_dropout)
        at_least(0, offset_noise=self.offset_noise, min_snr_gamma=self.min_snr_gamma)


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


def insist_on_pictures(redraw: Redraw | None, data: Data) -> None:
    """Raises: RelayError for a recipe that would redraw what was prepared."""
    if redraw and data.source == "prepared":
        raise RelayError(
            "objective.redraw draws small pictures, and prepared data have theirs already: "
            "leave it out, or train from pictures"
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

    def __post_init__(self) -> None:
        super().__post_init__()
        within(0, 1, through_vae=self.through_vae)


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

    def __post_init__(self) -> None:
        super().__post_init__()
        within(1, NUM_TRAIN_STEPS, num_relay_train_steps=self.num_relay_train_steps)


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
        if not self.temperature > 0:
            raise RelayError(f"temperature is {self.temperature:g}, must be above 0")
