"""Shards: only what is needed is read, once, and a broken one costs no more than what it lacks."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relay_diffusion.data.pictures import index, kept
from relay_diffusion.data.pictures.collection import open_collection
from relay_diffusion.data.pictures.index import Index
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.pictures.window import window
from relay_diffusion.errors import RelayError
from tests.data.drawn import drawn, encoded, write_shards


def keys(folder: Path) -> list[str]:
    records = open_records(str(folder))
    return [records.key(i) for i in range(len(records))]


def test_a_window_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(range(100)))
    with window(tmp_path / "data", 10, 20, buffer_size=4) as file:
        assert file.read(3) == bytes([10, 11, 12]) and file.tell() == 3
        assert file.seek(-2, os.SEEK_END) == 18
        assert file.read() == bytes([28, 29]) and file.read(1) == b""
        file.seek(0)
        assert file.read() == bytes(range(10, 30))


def read_by(work: Any) -> int:
    """Bytes that this process reads meanwhile."""

    def count() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    before = count()
    work()
    return count() - before


def test_a_shard_is_one_in_capitals_too(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", drawn(8))
    found = keys(folder)
    for shard in folder.glob("*.tar"):
        shard.rename(shard.with_suffix(".TAR"))
    assert keys(folder) == found and len(found) == 8


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts as Linux does")
def test_sizes_are_found_without_reading_the_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data = encoded(Image.fromarray(noise))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for i in range(20):
            for suffix, part in (("png", data), ("json", json.dumps({"text": "noise"}).encode())):
                member = tarfile.TarInfo(f"{i:03}.{suffix}")
                member.size = len(part)
                tar.addfile(member, io.BytesIO(part))
    Index.of(open_records(str(write_shards(tmp_path / "warm", drawn(4)))))  # imports, once
    size = (tmp_path / "0.tar").stat().st_size
    assert read_by(lambda: Index.of(open_records(str(tmp_path / "0.tar")))) < size / 10


def test_a_shard_that_changes_leaves_what_is_known_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "data", drawn(8))
    first = Index.of(open_records(str(folder)))
    os.utime(folder / "00001.tar", (1, 1))
    parts = []
    read = index._read

    def counted(records: Any, part: range, bar: Any) -> Any:
        parts.append(part)
        return read(records, part, bar)

    monkeypatch.setattr(index, "_read", counted)
    again = Index.of(open_records(str(folder)))
    assert parts == [range(4, 8)]
    assert again.widths.tolist() == first.widths.tolist() and again.widths.all()
    assert len(keys(folder)) == 8


def test_a_broken_shard_is_listed_and_read_up_to_its_break(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_shards(tmp_path / "data", drawn(24))
    whole = keys(folder)
    file = folder / "00000.tar"
    data = file.read_bytes()
    with tarfile.open(file) as tar:
        members = tar.getmembers()
    start = members[12].offset  # the seventh picture
    for cut, num in ((start + 100, 5), (start + 600, 6), (members[13].offset_data + 3, 6)):
        file.write_bytes(data[:cut])  # in a header, after which the sample before may not be whole
        assert keys(folder) == whole[:num] + whole[12:]
    file.write_bytes(data[:start] + b"?" * 512 + data[start + 512 :])
    assert keys(folder) == whole[:5] + whole[12:]
    file.write_bytes(b"")
    (folder / "00002.tar").write_bytes(b"\x1f\x8b not a tar")
    with caplog.at_level(logging.WARNING):
        collection = open_collection(str(folder), {"caption": 1.0})
    assert [collection.records.key(i) for i in range(12)] == whole[12:]
    assert [(Path(bad.key).name, bad.kind) for bad in collection.bad] == [
        ("00000.tar", "broken shard"),
        ("00002.tar", "broken shard"),
    ]
    assert "2 broken shard; listed in" in caplog.text
    (folder / "00001.tar").unlink()
    with pytest.raises(RelayError, match=r"00000\.tar is not a whole, .*: empty file"):
        open_records(str(folder))


def _build(cache: str, made: Any, file: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = cache

    def build() -> kept.Arrays:
        made.acquire()  # as often as it has been released: once
        return {"number": np.array([7])}

    assert kept.kept("number", [file], build)["number"].tolist() == [7]


def test_what_does_not_last_is_for_those_that_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(number: int) -> int:
        def build() -> kept.Arrays:
            return {"number": np.array(number)}

        return int(kept.kept("number", [tmp_path / "data"], build, lambda _: False)["number"])

    @contextmanager
    def behind_another(path: Path) -> Iterator[None]:
        monkeypatch.setattr(kept, "one_at_a_time", waits)
        assert known(1) == 1
        yield

    waits = kept.one_at_a_time
    monkeypatch.setattr(kept, "one_at_a_time", behind_another)
    assert known(2) == 1
    assert known(3) == 3


def test_one_process_builds_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    made = context.Semaphore(0)
    arguments = (str(tmp_path / "cache"), made, tmp_path / "data")
    processes = [context.Process(target=_build, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    made.release()  # a second that builds would wait for ever
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [path.suffix for path in kept.cache_folder("pictures").iterdir()] == [".npz"]
