"""LoRA and DoRA: a small adapter learns, the network that it sits in does not."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import torch

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.models.lora import import_peft

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class LoraSettings:
    """An adapter of the UNet: W + alpha / rank B A in place of W (LoRA, arXiv:2106.09685).

    Attributes:
        rank: rows of A, columns of B.
        alpha: 0 is the rank, a factor of 1.
        dropout: share of the inputs of A that is zeroed in training.
        dora: learn the length of each row of W beside its direction (DoRA, arXiv:2402.09353).
        target_modules: ends of the names of the layers that get one, linear or convolutions: by
            default the projections of all attention. Further ones are "ff.net.0.proj" and
            "ff.net.2" (feed-forward), "proj_in", "proj_out" (of the transformers), "conv1",
            "conv2", "conv_shortcut", "time_emb_proj" (residual blocks).
    """

    rank: int = 16
    alpha: float = 0.0
    dropout: float = 0.0
    dora: bool = False
    target_modules: tuple[str, ...] = ATTENTION

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise RelayError(f"rank is {self.rank}, must be at least 1")
        if self.alpha < 0:
            raise RelayError(f"alpha is {self.alpha}, must be above 0, or 0 for the rank")
        if not 0 <= self.dropout < 1:
            raise RelayError(f"dropout is {self.dropout}, must be at least 0 and below 1")
        if not self.target_modules:
            raise RelayError("target_modules is empty, give at least one, such as to_q")


def add_adapter(unet: Any, settings: LoraSettings) -> None:
    """Freeze ``unet`` and give it an adapter that learns, in float32, and changes nothing yet.

    Raises: RelayError if a name in ``target_modules`` is that of no layer.
    """
    peft = import_peft()
    names = [name for name, _ in unet.named_modules()]
    for target in settings.target_modules:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            ends = sorted({name.rpartition(".")[2] for name in names})
            near = difflib.get_close_matches(target, ends, n=1, cutoff=0)[0]
            raise RelayError(
                f"lora.target_modules: the UNet has no layer {target!r}, nearest: {near!r}"
            )
    unet.requires_grad_(False)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or settings.rank,
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        target_modules=list(settings.target_modules),
    )
    try:
        unet.add_adapter(config)
    except (TypeError, ValueError) as error:
        raise RelayError(f"lora.target_modules: {first_line(error)}") from error
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    unet.train()  # dropout is on from the first step, not only after the first evaluation
