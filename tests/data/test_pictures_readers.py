"""Every form of storage gives the same records for the same pictures."""

from __future__ import annotations

import logging
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.index import Index
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.pictures.records import texts_of
from relay_diffusion.errors import RelayError
from relay_diffusion.files import cache_folder
from tests.data.drawn import (
    Drawn,
    as_drawn,
    drawn,
    encoded,
    failing_disk,
    picture,
    write_folder,
    write_parquet,
    write_saved_dataset,
    write_shards,
)


@pytest.mark.parametrize("form", ["json", "jsonl", "shards", "parquet", "dataset"])
def test_named_captions_are_the_same_from_every_form(form: str, tmp_path: Path) -> None:
    records = drawn(12, long="a long caption of", short="short")
    if form in ("parquet", "dataset"):
        pytest.importorskip("pyarrow")
    path = {
        "json": lambda: write_folder(tmp_path / "data", records, "json"),
        "jsonl": lambda: write_folder(tmp_path / "data", records, "jsonl"),
        "shards": lambda: f"{write_shards(tmp_path / 'data', records)}/*.tar",
        "parquet": lambda: write_parquet(tmp_path / "data", records),
        "dataset": lambda: write_saved_dataset(tmp_path / "data", records),
    }[form]()
    assert as_drawn(open_records(str(path))) == records
    assert as_drawn(open_records(str(path))) == records  # from what was kept


@pytest.mark.parametrize("form", ["txt", "jsonl", "shards", "parquet"])
def test_one_caption_has_one_name_in_every_form(form: str, tmp_path: Path) -> None:
    records = drawn(4)
    texts = [Drawn(r.key, r.picture, {"text": r.fields["caption"]}) for r in records]
    if form == "txt":
        path = write_folder(tmp_path / "data", records)
    elif form == "jsonl":
        path = write_folder(tmp_path / "data", texts, "jsonl")
    elif form == "shards":
        path = write_shards(tmp_path / "data", records, "txt")
    else:
        pytest.importorskip("pyarrow")
        path = write_parquet(tmp_path / "data", texts)
    assert as_drawn(open_records(str(path))) == records


def test_parquet_may_hold_paths(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    records = drawn(4)
    write_folder(tmp_path, records)
    columns = {
        "image_path": [f"{record.key}.png" for record in records],
        "caption": [record.fields["caption"] for record in records],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert as_drawn(open_records(str(tmp_path / "list.parquet"))) == records


def test_pictures_beside_shards_are_not_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = drawn(4)
    write_shards(tmp_path, records)
    assert as_drawn(open_records(str(tmp_path))) == records
    assert not caplog.text
    write_folder(tmp_path / "more", drawn(2))
    assert as_drawn(open_records(str(tmp_path))) == records
    assert "2 pictures beside them, such as more/part0/000.png, are not read" in caplog.text


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    """macOS writes ``._00000.tar`` beside a shard, and downloads leave caches."""
    records = drawn(4)
    write_folder(tmp_path, records)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.parquet").write_bytes(b"none")
    (tmp_path / "._00000.tar").write_bytes(b"none")
    assert as_drawn(open_records(str(tmp_path))) == records


def test_a_row_may_say_the_original_size_and_overrules_files() -> None:
    texts = texts_of({"text": " a fox ", "original_size": [640, 480], "score": 3, "blank": " "})
    assert texts.captions == {"caption": "a fox"}
    assert texts.original_size == (480, 640)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "nothing at .*missing"),
        ("empty", "no pictures in .*empty"),
        ("notes.md", r"notes.md is .md; data.path is a folder"),
        ("cut.tar", "cut.tar is not a whole, uncompressed tar"),
        ("packed.tar", "packed.tar is not a whole, uncompressed tar"),
        (
            "rows",
            r'no line of .*metadata.jsonl is \{"file_name".* line 1: no picture: no file_name',
        ),
        ("splits", "splits holds train, test: name one, .*train"),
    ],
)
def test_a_path_that_is_no_data_set_says_why(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("notes")
    whole = (write_shards(tmp_path / "shards", drawn(4)) / "00000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(tmp_path / "notes.md")
    write_folder(tmp_path / "rows", drawn(2))
    (tmp_path / "rows" / "metadata.jsonl").write_text('{"name": 1}\n')
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    if path == "splits":
        pytest.importorskip("pyarrow")
    with pytest.raises(RelayError, match=message):
        open_records(str(tmp_path / path))


def test_sizes_are_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", drawn(4))
    first = Index.of(open_records(str(folder)))
    assert list(cache_folder("pictures").glob("*.index.npz"))
    with monkeypatch.context() as patch:
        patch.setattr("relay_diffusion.data.pictures.index.measure", None)  # must not be needed
        again = Index.of(open_records(str(folder)))
    assert again.widths.tolist() == first.widths.tolist() == [40, 40, 64, 50]
    changed = folder / "part0" / "000.png"
    changed.write_bytes(encoded(picture(0, 80, 30)))
    os.utime(changed, (1, 1))
    assert Index.of(open_records(str(folder))).widths.tolist() == [80, 40, 64, 50]


def test_what_a_failing_disk_takes_is_looked_for_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, drawn(4))
    with failing_disk("part0/002.png"):
        faults = Index.of(open_records(str(folder))).faults
    assert {i: str(fault) for i, fault in faults.items()} == {1: "unreadable: Input/output error"}
    assert Index.of(open_records(str(folder))).faults == {}


def test_a_table_is_copied_once_and_what_the_dead_left_is_swept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pyarrow")
    (file, _) = sorted(write_parquet(tmp_path, drawn(8)).iterdir())
    open_records(str(file))
    (copied,) = cache_folder("pictures").iterdir()
    leftover = cache_folder("pictures") / f".{copied.name}.dead.new"
    of_another = cache_folder("pictures") / ".another.state.arrow.alive.new"
    for path in (leftover, of_another):
        path.write_bytes(b"half")
    os.utime(file, (1, 1))
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_records, [str(file)] * 4))
    assert [as_drawn(records) for records in opened] == [drawn(8)[:4]] * 4
    assert sum("copying" in line for line in caplog.messages) == 1
    assert sorted(path.suffix for path in cache_folder("pictures").iterdir()) == [".arrow", ".new"]
    assert of_another.exists() and not copied.exists()


def test_pictures_that_a_table_names_may_come_later(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    bytes_here = {"bytes": encoded(picture(0, 40, 40)), "path": "c.png"}
    column = [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": "b.png"}, bytes_here]
    table = pa.table({"image": column, "caption": ["a"] * 3})
    pq.write_table(table, tmp_path / "list.parquet")
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 40, 40)))
    records = open_records(str(tmp_path / "list.parquet"))
    assert [file.name for file in records.files()] == ["list.parquet", "a.png", "b.png"]
    assert Index.of(records).faults.keys() == {1}
    (tmp_path / "b.png").write_bytes(encoded(picture(1, 40, 40)))
    assert Index.of(open_records(str(tmp_path / "list.parquet"))).faults == {}


def test_tables_of_two_layouts_are_not_mixed(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"1"], "text": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [b"2"], "title": ["b"]}), tmp_path / "b.parquet")
    with pytest.raises(RelayError, match=r"b\.parquet lacks text, which .*a\.parquet has"):
        open_records(str(tmp_path))
