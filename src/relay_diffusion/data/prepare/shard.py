"""One shard: a tar file of samples, and beside it where each of them lies.

A sample is ``NUMBER.safetensors`` (tensors, half precision) and ``NUMBER.json`` (key and captions);
its number is that of its record, since keys may hold dots, slashes and each other's names.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from relay_diffusion.config import from_dict, to_dict
from relay_diffusion.data.coverage import Coverage
from relay_diffusion.data.pictures.faults import PictureFault, lasting
from relay_diffusion.data.prepare.manifest import Shard
from relay_diffusion.errors import RelayError
from relay_diffusion.files import put, put_text

Faults = dict[int, PictureFault]
"""By record."""

Coverages = dict[str, Coverage]
"""By caption field."""

Z_0, Z_LR, Z_LR_THROUGH, TIME_IDS = "z_0", "z_lr", "z_lr_through", "time_ids"
"""Names of tensors: latents of the picture, of its low-resolution version enlarged, and of that
after a pass through the autoencoder; the six numbers of the size conditioning, int32."""


def tokens_of(field: str) -> str:
    """Name of the token ids of a caption field, (L,) int32."""
    return f"input_ids.{field}"


def embeddings_of(field: str) -> str:
    """Name of the text embeddings of a caption field, (L, D)."""
    return f"embeddings.{field}"


@dataclass(frozen=True)
class Sample:
    """What is stored of a record."""

    record: int
    key: str
    bucket: int
    captions: dict[str, str]
    tensors: dict[str, Tensor]


class ShardFile:
    """``FOLDER/shards/NUMBER.tar`` and its index, ``NUMBER.json``. The index comes last: where it
    is, and the tar file has the size that it names, the shard is done."""

    def __init__(self, folder: Path, number: int) -> None:
        self.tar = folder / "shards" / f"{number:05}.tar"
        self.index = self.tar.with_suffix(".json")

    def done(self, rows: str) -> bool:
        """Whether all is there that can be of these rows, as :meth:`write` takes them: they change
        when a picture can be read that could not before."""
        if not self.index.is_file():
            return False
        entry, index = self.entry(), self.read()
        if index.get("rows", _hash(rows)) != _hash(rows) or not lasting(index["faults"]):
            return False
        size = self.tar.stat().st_size if self.tar.is_file() else 0
        return size == entry.num_bytes or not entry.num

    def entry(self) -> Shard:
        """For the manifest."""
        index = self.read()
        return Shard(self.tar.name, len(index["samples"]), index["num_bytes"], index["sha256"])

    def read(self) -> dict[str, Any]:
        """The index. Raises: RelayError if it is damaged."""
        try:
            index: dict[str, Any] = json.loads(self.index.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RelayError(f"{self.index} is damaged, delete it and prepare again") from error
        return index

    def coverages(self) -> Coverages:
        """How much of the captions can be read; nothing for a shard of before this was counted."""
        found = self.read().get("captions", {})
        return {name: from_dict(Coverage, counts) for name, counts in found.items()}

    def write(
        self, rows: str, samples: Iterable[Sample], faults: Faults, captions: Coverages
    ) -> None:
        """Write samples as they come, and then, if there are any, the name of the file.

        Args:
            rows: the records to encode, and their sizes.
            faults: of records that are left out; may be added to while the samples are made.
            captions: how much of them can be read; likewise.
        """
        from safetensors.torch import save
        from webdataset import TarWriter

        places: dict[str, dict[str, Any]] = {}
        num_bytes, digest = 0, ""
        with put(self.tar) as new:
            # Nothing of the time or the user: the same samples are the same bytes.
            with TarWriter(str(new), encoder=False, mtime=0, user="relay") as tar:
                for sample in samples:
                    name = f"{sample.record:09}"
                    words = {"key": sample.key, "captions": sample.captions}
                    tar.write(
                        {
                            "__key__": name,
                            "json": json.dumps(words, ensure_ascii=False).encode(),
                            "safetensors": save(sample.tensors),
                        }
                    )
                    fields = sorted(sample.captions)
                    places[name] = {"key": sample.key, "bucket": sample.bucket, "fields": fields}
            with tarfile.open(new, "r:") as written:
                for member in written:
                    name, _, suffix = member.name.partition(".")
                    places[name][suffix] = [member.offset_data, member.size]
            num_bytes = new.stat().st_size
            with new.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        index = {
            "num_bytes": num_bytes,
            "sha256": digest,
            "rows": _hash(rows),
            "samples": list(places.values()),
            "faults": [[i, fault.kind, fault.detail] for i, fault in sorted(faults.items())],
            "captions": to_dict(dict(sorted(captions.items()))),
        }
        put_text(self.index, json.dumps(index))


def _hash(rows: str) -> str:
    return hashlib.sha256(rows.encode()).hexdigest()
