"""Parquet files and Hugging Face ``datasets`` folders: rows of Arrow tables, mapped into memory.

A folder that ``Dataset.save_to_disk`` wrote is Arrow already, and is read where it lies. Parquet is
compressed in groups of rows, of which a random row needs the whole; so it is copied once, as Arrow,
into the cache, as the ``datasets`` library does too. Mapped tables may be read in forked workers,
where pyarrow's own threads, which reading parquet would use, are not.
"""

from __future__ import annotations

import bisect
import io
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from relay_diffusion.data.pictures.faults import PictureFault, unread
from relay_diffusion.data.pictures.kept import fingerprint
from relay_diffusion.data.pictures.records import Place, Records, Texts, escaped, texts_of
from relay_diffusion.errors import RelayError
from relay_diffusion.files import cache_folder, put, sweep
from relay_diffusion.locks import one_at_a_time

log = logging.getLogger(__name__)

BYTES_COLUMNS = ("image", "picture", "jpg", "png", "webp")
"""Of bytes, or of {bytes, path} as in Hugging Face's Image; the first there is the picture."""

PATH_COLUMNS = ("file_name", "image_path", "path", "image", "picture")
"""Of paths relative to the file's folder, where there is no column of bytes."""


class TableRecords(Records):
    """Rows of tables of one layout: a column of pictures, columns of captions (all strings).

    Raises: RelayError if pyarrow is missing, a file cannot be read, or no column holds pictures.
    """

    def __init__(self, files: Sequence[Path], parquet: bool) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise RelayError(
                f"reading {files[0]} needs pyarrow: pip install 'relay-diffusion[data]'"
            ) from error
        self.parquet = parquet
        self._files = list(files)
        try:
            mapped = [_spooled(file) for file in files] if parquet else self._files
            self._tables = [_mapped(file) for file in mapped]
        except (OSError, pa.ArrowException) as error:
            raise RelayError(f"cannot read {files[0].parent}: {error}") from error
        self._ends: list[int] = []
        for table in self._tables:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(table))
        schema = self._tables[0].schema
        self._column = _picture_column(schema, files[0])
        kind = schema.field(self._column).type
        self._is_path = _is_text(kind)
        self._is_struct = pa.types.is_struct(kind)
        self._has_path = self._is_struct and kind.get_field_index("path") >= 0
        self._texts = [name for name in _text_columns(schema) if name != self._column]
        for file, table in zip(files, self._tables, strict=True):
            missing = {self._column, *self._texts} - set(table.column_names)
            if missing:
                raise RelayError(
                    f"{file} lacks {', '.join(sorted(missing))}, which {files[0]} has; "
                    "read files of one layout at a time"
                )
        if not len(self):
            raise RelayError(f"{files[0]} and its like hold no rows")

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, i: int) -> str:
        file, row = self._row(i)
        path = self._path(self._tables[file].column(self._column)[row])
        return escaped(os.path.splitext(path)[0] or f"{self._files[file].stem}/{row}")

    def texts(self, i: int) -> Texts:
        file, row = self._row(i)
        table = self._tables[file]
        try:
            return texts_of({name: table.column(name)[row].as_py() for name in self._texts})
        except UnicodeDecodeError as error:
            raise PictureFault("caption is not UTF-8", f"byte {error.start}") from error

    def open(self, i: int) -> BinaryIO:
        file, row = self._row(i)
        value = self._tables[file].column(self._column)[row]
        if not self._is_path and value.is_valid:
            data = (value["bytes"] if self._is_struct else value).as_py()
            if isinstance(data, bytes):
                return io.BytesIO(data)
        path = self._path(value)
        if not path:
            raise PictureFault("no picture", f"{self._column} is empty")
        try:
            return (self._files[file].parent / path).open("rb")
        except OSError as error:
            raise unread(error, name=escaped(path)) from error

    def place(self, i: int) -> Place:
        file, row = self._row(i)
        return Place(self._files[file], str(row))

    def places(self) -> Sequence[Path]:
        return self._files

    def files(self) -> Iterable[Path]:
        """The tables, and the files of the pictures that are not in them."""
        yield from self._files
        for file, table in zip(self._files, self._tables, strict=True):
            paths = map(self._path, _elsewhere(table.column(self._column)))
            yield from (file.parent / path for path in paths if path)

    def _path(self, value: Any) -> str:
        """Of a picture's file, as Python has names of files; empty if there is none."""
        if self._has_path and value.is_valid:  # without the bytes, which may be megabytes
            value = value["path"]
        elif not self._is_path:
            return ""
        try:
            path = value.as_py()
        except UnicodeDecodeError:
            path = os.fsdecode(value.as_buffer().to_pybytes())
        return path if isinstance(path, str) else ""

    def _row(self, i: int) -> tuple[int, int]:
        file = bisect.bisect_right(self._ends, i)
        return file, i - (self._ends[file - 1] if file else 0)


def _elsewhere(column: Any) -> Any:
    """The values of a column of pictures that are not there but in files of their own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(column.type):
        return column
    if not pa.types.is_struct(column.type):
        return ()
    return column.filter(pc.is_null(pc.struct_field(column, "bytes")))


def _picture_column(schema: Any, file: Path) -> str:
    """The column that holds pictures or, failing that, their paths."""
    import pyarrow as pa

    def in_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    kinds = {field.name: field.type for field in schema}
    holding = [name for name, kind in kinds.items() if in_bytes(kind)]
    for name in (*BYTES_COLUMNS, *holding):
        if name in holding:
            return name
    for name in PATH_COLUMNS:
        if name in kinds and _is_text(kinds[name]):
            return name
    raise RelayError(
        f"{file} has no column of pictures, only {', '.join(kinds)}; "
        f"name it {BYTES_COLUMNS[0]} (bytes) or {PATH_COLUMNS[0]} (paths)"
    )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text_columns(schema: Any) -> list[str]:
    """What :func:`texts_of` reads."""
    return [f.name for f in schema if f.name == "original_size" or _is_text(f.type)]


def _mapped(file: Path) -> Any:
    """A table of an Arrow file or stream; ``datasets`` writes streams."""
    import pyarrow as pa

    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def _spooled(file: Path) -> Path:
    """The pictures and texts of a parquet file as an Arrow file in the cache, which one process
    writes, while others wait."""
    name, state = fingerprint([file])
    path = cache_folder("pictures") / f"{name}.{state}.arrow"
    if path.exists():
        return path
    with one_at_a_time(cache_folder("pictures") / f"{name}.arrow.lock"):
        if not path.exists():  # not by the process that was waited for either
            log.info("copying %s to %s, for random access", file, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent, f"{name}.")
            for outdated in path.parent.glob(f"{name}.*.arrow"):
                outdated.unlink(missing_ok=True)
            _copy(file, path)
    return path


def _copy(file: Path, path: Path) -> None:
    """Write what is read of a parquet file as an Arrow file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file, memory_map=True)
    schema = opened.schema_arrow
    picture = _picture_column(schema, file)
    texts = _text_columns(schema)
    columns = [name for name in schema.names if name == picture or name in texts]
    kept = pa.schema([schema.field(name) for name in columns])
    with put(path) as new, pa.ipc.new_file(str(new), kept) as writer:
        for batch in opened.iter_batches(batch_size=256, columns=columns, use_threads=False):
            writer.write_batch(batch.select(columns))


def saved_dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that ``Dataset.save_to_disk`` wrote, in order.

    Raises: RelayError if it is not whole, or holds several splits.
    """
    splits = folder / "dataset_dict.json"
    try:
        if splits.exists():
            names = json.loads(splits.read_text())["splits"]
            raise RelayError(f"{folder} holds {', '.join(names)}: name one, {folder / names[0]}")
        files = json.loads((folder / "state.json").read_text())["_data_files"]
        return [folder / file["filename"] for file in files]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise RelayError(f"{folder} is not a whole datasets folder: {error}") from error
