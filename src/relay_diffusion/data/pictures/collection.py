"""A data set made ready: what is left out and why, which captions, which part is held out."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from relay_diffusion.data.pictures.captions import CaptionMix
from relay_diffusion.data.pictures.faults import BadRecord, PictureFault
from relay_diffusion.data.pictures.index import Index
from relay_diffusion.data.pictures.kept import fingerprint
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.errors import RelayError
from relay_diffusion.files import cache_folder

Split = Literal["train", "held-out"]
Rows = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger(__name__)


class Collection:
    """Records that can be trained on, in two parts.

    Args:
        records: all of them.
        captions: weights of the caption fields, see :class:`CaptionMix`.
        min_size: pictures with a shorter side are left out.
        held_out: share kept from training, see :func:`parts`.
    Attributes:
        bad: what was left out, broken shards and lines among it; more may turn up when pictures are
            decoded.
    Raises: RelayError if fewer than two records can be used, or ``captions`` does not fit.
    """

    def __init__(
        self,
        records: Records,
        captions: Mapping[str, float],
        min_size: int = 0,
        held_out: float = 0.02,
    ) -> None:
        self.records = records
        index = Index.of(records)
        self.heights, self.widths = index.heights, index.widths
        fields = frozenset().union(*index.field_sets)
        # Without any field all records have faults, which say more than that the fields are wrong.
        self.mix = CaptionMix.of(captions if fields else {}, fields)
        faults = dict(index.faults)
        wordless = [not self.mix.weights.keys() & fields for fields in index.field_sets]
        for i in np.flatnonzero(np.array(wordless)[index.fields]).tolist():
            faults.setdefault(i, PictureFault("no caption", f"in {', '.join(self.mix.weights)}"))
        for i in np.flatnonzero(np.minimum(self.heights, self.widths) < min_size).tolist():
            size = f"{self.widths[i]}x{self.heights[i]}, needs {min_size}x{min_size}"
            faults.setdefault(i, PictureFault("too small", size))
        self.bad = [
            *records.broken(),
            *records.bad_lines(),
            *(BadRecord(records.key(i), f.kind, f.detail) for i, f in sorted(faults.items())),
        ]
        usable = np.setdiff1d(np.arange(len(records)), np.fromiter(faults, np.int64))
        self._report()
        if len(usable) < 2:
            raise RelayError(
                f"{len(usable)} of {len(records)} pictures can be used, and at least 2 must: "
                f"{self._counts() or 'there are no more'}; docs/data.md says what is read"
            )
        places = np.array([place(records.key(i)) for i in usable.tolist()])
        self._parts = parts(usable, places, held_out)

    def part(self, split: Split) -> Rows:
        """The records of a part, ascending."""
        return self._parts[split]

    def _counts(self) -> str:
        counts = Counter(bad.kind for bad in self.bad)
        return ", ".join(f"{num} {kind}" for kind, num in counts.most_common())

    def _report(self) -> None:
        """Say how many were left out, and list them in a file."""
        if not self.bad:
            return
        path = cache_folder("pictures") / f"{fingerprint(self.records.files())[0]}.left-out.txt"
        try:
            path.write_text("".join(f"{bad}\n" for bad in self.bad), encoding="utf-8")
            where = f"; listed in {path}"
        except OSError:
            where = f"; the first is {self.bad[0]}"
        lost = len(self.records.broken()) + len(self.records.bad_lines())
        if num := len(self.bad) - lost:
            counts, of = self._counts(), len(self.records)
            log.warning("left out %d of %d pictures: %s%s", num, of, counts, where)
        else:  # no picture is known to be missing for it
            log.warning("%s%s", self._counts(), where)


def open_collection(
    path: str, captions: Mapping[str, float], min_size: int = 0, held_out: float = 0.02
) -> Collection:
    """The collection at a recipe's ``data.path``. Raises: RelayError."""
    return Collection(open_records(path), captions, min_size, held_out)


def parts(rows: Rows, places: Rows, held_out: float) -> dict[Split, Rows]:
    """The share ``held_out`` apart, by a hash of the key alone: a picture stays in its part
    whatever the seed, the storage or the rest of the data. If that leaves a part empty, it gets the
    one record whose hash is nearest.

    Args: rows (N,) records, at least two; places (N,) :func:`place` of their keys.
    """
    apart = places < held_out
    if not apart.any():
        apart[places.argmin()] = True
    elif apart.all():
        apart[places.argmax()] = False
    return {"train": rows[~apart], "held-out": rows[apart]}


def place(key: str) -> float:
    """A number in [0, 1) for a key, evenly spread."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
