"""What files may be called: in capitals, or in bytes that are not UTF-8."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.collection import open_collection
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.pictures.records import Records
from relay_diffusion.data.pictures.stream import PictureStream
from relay_diffusion.data.view import View
from tests.data.drawn import (
    Drawn,
    drawn,
    encoded,
    picture,
    write_folder,
    write_parquet,
    write_saved_dataset,
    write_shards,
)

NOT_UTF8 = os.fsdecode(b"caf\xe9")
KEY = r"caf\udce9"


def captions(records: Records) -> dict[str, dict[str, str]]:
    return {records.key(i): records.texts(i).captions for i in range(len(records))}


@pytest.mark.parametrize("write", [write_folder, write_shards, write_parquet, write_saved_dataset])
def test_a_name_that_is_not_utf8_is_as_good_as_any(
    write: Callable[[Path, list[Drawn]], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if write in (write_parquet, write_saved_dataset):
        pytest.importorskip("pyarrow")
    odd = Drawn(NOT_UTF8, encoded(picture(9, 40, 40)), {"caption": "coffee"})
    bad = Drawn(f"{NOT_UTF8}/bad", b"", {"caption": "coffee"})
    path = str(write(tmp_path / "data", [*drawn(4), odd, bad]))
    with caplog.at_level(logging.WARNING):
        collection = open_collection(path, {}, held_out=0.3)
    records = collection.records
    with records.open([records.key(i) for i in range(6)].index(KEY)) as file:
        assert file.read() == odd.picture
    assert [bad.key for bad in collection.bad] == [f"{KEY}/bad"]
    listed = Path(caplog.text.partition("listed in ")[2].strip()).read_text(encoding="utf-8")
    assert listed.startswith(f"{KEY}/bad: not a picture")
    seen = {split: set[str]() for split in ("train", "held-out")}
    for split, told in seen.items():
        stream = PictureStream(collection, (View(32),), split=split)  # type: ignore[arg-type]
        for step in range(3):
            told.update(stream.batch(step, 2).captions)
    assert "coffee" in seen["train"] | seen["held-out"]


def test_it_has_one_key_in_every_kind_of_tar(tmp_path: Path) -> None:
    data = encoded(picture(9, 40, 40))
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in (NOT_UTF8, f"{'long' * 40}/{NOT_UTF8}"):
            if kind == tarfile.USTAR_FORMAT and len(name) > 100:
                continue
            with tarfile.open(tmp_path / "0.tar", "w", format=kind) as tar:
                for suffix, part in (("PNG", data), ("TXT", b"coffee")):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(part)
                    tar.addfile(member, io.BytesIO(part))
            os.utime(tmp_path / "0.tar", (kind, len(name)))
            records = open_records(str(tmp_path / "0.tar"))
            assert captions(records) == {name.replace(NOT_UTF8, KEY): {"caption": "coffee"}}


def test_a_broken_shard_is_named_whatever_its_name(tmp_path: Path) -> None:
    odd = [Drawn(f"{NOT_UTF8}{i}", encoded(picture(i, 40, 40)), {"caption": "a"}) for i in range(9)]
    write_shards(tmp_path, odd)
    shard = (tmp_path / "00000.tar").rename(tmp_path / f"{NOT_UTF8}.tar")
    shard.write_bytes(shard.read_bytes()[:3000])
    (bad,) = open_collection(str(tmp_path), {}).bad
    assert bad.key.endswith(f"/{KEY}.tar")
    assert bad.detail.endswith(f"not read from {KEY}0 on")


def test_a_table_says_which_picture_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path, [Drawn(NOT_UTF8, encoded(picture(0, 40, 40)), {"text": "a"})], "jsonl")
    assert captions(open_records(str(tmp_path))) == {KEY: {"caption": "a"}}


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    write_folder(tmp_path, drawn(3))
    paths = [f"{record.key}.png" for record in drawn(3)] + [f"{NOT_UTF8}.png"]
    column = pa.array(list(map(os.fsencode, paths)), pa.binary()).view(pa.string())
    pq.write_table(pa.table({"path": column, "caption": ["a"] * 4}), tmp_path / "list.parquet")
    (bad,) = open_collection(str(tmp_path), {}).bad
    assert str(bad) == f"{KEY}: no picture: {KEY}.png: No such file or directory"


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    for name in ("A.JPG", "b.Png", "C.JPEG"):
        (tmp_path / name).write_bytes(encoded(picture(0, 40, 40)))
    (tmp_path / "A.TXT").write_text("from A.TXT")
    (tmp_path / "b.Json").write_text(json.dumps({"long": "from b.Json"}))
    (tmp_path / "C.TXT").write_text("from C.TXT")
    (tmp_path / "C.txt").write_text("from C.txt")
    if len(list(tmp_path.iterdir())) < 7:
        pytest.skip("this disk does not tell capitals")
    records = open_records(str(tmp_path))
    assert captions(records) == {
        "A": {"caption": "from A.TXT"},
        "C": {"caption": "from C.txt"},
        "b": {"long": "from b.Json"},
    }
    assert {file.name for file in records.files()} >= {"A.TXT", "b.Json", "C.txt"}
