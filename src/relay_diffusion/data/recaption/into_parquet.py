"""Captions into a parquet file: one more column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from relay_diffusion.data.recaption.replacing import replacing
from relay_diffusion.errors import RelayError


def add_to_parquet(file: Path, field: str, captions: Mapping[str, str]) -> Path:
    """Write a file anew with captions by the number of their row, in a column that is null in the
    other rows, or keeps what it had there. Groups of rows and compression stay as they were.

    Returns: the file.
    Raises: RelayError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(file) as new, pq.ParquetFile(file, memory_map=True) as old:
        meta, schema = old.metadata, old.schema_arrow
        place = schema.get_field_index(field)
        wider = schema if place >= 0 else schema.append(pa.field(field, pa.string()))
        codec = meta.row_group(0).column(0).compression if meta.num_row_groups else "snappy"
        begin = 0
        with pq.ParquetWriter(new, wider, compression=codec.replace("UNCOMPRESSED", "NONE")) as out:
            for group in range(meta.num_row_groups):
                rows = old.read_row_group(group)
                kept = rows.column(place).to_pylist() if place >= 0 else [None] * len(rows)
                texts = [captions.get(str(begin + row), had) for row, had in enumerate(kept)]
                column = pa.array(texts, wider.field(field).type)
                if place >= 0:
                    rows = rows.set_column(place, wider.field(field), column)
                else:
                    rows = rows.append_column(wider.field(field), column)
                out.write_table(rows, row_group_size=len(rows) or None)
                begin += len(rows)
        if begin <= max(map(int, captions), default=-1):
            raise RelayError(f"{file} has changed: it has only {begin} rows now")
    return file


def has_column(file: Path, field: str) -> bool:
    import pyarrow.parquet as pq

    return field in pq.read_schema(file).names


def check_column(files: Iterable[Path], field: str) -> None:
    """Raises: RelayError if a column of that name is there and not of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        schema = pq.read_schema(file)
        kind = schema.field(field).type if field in schema.names else pa.string()
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise RelayError(f"{file} has a column {field} of {kind}: give another --field")
