"""Blocklists and duplicates: what is left out on purpose."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.duplicates import Look, duplicates
from relay_diffusion.errors import RelayError


@pytest.fixture
def lists(tmp_path: Path) -> Blocklists:
    words, domains = tmp_path / "words", tmp_path / "domains"
    words.write_text("# words\n\nwatermark\nstock photo\nc++\n", encoding="utf-8")
    domains.write_text("www.Example.com\nbad.org\n", encoding="utf-8")
    return Blocklists(words, domains)


@pytest.mark.parametrize(
    ("caption", "link", "reason"),
    [
        ("a Watermark here", "", "blocked caption: 'Watermark' in long"),
        ("a stock  photo.", "", "blocked caption: 'stock  photo' in long"),
        ("written in C++", "", "blocked caption: 'C+"),
        ("watermarks, stocks, photos", "", None),
        ("", "https://img.example.com/a.jpg", "blocked link: example.com"),
        ("", "BAD.org:8080/a", "blocked link: bad.org"),
        ("", "bad.org/?u=https://good.org/a", "blocked link: bad.org"),
        ("", "//bad.org/a", "blocked link: bad.org"),
        ("", "https://notexample.com/bad.org", None),
        ("", "https://[broken", None),
        ("", "", None),
    ],
)
def test_words_are_whole_and_domains_cover_their_hosts(
    caption: str, link: str, reason: str | None, lists: Blocklists
) -> None:
    if reason is None:
        lists.check({"long": caption}, link)
        return
    with pytest.raises(PictureFault) as fault:
        lists.check({"long": caption}, link)
    assert str(fault.value).startswith(reason)


def test_a_line_that_is_no_domain_is_named(tmp_path: Path) -> None:
    (tmp_path / "domains").write_text("https://example.com/a\n")
    with pytest.raises(RelayError, match=r"'https://example.com/a' in .* is no domain"):
        Blocklists(domains=tmp_path / "domains")
    with pytest.raises(RelayError, match=r"cannot read .*nowhere"):
        Blocklists(words=tmp_path / "nowhere")


@pytest.mark.parametrize("distance", [-1, 0, 3, 8])
def test_duplicates_are_those_of_comparing_all_with_all(distance: int) -> None:
    draw = random.Random(distance)
    thumbnails = [bytes([level] * 192) for level in (100, 110, 200)]
    looks: list[Look | None] = [Look(draw.getrandbits(64), thumbnails[0]) for _ in range(60)]
    for _ in range(120):
        value = (draw.choice(looks) or Look(0, b"")).hash
        for _ in range(draw.randint(0, 5)):
            value ^= 1 << draw.randrange(64)
        looks.append(Look(value, draw.choice(thumbnails)))
    looks[5] = None
    kept: list[int] = []
    expected = {}
    for i, look in enumerate(looks):
        if look is None:
            continue
        near = [j for j in kept if look.like(looks[j] or look, distance)]
        if near:
            expected[i] = near[0]
        else:
            kept.append(i)
    assert duplicates(looks, distance) == (expected if distance >= 0 else {})
    assert bool(expected) == (distance >= 0)


def test_looks_that_are_equal_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counted(look: Look, other: Look, distance: int) -> bool:
        nonlocal compared
        compared += 1
        return like(look, other, distance)

    like = Look.like
    monkeypatch.setattr(Look, "like", counted)
    # One hash, and thumbnails that the tolerance tells apart, but for the last two.
    thumbnails = [bytes([level]) * 192 for level in (0, 20, 40, 60, 65)]
    found = duplicates([Look(7, thumbnail) for thumbnail in thumbnails] * 100, 0)
    assert found == {i: min(i % 5, 3) for i in range(500) if i >= 4}
    assert compared == 0 + 1 + 2 + 3 + 4


def test_what_differs_in_colour_alone_is_no_duplicate() -> None:
    def look(image: Image.Image) -> Look:
        return Look.parse(str(Look.of(image)))

    plain = look(Image.new("RGB", (64, 64), (200, 40, 40)))
    other = look(Image.new("RGB", (64, 64), (40, 40, 200)))
    assert plain.hash == other.hash and not plain.like(other, 0)
    assert plain.like(look(Image.new("RGB", (32, 48), (201, 44, 37))), 0)
