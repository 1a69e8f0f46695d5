"""What is asked of a preparation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay_diffusion.data.buckets import Bucket, view_buckets
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError

MAX_DISTANCE = 8
LATENT_CELL = 8
"""Pixels along a side of a latent cell."""


@dataclass(frozen=True)
class Settings:
    """All that decides what is in the shards, but for the pictures and the cascade.

    Attributes:
        size, crop: the view, as in a recipe (:class:`View`).
        multiple, max_aspect: of the buckets, see :func:`buckets`.
        captions: fields that are kept; empty keeps all texts of a picture but its link.
        link: field with the address that a picture came from.
        min_size: pictures with a shorter side are left out; 0 enlarges them.
        aspect_limit: pictures longer than so many times their shorter side are left out.
        duplicate_distance: bits of 64 in which the perceptual hashes of two pictures may differ for
            the later one to be left out, if their thumbnails agree; -1 keeps all.
        low_resolution: keep what relay and concat training need beside the latents.
        embeddings: keep the text encoder's output beside the tokens.
        dtype: of the text encoder; the autoencoder works in float32.
        shard_size: pictures that are read for one shard.
        batch_size: pictures that are encoded together.
    """

    size: int
    crop: int = 0
    multiple: int = 0
    max_aspect: float = 2.0
    captions: tuple[str, ...] = ()
    link: str = "url"
    min_size: int = 0
    aspect_limit: float = 3.0
    duplicate_distance: int = 2
    low_resolution: bool = True
    embeddings: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    shard_size: int = 1000
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "max_aspect", "aspect_limit"):
            if getattr(self, name) < 1:
                raise RelayError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not -1 <= self.duplicate_distance <= MAX_DISTANCE:
            raise RelayError(
                f"duplicate_distance is {self.duplicate_distance}, must be 0 to {MAX_DISTANCE} "
                "bits of 64, or -1 to keep duplicates"
            )
        if self.link in self.captions:
            raise RelayError(f"captions has {self.link}, which is the link; name it with --link")
        least = 2 * LATENT_CELL if self.low_resolution else LATENT_CELL
        for bucket in self.buckets:
            if bucket.height % least or bucket.width % least:
                raise RelayError(
                    f"a bucket is {bucket.width}x{bucket.height}, sides must be multiples of "
                    f"{least}: choose another size, crop or multiple"
                )

    @property
    def view(self) -> View:
        return View(self.size, self.crop)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return view_buckets(self.view, self.multiple, self.max_aspect)

    def chosen(self, captions: dict[str, str]) -> dict[str, str]:
        """Those of a picture's captions that are kept."""
        if self.captions:
            return {name: captions[name] for name in self.captions if name in captions}
        return {name: text for name, text in captions.items() if name != self.link}
