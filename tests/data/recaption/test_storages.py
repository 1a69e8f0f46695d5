"""Captions land in every form of storage, beside what is there."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.collection import open_collection
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.recaption.merging import adder, merge
from relay_diffusion.errors import RelayError
from tests.data.drawn import (
    Drawn,
    as_drawn,
    drawn,
    write_folder,
    write_parquet,
    write_saved_dataset,
    write_shards,
)
from tests.data.recaption.conftest import SETTINGS, Scripted, described, go

FORMS: dict[str, Callable[[Path, list[Drawn]], Path]] = {
    "folder-txt": write_folder,
    "folder-json": lambda path, records: write_folder(path, records, "json"),
    "folder-jsonl": lambda path, records: write_folder(path, records, "jsonl"),
    "shards-txt": lambda path, records: write_shards(path, records, "txt"),
    "shards-json": write_shards,
    "parquet": write_parquet,
}


@pytest.fixture(params=FORMS)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return FORMS[request.param](tmp_path / "data", drawn(12))


def read(data: Path) -> list[Drawn]:
    return as_drawn(open_records(str(data)))


def test_training_finds_both_captions_of_every_picture(data: Path) -> None:
    writer = Scripted()
    lines = go(data, writer)
    assert any("12 captions written as long to" in line for line in lines)
    both = [
        Drawn(r.key, r.picture, {**r.fields, "long": described(r.fields["caption"])})
        for r in drawn(12)
    ]
    assert read(data) == both
    collection = open_collection(str(data), {"long": 0.95, "caption": 0.05})
    assert not collection.bad
    assert sum(len(collection.part(split)) for split in ("train", "held-out")) == 12
    assert go(data, writer) == ["12 pictures: 12 have the caption, 0 to be asked about"]
    assert len(writer.asked) == 12


def test_a_second_field_leaves_the_first_alone(data: Path) -> None:
    go(data, Scripted())
    go(data, Scripted(), replace(SETTINGS, field="other", original="long"))
    captions = [record.fields for record in read(data)]
    assert captions == [
        {"caption": c["caption"], "long": described(c["caption"]), "other": described(c["long"])}
        for c in captions
    ]


def test_what_a_captions_table_says_already_stays(tmp_path: Path) -> None:
    write_folder(tmp_path, drawn(4))
    rows = [
        {"file_name": "part0/000.png", "long": "written by hand", "score": 1.5},
        {"file_name": "./part0/002.png", "title": "two \u2028 lines"},
        {"file_name": "gone.png", "title": "of a picture that is gone"},
    ]
    table = tmp_path / "captions.jsonl"
    table.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")
    # Tables that are read later must not hide it: not one in a subfolder, nor empty fields.
    row = {"file_name": "001.png", "alt": "of a subfolder", "long": ""}
    (tmp_path / "part1" / "metadata.jsonl").write_text(json.dumps(row))
    writer = Scripted()
    go(tmp_path, writer)
    assert sorted(map(str, writer.asked)) == ["picture 1", "picture 2", "picture 3"]
    by_key = {record.key: record.fields for record in read(tmp_path)}
    assert by_key["part0/000"] == {"caption": "picture 0", "long": "written by hand"}
    assert by_key["part0/002"]["title"] == "two \u2028 lines"
    assert by_key["part0/002"]["long"] == described("picture 2")
    assert by_key["part1/001"]["long"] == described("picture 1")
    assert by_key["part1/001"]["alt"] == "of a subfolder"
    kept = [json.loads(line) for line in table.read_text().split("\n") if line]
    assert kept[0] == rows[0]
    assert kept[2] == rows[2]


def test_a_line_that_cannot_be_read_stays_and_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, drawn(4))
    cut, latin = b'{"file_name": "part0/0', "caf\u00e9".encode("latin-1")
    row = json.dumps({"file_name": "part0/000.png", "title": "ramps"}).encode()
    (tmp_path / "captions.jsonl").write_bytes(b"\n".join([latin, row, cut]))
    assert (
        "2 lines of tables cannot be read, such as captions.jsonl, line 1: broken line: "
        in (go(tmp_path, Scripted())[0])
    )
    lines = (tmp_path / "captions.jsonl").read_bytes().splitlines()
    assert (lines[0], lines[2]) == (latin, cut) and len(lines) == 6
    assert json.loads(lines[1])["title"] == "ramps"
    assert all(record.fields["long"] for record in read(tmp_path))


@pytest.mark.parametrize("write", [write_folder, write_shards])
def test_a_name_that_is_not_utf8_is_found_again(
    write: Callable[[Path, list[Drawn]], Path], tmp_path: Path
) -> None:
    odd = Drawn(os.fsdecode(b"caf\xe9"), drawn(1)[0].picture, {"caption": "coffee"})
    write(tmp_path, [*drawn(3), odd])
    go(tmp_path, Scripted())
    fields = {record.key: record.fields for record in read(tmp_path)}
    assert fields[r"caf\udce9"] == {"caption": "coffee", "long": described("coffee")}


def test_a_shard_keeps_every_other_byte(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    record = drawn(1)[0]
    members = {
        "./x/readme.md": b"of no sample",
        f"./x/{'long' * 40}.png": record.picture,  # a name that needs a header of its own
        f"./x/{'long' * 40}.cls": b"7",
        "b.json": json.dumps({"caption": "bee", "score": 0.1, "tags": ["a"]}).encode(),
        "b.png": record.picture,
        "c.png": record.picture,
        "c.txt": b"sea",
    }
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
    go(shard, Scripted())
    with tarfile.open(shard, "r:") as tar:
        found = [(m.name, m.mtime, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    times = {mtime for _, mtime, _ in found}
    assert times == {1_600_000_000}
    new = {name: json.loads(data) for name, _, data in found if name.endswith(".json")}
    assert [name for name, _, _ in found] == [
        "./x/readme.md",
        f"./x/{'long' * 40}.png",
        f"./x/{'long' * 40}.json",
        f"./x/{'long' * 40}.cls",
        "b.json",
        "b.png",
        "c.png",
        "c.json",
        "c.txt",
    ]
    assert new["b.json"] == {
        "caption": "bee", "score": 0.1, "tags": ["a"], "long": described("bee"),
    }  # fmt: skip
    assert new["c.json"] == {"long": described("sea")}
    rest = {name: data for name, _, data in found if not name.endswith(".json")}
    assert rest == {n: data for n, data in members.items() if not n.endswith(".json")}


def test_shards_with_the_same_keys_are_told_apart(tmp_path: Path) -> None:
    for name, text in (("a", "first"), ("b", "second")):
        record = replace(drawn(1)[0], fields={"caption": text})
        write_shards(tmp_path / name, [record])
        (tmp_path / name / "00001.tar").rename(tmp_path / f"{name}.tar")
        (tmp_path / name / "00000.tar").unlink()
    go(tmp_path, Scripted())
    captions = [record.fields["long"] for record in read(tmp_path)]
    assert captions == [described("first"), described("second")]


def test_parquet_keeps_its_groups_types_and_compression(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    data = write_parquet(tmp_path / "data", drawn(12))
    file = data / "train-0.parquet"
    before, table = pq.ParquetFile(file).metadata, pq.read_table(file)
    go(data, Scripted())
    after = pq.ParquetFile(file).metadata
    assert after.num_row_groups == before.num_row_groups == 2
    assert after.row_group(0).column(0).compression == before.row_group(0).column(0).compression
    assert pq.read_table(file).drop_columns("long").equals(table)


def test_parquet_that_is_cut_short_between_files_is_still_read_and_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from relay_diffusion.data.recaption import into_parquet, merging

    data = write_parquet(tmp_path / "data", drawn(12))
    written: list[str] = []

    def add_one(file: Path, *args: object) -> Path:
        if written:
            raise KeyboardInterrupt
        written.append(file.name)
        return into_parquet.add_to_parquet(file, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(merging, "add_to_parquet", add_one)
        with pytest.raises(KeyboardInterrupt):
            go(data, Scripted())
    assert written == ["train-1.parquet"]
    writer = Scripted()
    go(data, writer)
    assert writer.asked == []
    assert all(record.fields["long"] for record in read(data))


def test_parquet_files_without_a_new_caption_are_not_written_again(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    data = write_parquet(tmp_path / "data", drawn(12))
    go(data, Scripted(), replace(SETTINGS, num=1))
    untouched = data / "train-1.parquet"
    before = untouched.stat().st_ino
    records = open_records(str(data))
    merge(records, "long", {records.place(1): "A ramp."})
    assert untouched.stat().st_ino == before
    assert open_records(str(data)).texts(1).captions["long"] == "A ramp."


def test_a_file_that_cannot_be_written_is_as_it_was(data: Path) -> None:
    before = read(data)
    blocked = open_records(str(data)).place(0).file
    target = blocked / "captions.jsonl" if blocked.is_dir() else blocked
    target.with_name(f".{target.name}.new").mkdir()
    with pytest.raises(RelayError, match=r"could not be written .*is as it was"):
        go(data, Scripted())
    assert read(data) == before
    target.with_name(f".{target.name}.new").rmdir()
    writer = Scripted()
    go(data, writer)
    assert writer.asked == []
    assert all(record.fields["long"] for record in read(data))


def test_data_that_cannot_be_added_to_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    saved = open_records(str(write_saved_dataset(tmp_path / "saved", drawn(4))))
    with pytest.raises(RelayError, match="save_to_disk wrote cannot be added to"):
        merge(saved, "long", {})
    parquet = open_records(str(write_parquet(tmp_path / "parquet", drawn(4))))
    with pytest.raises(RelayError, match="has a column score of double: give another --field"):
        merge(parquet, "score", {})


def test_data_that_cannot_be_changed_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != data)  # root writes anywhere
    with pytest.raises(RelayError, match="data cannot be written, where the captions belong"):
        adder(open_records(str(data)), "long")
    linked = data.with_name("linked")
    linked.mkdir()
    (data / "captions.jsonl").touch()
    for file in data.iterdir():
        (linked / file.name).symlink_to(file)
    with pytest.raises(RelayError, match="data cannot be written, where the captions belong"):
        adder(open_records(str(linked)), "long")
