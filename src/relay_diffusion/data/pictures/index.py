"""What is known of all records before one is decoded: sizes, caption fields, faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from relay_diffusion.data.pictures.decoding import measure
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.kept import Arrays, kept, packed, unpacked
from relay_diffusion.data.pictures.records import Records


@dataclass(frozen=True)
class Index:
    """Of N records.

    Attributes:
        heights, widths: (N,) of the picture as it is to be seen; 0 where there is a fault.
        fields: (N,) indices into ``field_sets``.
        field_sets: the caption fields that records have.
        faults: by record.
    """

    heights: np.ndarray[Any, Any]
    widths: np.ndarray[Any, Any]
    fields: np.ndarray[Any, Any]
    field_sets: list[frozenset[str]]
    faults: dict[int, PictureFault]

    @classmethod
    def of(cls, records: Records) -> Index:
        """Read from the cache, or from the header of every picture."""
        arrays = kept("index", records.files(), lambda: _read(records))
        return cls(
            arrays["heights"],
            arrays["widths"],
            arrays["fields"],
            [frozenset(names) for names in unpacked(arrays["field_sets"])],
            {i: PictureFault(kind, detail) for i, kind, detail in unpacked(arrays["faults"])},
        )


def _read(records: Records) -> Arrays:
    num = len(records)
    heights, widths = np.zeros(num, np.int32), np.zeros(num, np.int32)
    fields = np.zeros(num, np.int32)
    field_sets: dict[tuple[str, ...], int] = {(): 0}
    faults = []
    for i in tqdm(range(num), desc="measuring pictures", disable=None, leave=False):
        try:
            captions = records.texts(i).captions
            if not captions:
                raise PictureFault("no caption")
            with records.open(i) as file:
                heights[i], widths[i] = measure(file)
        except PictureFault as fault:
            faults.append([i, fault.kind, fault.detail])
            continue
        fields[i] = field_sets.setdefault(tuple(sorted(captions)), len(field_sets))
    return {
        "heights": heights,
        "widths": widths,
        "fields": fields,
        "field_sets": packed(list(field_sets)),
        "faults": packed(faults),
    }
