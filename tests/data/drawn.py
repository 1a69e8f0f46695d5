"""Small data sets of drawn pictures, in every form that can be read."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from relay_diffusion.data.pictures.folder import FolderRecords
from relay_diffusion.data.pictures.records import Records

SIZES = [(40, 40), (64, 40), (40, 64), (50, 48), (96, 48), (36, 60)]
"""Width and height."""


@dataclass(frozen=True)
class Drawn:
    """A record: key, encoded picture and fields."""

    key: str
    picture: bytes
    fields: Mapping[str, Any] = field(default_factory=dict)


def picture(number: int, width: int, height: int) -> Image.Image:
    """Ramps along both sides and a blue of its own, so that a crop tells where it lies."""
    x = np.zeros((height, width, 3), np.uint8)
    x[..., 0] = np.linspace(0, 255, width)
    x[..., 1] = np.linspace(0, 255, height)[:, None]
    x[..., 2] = number * 37 % 256
    return Image.fromarray(x)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drawn(num: int = 12, **fields: str) -> list[Drawn]:
    """Records whose captions are the fields' texts and a number."""
    fields = fields or {"caption": "picture"}
    records = []
    for i in range(num):
        image = picture(i, *SIZES[i % len(SIZES)])
        named = {name: f"{text} {i}" for name, text in fields.items()}
        records.append(Drawn(f"part{i % 2}/{i:03}", encoded(image), named))
    return sorted(records, key=lambda record: record.key)


def as_drawn(records: Records) -> list[Drawn]:
    """A data set, read whole."""

    def read(i: int) -> Drawn:
        with records.open(i) as file:
            return Drawn(records.key(i), file.read(), records.texts(i).captions)

    return [read(i) for i in range(len(records))]


def write_folder(folder: Path, records: Sequence[Drawn], captions: str = "txt") -> Path:
    """As .png and, by ``captions``, .txt, .json or one metadata.jsonl."""
    rows = []
    for record in records:
        path = folder / f"{record.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.picture)
        rows.append({"file_name": f"{record.key}.png", **record.fields})
        if captions == "txt":
            path.with_suffix(".txt").write_text(record.fields["caption"])
        if captions == "json":
            path.with_suffix(".json").write_text(json.dumps(record.fields))
    if captions == "jsonl":
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metadata.jsonl").write_text(lines)
    return folder


@contextmanager
def failing_disk(name: str) -> Iterator[None]:
    """Files of that name in a folder of pictures can be opened, but not read, for a while."""

    class Failing(io.BytesIO):
        def read(self, *size: Any) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_one(records: FolderRecords, i: int) -> BinaryIO:
        return Failing() if records.place(i).name == name else opened(records, i)

    opened = FolderRecords.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderRecords, "open", open_one)
        yield


def write_shards(folder: Path, records: Sequence[Drawn], captions: str = "json") -> Path:
    """Two tar files."""
    folder.mkdir(parents=True, exist_ok=True)
    half = len(records) // 2
    for number, part in enumerate([records[:half], records[half:]]):
        with tarfile.open(folder / f"{number:05}.tar", "w") as tar:
            for record in part:
                text = record.fields.get("caption", "")
                text = json.dumps(record.fields) if captions == "json" else text
                for suffix, data in (("png", record.picture), (captions, text.encode())):
                    member = tarfile.TarInfo(f"{record.key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder


def table(records: Sequence[Drawn]) -> Any:
    """As Hugging Face's Image feature has them in Arrow."""
    import pyarrow as pa

    def texts(values: Sequence[str]) -> Any:
        """Whatever is in them: Arrow does not look at the bytes of a view."""
        raw = [value.encode("utf-8", "surrogatepass") for value in values]
        return pa.array(raw, pa.binary()).view(pa.string())

    pictures = pa.array([record.picture for record in records], pa.binary())
    paths = pa.array([os.fsencode(f"{r.key}.png") for r in records], pa.binary()).view(pa.string())
    columns = {"image": pa.StructArray.from_arrays([pictures, paths], ["bytes", "path"])}
    for name in records[0].fields:
        columns[name] = texts([record.fields[name] for record in records])
    return pa.table({**columns, "score": [1.0] * len(records)})


def write_parquet(folder: Path, records: Sequence[Drawn]) -> Path:
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    half = len(records) // 2
    pq.write_table(table(records[:half]), folder / "train-0.parquet", row_group_size=4)
    pq.write_table(table(records[half:]), folder / "train-1.parquet", row_group_size=4)
    return folder


def write_saved_dataset(folder: Path, records: Sequence[Drawn]) -> Path:
    """The files of ``datasets.Dataset.save_to_disk``: an Arrow stream and its state."""
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    rows = table(records)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=5)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    return folder
