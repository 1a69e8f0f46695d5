"""Captions and tables that cannot be read cost the pictures that they are of, and no more."""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.collection import open_collection
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


@pytest.mark.parametrize("form", ["json", "jsonl", "shards", "parquet", "dataset"])
def test_half_a_surrogate_pair_is_a_fault_of_its_picture(form: str, tmp_path: Path) -> None:
    records = [*drawn(3), Drawn("half", encoded(picture(9, 40, 40)), {"caption": "a fox \ud800"})]
    reason = "half of a surrogate pair in caption"
    if form in ("parquet", "dataset"):
        pytest.importorskip("pyarrow")
        write = write_parquet if form == "parquet" else write_saved_dataset
        reason = "byte 6"
    elif form == "shards":
        write = write_shards
    else:

        def write(folder: Path, records: Sequence[Drawn]) -> Path:
            return write_folder(folder, records, form)

    collection = open_collection(str(write(tmp_path / "data", records)), {})
    assert {bad.key: bad.reason for bad in collection.bad} == {
        "half": f"caption is not UTF-8: {reason}"
    }


def test_half_a_surrogate_pair_in_the_name_of_a_field_is_one_too(tmp_path: Path) -> None:
    records = [
        *drawn(3),
        Drawn("half", encoded(picture(9, 40, 40)), {"caption": "a fox", "\ud800": "a fox"}),
    ]
    collection = open_collection(str(write_folder(tmp_path / "data", records, "json")), {})
    assert [str(bad) for bad in collection.bad] == [
        r"half: caption is not UTF-8: half of a surrogate pair in \ud800"
    ]


def test_a_bad_line_of_a_table_is_listed_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "data", drawn(6), "jsonl")
    table = folder / "metadata.jsonl"
    first, second, third, *rest = table.read_bytes().splitlines()
    latin = second.replace(b"picture", "caf\u00e9".encode("latin-1"))
    bad = [
        b"",
        third[:20],
        b"[1]",
        b'{"text": "of no picture"}',
        b'{"file_name": 5}',
        b"[" * 99_999,
    ]
    table.write_bytes(b"\n".join([codecs.BOM_UTF8 + first, latin, *bad, *rest]))
    with caplog.at_level(logging.WARNING):
        collection = open_collection(str(folder), {})
    assert [(bad.key, bad.kind) for bad in collection.bad] == [
        *((f"metadata.jsonl, line {number}", "broken line") for number in (2, *range(4, 9))),
        *((json.loads(line)["file_name"][:-4], "no caption") for line in (second, third)),
    ]
    reasons = [bad.detail for bad in collection.bad[:6]]
    assert reasons[0] == f"caption is not UTF-8: byte {latin.index(0xE9)}"
    assert reasons[1].startswith("caption is not JSON: Unterminated string")
    assert reasons[2] == "caption is not JSON: an object, but list"
    assert reasons[3] == reasons[4] == "no picture: no file_name"
    assert reasons[5].startswith("caption is not JSON: maximum recursion depth exceeded")
    assert "left out 2 of 6 pictures: 6 broken line, 2 no caption; listed in" in caplog.text
