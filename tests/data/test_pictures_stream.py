"""Batches of pictures: shapes, conditioning, captions, parts; functions of the step."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relay_diffusion.data.buckets import buckets
from relay_diffusion.data.pictures.captions import CaptionMix
from relay_diffusion.data.pictures.collection import open_collection
from relay_diffusion.data.pictures.stream import PictureStream
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from tests.data.drawn import Drawn, drawn, encoded, picture, write_folder, write_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", drawn(30))


def test_each_record_comes_once_an_epoch_and_each_batch_has_one_bucket(folder: Path) -> None:
    stream = PictureStream(open_collection(str(folder), {}, held_out=0.2), (View(64),))
    num = len(stream.members)
    assert num < 30
    shapes = {(shape.height, shape.width) for shape in buckets(64)}
    seen: list[Counter[str]] = []
    for epoch in range(2):
        captions = []
        for position in range(-(-num // 4)):
            batch = stream.batch(epoch * -(-num // 4) + position, 4)
            assert tuple(batch.x.shape[2:]) in shapes
            assert batch.x.min() >= -1 and batch.x.max() <= 1
            captions += batch.captions
        seen.append(Counter(captions))
    for counts in seen:
        assert len(counts) == num
        assert sum(count - 1 for count in counts.values()) == -num % 4
    assert not stream.bad


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    collection = open_collection(str(folder), {})
    one, other = (PictureStream(collection, (View(64), View(32)), seed=5) for _ in range(2))
    batches = [one.batch(step, 4) for step in range(20)]
    for step in (13, 0, 19):  # over epochs, in any order
        again = other.batch(step, 4)
        assert torch.equal(again.x, batches[step].x)
        assert torch.equal(again.time_ids, batches[step].time_ids)
        assert again.captions == batches[step].captions
    assert {batch.x.shape[2] for batch in batches} >= {32, 64}
    unlike = PictureStream(collection, (View(64), View(32)), seed=6)
    assert any(unlike.batch(i, 4).captions != batches[i].captions for i in range(3))


@pytest.mark.parametrize("view", [View(64), View(64, crop=32)])
@pytest.mark.parametrize("split", ["train", "held-out"])
def test_the_conditioning_says_where_the_crop_lies(view: View, split: str, folder: Path) -> None:
    originals = {r.fields["caption"]: r.picture for r in drawn(30)}
    collection = open_collection(str(folder), {}, held_out=0.5)
    stream = PictureStream(collection, (view,), split=split)  # type: ignore[arg-type]
    corners = set()
    for step in range(6):
        batch = stream.batch(step, 4)
        for x, caption, ids in zip(batch.x, batch.captions, batch.time_ids.tolist(), strict=True):
            height, width, top, left, target_height, target_width = map(int, ids)
            path = folder / next(folder.rglob(f"{int(caption.split()[1]):03}.png"))
            image = Image.open(path)
            assert path.read_bytes() == originals[caption]
            assert image.size == (width, height)
            assert (target_height, target_width) == tuple(x.shape[1:])
            scale = max(target_height / height, target_width / width)
            if view.crop:
                scale = max(scale, view.size / (height * width) ** 0.5)
            tall, wide = round(height * scale), round(width * scale)
            box = (left, top, left + target_width, top + target_height)
            seen = image.resize((wide, tall), Image.Resampling.LANCZOS).crop(box)
            torch.testing.assert_close(
                x, torch.from_numpy(np.array(seen)).permute(2, 0, 1) / 127.5 - 1
            )
            spare = tall - target_height, wide - target_width
            corners.add((top == spare[0] // 2, left == spare[1] // 2))
    assert (corners == {(True, True)}) == (split == "held-out")


def test_the_original_size_of_a_record_is_what_conditions(tmp_path: Path) -> None:
    small = encoded(picture(0, 40, 40))
    records = [
        Drawn(f"{i}", small, {"caption": f"{i}", "original_size": [640, 480]}) for i in range(4)
    ]
    path = write_folder(tmp_path / "sized", records, "json")
    batch = PictureStream(open_collection(str(path), {}), (View(32),)).batch(0, 2)
    assert batch.time_ids[:, :2].tolist() == [[480, 640]] * 2


def test_held_out_pictures_stay_held_out(folder: Path, tmp_path: Path) -> None:
    def keys(path: Path, split: str, share: float = 0.3) -> set[str]:
        collection = open_collection(str(path), {}, held_out=share)
        part = collection.part(split)  # type: ignore[arg-type]
        return {collection.records.key(i) for i in part.tolist()}

    held = keys(folder, "held-out")
    assert 3 < len(held) < 16
    assert held.isdisjoint(keys(folder, "train"))
    assert len(held | keys(folder, "train")) == 30
    assert keys(write_shards(tmp_path / "shards", drawn(30)), "held-out") == held
    assert held < keys(write_folder(tmp_path / "more", drawn(60)), "held-out")
    assert len(keys(folder, "held-out", 1e-6)) == 1  # never none
    assert len(keys(folder, "train", 1 - 1e-6)) == 1


def test_captions_are_mixed_by_weight_and_missing_ones_made_up_for() -> None:
    fields = {"long", "short", "alt"}
    mix = CaptionMix.of({"long": 0.95, "short": 0.05, "alt": 0.0}, fields)
    every = {"long": "L", "short": "S", "alt": "A", "other": "O"}
    draws = Counter(mix.choose(every, random.Random(i)) for i in range(4000))
    assert draws["L"] / 4000 == pytest.approx(0.95, abs=0.012)
    assert draws["L"] + draws["S"] == 4000
    draw = random.Random(0)
    assert mix.choose({"short": "S", "other": "O"}, draw) == "S"
    assert mix.choose({"alt": "A"}, draw) == "A"
    assert mix.choose({"other": "O"}, draw) is None
    assert mix.pair(every, draw) in {("L", "S"), ("S", "L")}
    assert mix.pair({"short": "S"}, draw) == ("S", "S")


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({"lnog": 1.0}, "data.captions has lnog, the data have long, short: did you mean long?"),
        ({}, "the data have several captions, long, short: say which"),
    ],
)
def test_captions_that_the_data_lack_are_named(
    captions: dict[str, float], message: str, tmp_path: Path
) -> None:
    path = write_folder(tmp_path / "data", drawn(4, long="long", short="short"), "json")
    with pytest.raises(RelayError) as error:
        open_collection(str(path), captions)
    assert message in str(error.value)


def test_pairs_are_two_captions_of_one_picture(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "data", drawn(8, long="long", short="short"), "json")
    collection = open_collection(str(path), {"long": 0.5, "short": 0.5})
    stream = PictureStream(collection, (View(32),))
    pairs = stream.caption_pairs(3, 4)
    assert pairs == stream.caption_pairs(3, 4)
    for pair in pairs:
        assert {text.split()[0] for text in pair} == {"long", "short"}
        assert len({text.split()[1] for text in pair}) == 1
    one = PictureStream(open_collection(str(path), {"long": 1.0}), (View(32),))
    with pytest.raises(RelayError, match="need two fields"):
        one.caption_pairs(0, 4)
