"""Every good picture comes out once, the others are named, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.cascade import open_text_encoder, open_tokenizer, open_vae
from relay_diffusion.data.prepare.manifest import read_manifest
from relay_diffusion.data.prepare.reading import Prepared
from relay_diffusion.data.prepare.run import prepare
from relay_diffusion.errors import RelayError
from relay_diffusion.locks import LOCK, lock
from relay_diffusion.models.autoencoder import encode
from relay_diffusion.models.low_resolution import low_resolution
from relay_diffusion.models.text import encode_text, tokenize
from tests.data.drawn import Drawn, encoded, write_folder, write_parquet, write_shards
from tests.data.prepare.making import InLine, job, left_out, made, scribble, scribbles

NOT_UTF8 = os.fsdecode(b"caf\xe9")


def samples(out: Path) -> list[dict[str, bytes]]:
    """As the webdataset library reads them."""
    import webdataset

    shards = [str(out / "shards" / shard.name) for shard in read_manifest(out).shards]
    return list(webdataset.WebDataset(shards, shardshuffle=False))


def keys(out: Path) -> list[str]:
    return [json.loads(sample["json"])["key"] for sample in samples(out)]


def with_faults(folder: Path) -> Path:
    good = scribbles(20)
    write_folder(folder, good, "json")
    whole = encoded(scribble(50, 200, 200))
    named = {"long": "a fox", "url": "https://img.example.com/a.png"}
    bad = [
        Drawn("cut", whole[: len(whole) // 2], {"long": "a fox"}),
        Drawn("html", b"<html>gone</html>", {"long": "a fox"}),
        Drawn("tiny", encoded(scribble(51, 20, 16)), {"long": "a fox"}),
        Drawn("strip", encoded(scribble(52, 400, 40)), {"long": "a fox"}),
        Drawn("stock", encoded(scribble(53)), {"long": "a fox, STOCK\n photo"}),
        Drawn("link", encoded(scribble(54)), named),
        Drawn("mute", encoded(scribble(55)), {"long": " "}),
        Drawn("half", encoded(scribble(56)), {"long": "a fox \ud800"}),
        Drawn(NOT_UTF8, b"", {"long": "a fox"}),
        Drawn("twin", encoded(scribble(3), "JPEG"), {"long": "a fox"}),
    ]
    return write_folder(folder, bad, "json")


def test_the_good_come_out_once_and_the_bad_are_named(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = with_faults(tmp_path / "data"), tmp_path / "out"
    words, links = tmp_path / "words.txt", tmp_path / "links.txt"
    words.write_text("# not wanted\nstock photo\nox\n")
    links.write_text("example.com\n")
    wanted = replace(
        job(pictures, out, cascade_folder, min_size=30),
        blocklists=Blocklists(words, links),
    )
    manifest = prepare(wanted, InLine())
    assert Counter(keys(out)) == Counter(f"{i:03}" for i in range(20))
    assert left_out(out) == {
        "cut": ("truncated", ""),
        "half": ("caption is not UTF-8", "half of a surrogate pair in long"),
        "html": ("not a picture", "of no format that Pillow knows"),
        "link": ("blocked link", "example.com"),
        "mute": ("no caption", ""),
        "stock": ("blocked caption", "'STOCK\\n photo' in long"),
        "strip": ("extreme aspect", "400x40, at most 3:1"),
        "tiny": ("too small", "20x16, needs 30x30"),
        "twin": ("duplicate", "of 003"),
        r"caf\udce9": ("not a picture", "an empty file"),
    }
    assert manifest.num == 20 and sum(manifest.left_out.values()) == 10
    assert manifest.fields == ("long", "short")
    long, short = (manifest.captions[name] for name in ("long", "short"))
    assert (long.captions, short.captions) == (20, 20)  # of those that stay
    assert (long.tokens, long.unknown, short.unknown) == (80, 20, 0)  # "fox 7": the number
    assert "7" in long.words and long.cut == 0
    assert read_manifest(out) == manifest


@pytest.mark.parametrize("write", [write_folder, write_shards])
def test_a_name_that_is_not_utf8_is_as_good_as_any(
    write: Callable[[Path, Sequence[Drawn], str], Path], cascade_folder: Path, tmp_path: Path
) -> None:
    named = Drawn(NOT_UTF8, encoded(scribble(50)), {"long": "a fox", "short": "fox"})
    pictures, out = write(tmp_path / "data", [*scribbles(3), named], "json"), tmp_path / "out"
    assert made(pictures, out, cascade_folder).num == 4
    assert keys(out) == ["000", "001", "002", r"caf\udce9"]
    assert Prepared(out, {"long": 1.0}).part("train").tolist()


def test_a_bad_line_of_a_table_is_listed(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(4), "jsonl"), tmp_path / "out"
    table = pictures / "metadata.jsonl"
    table.write_text(table.read_text()[:-20])
    manifest = made(pictures, out, cascade_folder)
    assert manifest.num == 3 and manifest.left_out == {"no caption": 1, "broken line": 1}
    reason, detail = left_out(out)["metadata.jsonl, line 4"]
    assert reason == "broken line" and detail.startswith("caption is not JSON: ")


def test_a_sample_holds_what_the_networks_make_of_the_picture(
    cascade_folder: Path, tmp_path: Path
) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(3), "json"), tmp_path / "out"
    made(pictures, out, cascade_folder, embeddings=True)
    vae, tokenizer = open_vae(cascade_folder), open_tokenizer(cascade_folder)
    for i, sample in enumerate(samples(out)):
        tensors, words = load(sample["safetensors"]), json.loads(sample["json"])
        assert words["captions"] == scribbles(3)[i].fields
        pixels = torch.frombuffer(bytearray(scribble(i).tobytes()), dtype=torch.uint8)
        x = pixels.view(1, 64, 64, 3).permute(0, 3, 1, 2).float() / 127.5 - 1
        ids = tokenize(tokenizer, [words["captions"]["short"]], 8)
        context = encode_text(open_text_encoder(cascade_folder, "float32"), ids)
        expected = {"z_0": encode(vae, x), "embeddings.short": context}
        for name, through in (("z_lr", False), ("z_lr_through", True)):
            expected[name] = encode(vae, low_resolution(vae, x, torch.tensor([through])))
        for name, value in expected.items():
            assert tensors[name].dtype == torch.float16
            torch.testing.assert_close(tensors[name].float(), value[0], atol=2e-3, rtol=2e-3)
        assert torch.equal(tensors["input_ids.short"].long(), ids[0])
        assert tensors["time_ids"].tolist() == [64, 64, 0, 0, 64, 64]


def test_what_the_base_stage_does_without_is_left_out(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(3), "json"), tmp_path / "out"
    made(pictures, out, cascade_folder, low_resolution=False, captions=("short",))
    names = {"z_0", "input_ids.short", "time_ids"}
    assert {frozenset(load(sample["safetensors"])) for sample in samples(out)} == {frozenset(names)}


def test_another_autoencoder_is_refused_with_both_hashes(
    cascade_folder: Path, tmp_path: Path
) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(4), "json"), tmp_path / "out"
    mine = made(pictures, out, cascade_folder).encoders.vae
    other = tmp_path / "other"
    shutil.copytree(cascade_folder, other)
    file = other / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load(file.read_bytes())
    tensors["decoder.conv_out.bias"] += 1
    save_file(tensors, file)
    with pytest.raises(RelayError) as error:
        made(pictures, out, other)
    assert f"was prepared with the vae {mine[:12]}, and this one is " in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 32}, "was begun with settings.size 64, and now it is 32: give the same, or"),
        ({"embeddings": True}, "was begun with settings.embeddings False, and now it is True"),
    ],
)
def test_other_settings_are_refused(
    settings: dict[str, int], message: str, cascade_folder: Path, tmp_path: Path
) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(4), "json"), tmp_path / "out"
    made(pictures, out, cascade_folder)
    with pytest.raises(RelayError, match=message):
        made(pictures, out, cascade_folder, **settings)
    (pictures / "000.png").write_bytes(encoded(scribble(99)))
    with pytest.raises(RelayError, match=r"was begun with pictures\.state"):
        made(pictures, out, cascade_folder)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_on_the_cpu_no_worker_asks_for_a_gpu(
    device: str, cascade_folder: Path, tmp_path: Path
) -> None:
    pictures, pool = write_folder(tmp_path / "data", scribbles(2), "json"), InLine()
    prepare(replace(job(pictures, tmp_path / "out", cascade_folder), device=device), pool)
    assert pool.gpu == (device != "cpu")


def test_shards_do_not_go_among_the_pictures(cascade_folder: Path, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "data", scribbles(2), "json")
    (tmp_path / "link").symlink_to(pictures)
    for out in (pictures, pictures / "prepared", tmp_path / "link" / "prepared"):
        with pytest.raises(RelayError, match=r"lies in the folder of pictures .*: give one else"):
            made(pictures, out, cascade_folder)
    assert sorted({path.suffix for path in pictures.iterdir()}) == [".json", ".png"]
    assert made(pictures, tmp_path / "data-prepared", cascade_folder).num == 2


def test_nor_where_a_pattern_would_find_them(cascade_folder: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data", scribbles(2))
    with pytest.raises(RelayError, match="lies in the folder of pictures"):
        made(shards / "**" / "*.tar", shards / "prepared", cascade_folder)
    assert made(shards / "*.tar", shards / "prepared", cascade_folder).num == 2
    rows = write_parquet(tmp_path / "rows", scribbles(2))  # whose pattern finds no shards
    assert made(rows / "**" / "*.parquet", rows / "out", cascade_folder).num == 2


def test_nothing_but_bad_pictures_is_an_error(cascade_folder: Path, tmp_path: Path) -> None:
    bad = [Drawn(f"{i}", b"", {"caption": "a fox"}) for i in range(3)]
    pictures = write_folder(tmp_path / "data", bad)
    with pytest.raises(RelayError, match="none of 3 pictures can be used: 3 not a picture"):
        made(pictures, tmp_path / "out", cascade_folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 24}, "a bucket is 24x24, sides must be multiples of 16"),
        ({"duplicate_distance": 20}, "duplicate_distance is 20, must be 0 to 8 bits"),
        ({"captions": ("url",)}, "captions has url, which is the link"),
        ({"aspect_limit": 0.5}, "aspect_limit is 0.5, must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(RelayError, match=message):
        job(Path(), Path(), Path(), **{"max_aspect": 1.0, **settings})


def test_two_runs_keep_out_of_each_others_way(cascade_folder: Path, tmp_path: Path) -> None:
    pictures, out = write_folder(tmp_path / "data", scribbles(4), "json"), tmp_path / "out"
    out.mkdir()
    with (out / LOCK).open("w") as held:
        lock(held, "somebody else is at work")
        with pytest.raises(RelayError, match="another relay prepare is at work in"):
            made(pictures, out, cascade_folder)
    made(pictures, out, cascade_folder)
