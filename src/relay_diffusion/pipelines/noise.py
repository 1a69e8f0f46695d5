"""Noise that belongs to a picture: one generator each, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relay_diffusion.errors import RelayError

Generators = torch.Generator | Sequence[torch.Generator] | None
Latents = Tensor | Sequence[Tensor | None] | None


def split_generators(generator: Generators, num: int) -> list[torch.Generator]:
    """One generator per picture.

    Args:
        generator: a list is taken as it is, one for each picture; a single one is split by drawing
            ``num`` seeds from it; None draws them from torch's global generator.
    Raises: RelayError if a list has another length than ``num``, or it is no generator.
    """
    for one in generator if isinstance(generator, Sequence) else [generator]:
        if generator is not None and not isinstance(one, torch.Generator):
            raise RelayError(
                f"a generator of type {type(one).__name__}; give torch.Generator().manual_seed(0), "
                "or a list with one for each picture"
            )
    if isinstance(generator, Sequence):
        if len(generator) != num:
            raise RelayError(
                f"{len(generator)} generators for {num} pictures; give one for each, or one for all"
            )
        return list(generator)
    device = generator.device if generator is not None else torch.device("cpu")
    seeds = torch.randint(2**63 - 1, (num,), generator=generator, device=device)
    return [torch.Generator(device).manual_seed(seed) for seed in seeds.tolist()]


class StageNoise:
    """Unit normal noise for the start of every stage: what the caller gave, or freshly drawn.

    A stage's noise is drawn when it is asked for, on the generator's own device, so that a seed of
    the CPU gives the same picture on every accelerator.
    """

    def __init__(
        self,
        latents: Latents,
        generators: list[torch.Generator],
        shapes: Sequence[tuple[int, int, int]],
        device: torch.device,
        first: int = 0,
    ) -> None:
        """
        Args:
            latents: for the first of these stages, or a list with an entry for each; None is
                drawn.
            generators: one for each picture, length B.
            shapes: (C, H, W) of every stage.
            first: the first of them: 0 is the base, and from 1 on they are doublings.
        Raises: RelayError for latents that are no tensors of these shapes, or too many of them.
        """
        given = list(latents) if isinstance(latents, Sequence) else [latents]
        for noise in given:
            if not isinstance(noise, Tensor | None):
                raise RelayError(
                    f"latents of type {type(noise).__name__}; give a tensor, or a list with one, "
                    "or None, for each stage"
                )
        kind = "doubling" if first else "stage"
        if len(given) > len(shapes):
            raise RelayError(f"latents for {len(given)} {kind}s; give {len(shapes)} or fewer")
        for stage, (noise, shape) in enumerate(zip(given, shapes, strict=False), first):
            expected = (len(generators), *shape)
            if noise is not None and tuple(noise.shape) != expected:
                raise RelayError(
                    f"latents of {kind} {stage} have shape {tuple(noise.shape)}, not {expected}"
                )
        self.generators = generators
        self._given = dict(enumerate(given, first))
        self._shapes = dict(enumerate(shapes, first))
        self._device = device

    def __getitem__(self, stage: int) -> Tensor:
        """(B, C, H, W) float32 on the device of the run."""
        noise = self._given.get(stage)
        if noise is None:
            shape = self._shapes[stage]
            drawn = [torch.randn(shape, generator=g, device=g.device) for g in self.generators]
            return torch.stack([picture.to(self._device) for picture in drawn])
        return noise.to(self._device, torch.float32)
