"""Which kind of data set a path is."""

from __future__ import annotations

import glob
import logging
from pathlib import Path

from relay_diffusion.data.pictures.folder import FolderRecords
from relay_diffusion.data.pictures.records import SUFFIXES, Records
from relay_diffusion.data.pictures.shards import ShardRecords
from relay_diffusion.data.pictures.tables import TableRecords, saved_dataset_files
from relay_diffusion.errors import RelayError
from relay_diffusion.files import files_below

log = logging.getLogger(__name__)

KINDS = "a folder of pictures, *.parquet, *.tar, or a folder that datasets' save_to_disk wrote"


def open_records(path: str) -> Records:
    """The records of a folder, of a file, or of all files that a pattern such as ``shards/*.tar``
    matches, in the order of their names; of a folder of shards or of parquet, all of them.

    Raises: RelayError if there is nothing, or nothing known.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place)
    found = [place] if place.is_file() else [Path(p) for p in glob.glob(str(place), recursive=True)]
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise RelayError(f"nothing at {path}; data.path is {KINDS}")
    suffixes = {file.suffix.lower() for file in files}
    if suffixes == {".tar"}:
        return ShardRecords(files)
    if suffixes == {".parquet"}:
        return TableRecords(files, parquet=True)
    raise RelayError(f"{path} is {', '.join(sorted(suffixes))}; data.path is {KINDS}")


def _open_folder(folder: Path) -> Records:
    if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
        return TableRecords(saved_dataset_files(folder), parquet=False)
    inside = sorted(file for file in files_below(folder) if file.is_file())
    shards = [file for file in inside if file.suffix.lower() == ".tar"]
    if shards:
        # Parquet beside shards is their statistics; pictures beside parquet may be what it names.
        loose = [file for file in inside if file.suffix.lower() in SUFFIXES]
        if loose:
            log.warning(
                "%s: reading its *.tar; %d pictures beside them, such as %s, are not read: give "
                "them a folder of their own",
                folder,
                len(loose),
                loose[0].relative_to(folder),
            )
        return ShardRecords(shards)
    tables = [file for file in inside if file.suffix.lower() == ".parquet"]
    if tables:
        return TableRecords(tables, parquet=True)
    return FolderRecords(folder)
