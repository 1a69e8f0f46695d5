"""Captions written into the data, as a further field of the same records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from relay_diffusion.data.pictures.folder import FolderRecords
from relay_diffusion.data.pictures.records import Place, Records
from relay_diffusion.data.pictures.shards import ShardRecords
from relay_diffusion.data.pictures.tables import TableRecords
from relay_diffusion.data.recaption.into_folder import TABLE, add_to_folder
from relay_diffusion.data.recaption.into_parquet import add_to_parquet, check_column, has_column
from relay_diffusion.data.recaption.into_shard import add_to_shard
from relay_diffusion.errors import RelayError

Add = Callable[[Path, str, Mapping[str, str]], Path]


def adder(records: Records, field: str) -> Add:
    """What adds captions, by the name of their record, as a field to one file of a data set.

    Raises: RelayError if the data are of a kind or in a place that cannot be added to, or the field
        cannot be.
    """
    places = records.places()
    written = [path / TABLE if path.is_dir() else path for path in places]
    for folder in {path.resolve().parent for path in written}:  # a link stays a link
        if not os.access(folder, os.W_OK):
            raise RelayError(
                f"{folder} cannot be written, where the captions belong: copy the data to where "
                "they can be changed"
            )
    match records:
        case FolderRecords():
            return add_to_folder
        case ShardRecords():
            return add_to_shard
        case TableRecords(parquet=True):
            check_column(places, field)
            return add_to_parquet
    raise RelayError(
        "what datasets' save_to_disk wrote cannot be added to: write it as parquet "
        "(Dataset.to_parquet) and recaption that"
    )


def merge(records: Records, field: str, captions: Mapping[Place, str]) -> list[Path]:
    """Write captions as a field of their records, one file after the other, each whole or not at
    all.

    Returns: the files that were written.
    Raises: RelayError if one cannot be; those before it are written.
    """
    by_file: dict[Path, dict[str, str]] = {}
    for (file, name), caption in captions.items():
        by_file.setdefault(file, {})[name] = caption
    if isinstance(records, TableRecords) and by_file:
        # All need the column, and those that have it stay as they are. The first file's columns
        # count for all, so it has to be the last: until then the data are read as before, without
        # the field.
        by_file = {
            file: by_file.get(file, {})
            for file in reversed(records.places())
            if file in by_file or not has_column(file, field)
        }
    add = adder(records, field)
    return [add(file, field, of_file) for file, of_file in by_file.items()]
