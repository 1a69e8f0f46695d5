"""What is known of all records before one is decoded: sizes, caption fields, faults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from relay_diffusion.data.pictures.decoding import measure
from relay_diffusion.data.pictures.faults import PictureFault, lasting
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
        """Part by part, read from the cache, or from the header of every picture."""
        num = len(records)
        heights, widths = np.zeros(num, np.int32), np.zeros(num, np.int32)
        fields = np.zeros(num, np.int32)
        field_sets: dict[frozenset[str], int] = {}
        faults: dict[int, PictureFault] = {}
        with tqdm(total=num, desc="measuring", disable=None, leave=False, delay=1) as bar:
            for files, part in records.parts():
                arrays = kept(
                    "index",
                    files,
                    partial(_read, records, part, bar),
                    lambda arrays: lasting(unpacked(arrays["faults"])),
                )
                bar.update(part.stop - bar.n)
                inside = slice(part.start, part.stop)
                heights[inside], widths[inside] = arrays["heights"], arrays["widths"]
                sets = [frozenset(names) for names in unpacked(arrays["field_sets"])]
                common = [field_sets.setdefault(names, len(field_sets)) for names in sets]
                fields[inside] = np.array(common, np.int32)[arrays["fields"]]
                for i, kind, detail in unpacked(arrays["faults"]):
                    faults[part.start + i] = PictureFault(kind, detail)
        return cls(heights, widths, fields, list(field_sets), faults)


def _read(records: Records, part: range, bar: Any) -> Arrays:
    """Of some records, counted from the first of them."""
    num = len(part)
    heights, widths = np.zeros(num, np.int32), np.zeros(num, np.int32)
    fields = np.zeros(num, np.int32)
    field_sets: dict[tuple[str, ...], int] = {(): 0}
    faults = []
    for i, record in enumerate(part):
        bar.update()
        try:
            captions = records.texts(record).captions
            if not captions:
                raise PictureFault("no caption")
            with records.open(record) as file:
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
