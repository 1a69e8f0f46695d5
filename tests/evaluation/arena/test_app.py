from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from relay_diffusion.evaluation.arena.app import create_app
from relay_diffusion.evaluation.arena.entries import Picture
from relay_diffusion.evaluation.arena.pairs import Pair
from relay_diffusion.evaluation.arena.showing import neutral_png
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import some_pairs

MODELS = ("secret-ours", "secret-theirs")


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    return some_pairs(tmp_path, MODELS, prompts=["a fox", "</script> & owl", "a drum"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    store = VoteStore(tmp_path / "votes.sqlite")
    yield store
    store.close()


def come_in(pairs: list[Pair], store: VoteStore, name: str = "Anna") -> TestClient:
    """The browser of a rater who has said who they are."""
    client = TestClient(create_app(pairs, store))
    assert client.post("/name", data={"name": name}).status_code == 200
    return client


def shown(client: TestClient) -> list[dict[str, Any]]:
    """What the page knows of the rater's turns."""
    found = re.search(r'id="state">(.*?)</script>', client.get("/").text, re.DOTALL)
    assert found
    return json.loads(found[1])


def answer(client: TestClient, turn: dict[str, Any], question: str, choice: str) -> None:
    ballot = {
        "pair": turn["pair"],
        "left": turn["tokens"][0],
        "question": question,
        "choice": choice,
    }
    response = client.post("/votes", json=ballot)
    assert (response.status_code, response.json()) == (201, {"saved": choice})


def test_a_name_is_asked_once(pairs: list[Pair], store: VoteStore) -> None:
    client = TestClient(create_app(pairs, store))
    assert 'name="name"' in client.get("/").text
    assert 'name="name"' in client.post("/name", data={"name": "   "}).text
    assert 'id="state"' in client.post("/name", data={"name": " Žofie  狐 "}).text
    page = client.get("/").text
    assert "Žofie 狐" in page
    assert 'value="Žofie 狐"' in client.get("/name").text


def test_a_vote_is_for_the_model_whose_picture_was_on_that_side(
    pairs: list[Pair], store: VoteStore
) -> None:
    client = come_in(pairs, store)
    by_id = {pair.id: pair for pair in pairs}
    for turn in shown(client):
        left = client.get(f"/pictures/{turn['tokens'][0]}").content
        pair = by_id[turn["pair"]]
        pixel = Image.open(io.BytesIO(left)).getpixel((0, 0))
        side = [Image.open(picture.path).getpixel((0, 0)) for picture in pair.pictures].index(pixel)
        answer(client, turn, "alignment", "left")
        answer(client, turn, "beauty", "right")
        alignment, beauty = store.votes()[-2:]
        assert (alignment.winner, alignment.left) == (pair.models[side],) * 2
        assert (beauty.winner, beauty.left) == (pair.models[1 - side], pair.models[side])
        assert alignment.rater == "anna"


def test_who_comes_back_goes_on_where_they_were(pairs: list[Pair], store: VoteStore) -> None:
    client = come_in(pairs, store)
    first, second, third = shown(client)
    assert not first["answers"]
    answer(client, first, "alignment", "right")
    answer(client, first, "beauty", "tie")
    answer(client, second, "alignment", "left")
    store.close()

    # Another browser, another day, the folders in another order, the name as a phone writes it.
    turned = [Pair(p.prompt, p.number, p.models[::-1], p.pictures[::-1]) for p in pairs[::-1]]
    again = shown(come_in(turned, VoteStore(store.path), "ANNA"))
    assert [turn["pair"] for turn in again[:2]] == [first["pair"], second["pair"]]
    same_side = again[0]["tokens"] == first["tokens"]
    assert again[0]["answers"] == {
        "alignment": "right" if same_side else "left",
        "beauty": "tie",
    }
    assert list(again[1]["answers"]) == ["alignment"]
    assert not again[2]["answers"]
    assert all(not turn["answers"] for turn in shown(come_in(pairs, store, "Ben")))
    assert {turn["pair"] for turn in again} == {first["pair"], second["pair"], third["pair"]}


def test_a_changed_answer_takes_the_place_of_the_old_one(
    pairs: list[Pair], store: VoteStore
) -> None:
    client = come_in(pairs, store)
    turn = shown(client)[0]
    answer(client, turn, "alignment", "left")
    answer(client, turn, "alignment", "tie")
    assert shown(client)[0]["answers"] == {"alignment": "tie"}
    assert [vote.winner for vote in store.votes()] == [None]


def test_nothing_tells_which_model_made_a_picture(pairs: list[Pair], store: VoteStore) -> None:
    client = come_in(pairs, store)
    answers = [client.get(path) for path in ("/", "/name")]
    turns = shown(client)
    answers += [client.get(f"/pictures/{token}") for turn in turns for token in turn["tokens"]]
    answers += [client.get(f"/static/arena.{kind}") for kind in ("css", "js")]
    for response in answers:
        assert response.status_code == 200
        everything = response.content + str(response.headers).encode() + str(response.url).encode()
        assert b"secret" not in everything
        assert b"seed" not in response.content
    for pair in pairs:  # the files do tell
        assert all(b"secret" in picture.path.read_bytes() for picture in pair.pictures)


@pytest.mark.parametrize(
    ("mode", "name", "colour", "shown"),
    [
        ("P", "p.png", 3, None),
        ("L", "l.png", 90, 90),
        ("LA", "la.png", (90, 40), (90, 90, 90, 40)),
        ("RGBA", "a.png", (200, 100, 50, 40), (200, 100, 50, 40)),
        ("CMYK", "c.tif", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", "i.png", 128 * 257, 128),
    ],
)
def test_pictures_of_every_kind_arrive_as_png(
    mode: str, name: str, colour: Any, shown: Any, tmp_path: Path
) -> None:
    path = tmp_path / name
    Image.new(mode, (4, 6), colour).save(path)
    with Image.open(path) as saved:
        shown = saved.convert("RGB").getpixel((0, 0)) if shown is None else shown
    image = as_shown(path)
    assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (4, 6), shown)


def as_shown(path: Path) -> Image.Image:
    with Image.open(path) as image:
        picture = Picture(path, *image.size, path.name)
    return Image.open(io.BytesIO(neutral_png(picture)))


@pytest.mark.parametrize(
    ("mode", "of", "kept"), [("CMYK", b"CMYK", False), ("RGB", b"RGB ", True), ("L", b"GRAY", True)]
)
def test_a_profile_is_kept_with_its_own_colours_only(
    mode: str, of: bytes, kept: bool, tmp_path: Path
) -> None:
    profile = bytes(16) + of + bytes(108)
    Image.new(mode, (4, 6)).save(tmp_path / "p.tif", icc_profile=profile)
    assert as_shown(tmp_path / "p.tif").info.get("icc_profile") == (profile if kept else None)


def test_prompts_are_shown_as_they_are(pairs: list[Pair], store: VoteStore) -> None:
    client = come_in(pairs, store)
    assert {turn["prompt"] for turn in shown(client)} == {pair.prompt for pair in pairs}
    assert "</script> & owl" not in client.get("/").text


def test_the_page_needs_no_network(pairs: list[Pair], store: VoteStore) -> None:
    client = come_in(pairs, store)
    texts = [
        client.get(path).text for path in ("/", "/name", "/static/arena.css", "/static/arena.js")
    ]
    assert not any("//" in re.sub(r"^\s*//.*|(?<=\s)// .*", "", text, flags=re.M) for text in texts)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"pair": "unknown"}, 404),
        ({"left": "unknown"}, 404),
        ({"choice": "both"}, 422),
        ({"question": "speed"}, 422),
    ],
)
def test_what_is_no_vote_is_refused(
    pairs: list[Pair], store: VoteStore, change: dict[str, str], status: int
) -> None:
    client = come_in(pairs, store)
    turn = shown(client)[0]
    ballot = {"pair": turn["pair"], "left": turn["tokens"][0]}
    ballot |= {"question": "beauty", "choice": "left"} | change
    assert client.post("/votes", json=ballot).status_code == status
    assert TestClient(client.app).post("/votes", json=ballot).status_code in (401, 422)
    assert client.get("/pictures/unknown").status_code == 404
    assert not store.votes()
