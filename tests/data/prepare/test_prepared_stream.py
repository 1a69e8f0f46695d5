"""Batches of prepared samples: one shape each, functions of the step, captions by weight."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from relay_diffusion.data.pictures.collection import open_collection
from relay_diffusion.data.prepare.cascade import open_tokenizer
from relay_diffusion.data.prepare.reading import Prepared
from relay_diffusion.data.prepare.stream import PreparedStream
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import tokenize
from tests.data.drawn import write_folder
from tests.data.prepare.making import made, scribbles

MIX = {"long": 0.8, "short": 0.2}
SIZES = [(64, 64), (64, 64), (96, 48)]


@pytest.fixture
def out(cascade_folder: Path, tmp_path: Path) -> Path:
    pictures = write_folder(tmp_path / "data", scribbles(30, SIZES), "json")
    made(pictures, tmp_path / "out", cascade_folder, embeddings=True)
    return tmp_path / "out"


def test_an_epoch_visits_every_sample_in_batches_of_one_shape(out: Path) -> None:
    stream = PreparedStream(Prepared(out, {"long": 1.0}, held_out=0.1))
    members = stream.prepared.part("train").tolist()
    wide = sum(1 for i in members if stream.prepared.buckets[i] != 2)
    length = -(-wide // 4) + -(-(len(members) - wide) // 4)
    for epoch in range(2):
        seen: Counter[bytes] = Counter()
        for step in range(epoch * length, (epoch + 1) * length):
            batch = stream.batch(step, 4)
            targets = {(8 * batch.z_0.shape[2], 8 * batch.z_0.shape[3])}
            assert {tuple(ids[4:]) for ids in batch.time_ids.int().tolist()} == targets
            seen.update(z.numpy().tobytes() for z in batch.z_0)
        assert len(seen) == len(members)


def test_a_batch_is_a_function_of_seed_and_step(out: Path) -> None:
    prepared = Prepared(out, MIX)
    one, other = (PreparedStream(prepared, seed=5, embeddings=True) for _ in range(2))
    batches = [one.batch(step, 4) for step in range(12)]
    for step in (9, 0, 11):
        for name, value in vars(other.batch(step, 4)).items():
            mine = vars(batches[step])[name]
            assert torch.equal(mine, value) if torch.is_tensor(value) else mine == value
    unlike = PreparedStream(prepared, seed=6)
    assert any(unlike.batch(i, 4).captions != batches[i].captions for i in range(3))
    assert unlike.batch(0, 4).embeddings is None


def test_tokens_and_embeddings_are_of_the_chosen_caption(out: Path, cascade_folder: Path) -> None:
    tokenizer = open_tokenizer(cascade_folder)
    prepared = Prepared(out, MIX)
    stream = PreparedStream(prepared, embeddings=True)
    embedded: dict[str, torch.Tensor] = {}
    long = []
    for step in range(40):
        batch = stream.batch(step, 4)
        assert torch.equal(batch.input_ids, tokenize(tokenizer, batch.captions, 8))
        assert batch.embeddings is not None
        long += [len(caption.split()) == 4 for caption in batch.captions]
        for caption, embedding in zip(batch.captions, batch.embeddings, strict=True):
            same = embedded.setdefault(caption, embedding)
            torch.testing.assert_close(same, embedding, atol=1e-3, rtol=1e-2)
    assert sum(long) / len(long) == pytest.approx(0.8, abs=0.1)
    for first, second in stream.caption_pairs(0, 4):
        assert {len(first.split()), len(second.split())} == {1, 4}


def test_the_parts_are_those_of_the_pictures_themselves(out: Path, tmp_path: Path) -> None:
    collection = open_collection(str(tmp_path / "data"), MIX, held_out=0.3)
    prepared = Prepared(out, MIX, held_out=0.3)
    for split in ("train", "held-out"):
        pictures, samples = (source.part(split).tolist() for source in (collection, prepared))
        captions = {collection.records.texts(i).captions["long"] for i in pictures}
        assert {prepared.captions(i)["long"] for i in samples} == captions


def test_what_is_missing_is_named(out: Path, tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=r"data\.captions has lnog, the data have long, short"):
        Prepared(out, {"lnog": 1.0})
    tar = out / "shards" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-5])
    with pytest.raises(RelayError, match=r"00001\.tar has \d+ bytes, the manifest says \d+: run"):
        Prepared(out, MIX)
    (out / "manifest.json").unlink()
    with pytest.raises(RelayError, match=r"not prepared to the end, .* run the same relay prepare"):
        Prepared(out, MIX)
