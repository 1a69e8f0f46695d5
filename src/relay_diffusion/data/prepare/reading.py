"""A prepared folder by index: where each sample lies, and reading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from relay_diffusion.data.pictures.captions import CaptionMix
from relay_diffusion.data.pictures.collection import Rows, Split, parts, place
from relay_diffusion.data.pictures.kept import Arrays, kept, packed, unpacked
from relay_diffusion.data.prepare.manifest import Manifest, read_manifest
from relay_diffusion.data.prepare.shard import ShardFile
from relay_diffusion.errors import RelayError

MEMBERS = ("json", "safetensors")


class Prepared:
    """The samples of a prepared folder that can be trained on, in two parts.

    Args:
        captions: weights of the caption fields, see :class:`CaptionMix`.
        held_out: share kept from training, by the key of the picture (:func:`parts`): the same
            pictures as when training on the pictures themselves.
    Attributes:
        buckets: (N,) of each sample.
        fields: (N,) indices into ``field_sets``.
    Raises: RelayError if the folder is not prepared to the end, a shard is missing or cut short, or
        fewer than two samples have a caption of the fields.
    """

    def __init__(self, folder: Path, captions: Mapping[str, float], held_out: float = 0.02) -> None:
        self.manifest = read_manifest(folder)
        self.mix = CaptionMix.of(captions, self.manifest.fields)
        self._tars = [folder / "shards" / shard.name for shard in self.manifest.shards]
        for tar, shard in zip(self._tars, self.manifest.shards, strict=True):
            size = tar.stat().st_size if tar.is_file() else 0
            if size != shard.num_bytes:
                raise RelayError(
                    f"{tar} has {size} bytes, the manifest says {shard.num_bytes}: "
                    "run the same relay prepare again"
                )
        indices = [tar.with_suffix(".json") for tar in self._tars]
        arrays = kept("prepared", indices, lambda: _index(folder, self.manifest))
        self._shard, self._places = arrays["shard"], arrays["places"]
        self._spans = arrays["spans"]  # (N, members, 2): offset and size
        self.buckets, self.fields = arrays["buckets"], arrays["fields"]
        self.field_sets = [frozenset(names) for names in unpacked(arrays["field_sets"])]
        worded = np.array([bool(self.mix.weights.keys() & names) for names in self.field_sets])
        usable = np.flatnonzero(worded[self.fields])
        if len(usable) < 2:
            raise RelayError(f"{len(usable)} samples of {folder} can be used, and at least 2 must")
        self._parts = parts(usable, self._places[usable], held_out)

    def part(self, split: Split) -> Rows:
        """The samples of a part, ascending."""
        return self._parts[split]

    def captions(self, i: int) -> dict[str, str]:
        words: dict[str, str] = json.loads(self._member(i, "json"))["captions"]
        return words

    def tensors(self, i: int) -> dict[str, Tensor]:
        """By the names of :mod:`data.prepare.shard`."""
        from safetensors.torch import load

        return load(self._member(i, "safetensors"))

    def _member(self, i: int, name: str) -> bytes:
        tar = self._tars[self._shard[i]]
        offset, size = self._spans[i, MEMBERS.index(name)].tolist()
        try:
            with tar.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise RelayError(f"{tar} cannot be read: {error.strerror}") from error


def _index(folder: Path, manifest: Manifest) -> Arrays:
    """The indices of all shards as arrays."""
    shard, buckets, fields, places, spans = [], [], [], [], []
    field_sets: dict[tuple[str, ...], int] = {}
    for number, entry in enumerate(manifest.shards):
        for sample in ShardFile(folder, int(Path(entry.name).stem)).read()["samples"]:
            shard.append(number)
            buckets.append(sample["bucket"])
            fields.append(field_sets.setdefault(tuple(sample["fields"]), len(field_sets)))
            places.append(place(sample["key"]))
            spans.append([sample[name] for name in MEMBERS])
    return {
        "shard": np.array(shard, np.int32),
        "buckets": np.array(buckets, np.int32),
        "fields": np.array(fields, np.int32),
        "places": np.array(places, np.float64),
        "spans": np.array(spans, np.int64).reshape(-1, len(MEMBERS), 2),
        "field_sets": packed(list(field_sets)),
    }
