"""Suites: the fixed prompts, files of prompts, and the formats of the public ones."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.world import World, is_held_out, poses
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge.partial import NamedThing, PartialScene
from relay_diffusion.evaluation.suites import open_suite, scenes_suite, tasks_suite
from relay_diffusion.evaluation.suites.fetch import fetch
from relay_diffusion.evaluation.suites.files import free_suite, prompt_file
from relay_diffusion.evaluation.suites.formats import (
    read_coco,
    read_dpg,
    read_drawbench,
    read_geneval,
    read_parti,
)
from relay_diffusion.evaluation.suites.public import PUBLIC, public_suite, with_references

WORLD = World.small()


def test_the_200_prompts_are_those_of_the_first_version() -> None:
    # At commit 1b2eb0d: sha256(json.dumps([p.text for p in scenes_suite(World.small(), 200)],
    # ensure_ascii=False)).
    suite = scenes_suite(WORLD)
    assert len(suite.prompts) == 200
    assert suite.sha256 == "2a8a0eda4340f006dcedd3a3b03914940a5c602e1693ae1eb6339b1866452e1d"
    assert suite.first(3).prompts == scenes_suite(WORLD, 3).prompts
    assert all(suite.scene_at(i) == suite.prompts[i].asked for i in (0, 7))


def test_each_task_is_posed_by_as_many_held_out_scenes() -> None:
    suite = tasks_suite(WORLD, 24)
    assert set(Counter(prompt.task for prompt in suite.prompts).values()) == {3}
    for prompt in suite.prompts:
        assert isinstance(prompt.asked, Scene)
        assert poses(prompt.asked, prompt.task) and is_held_out(prompt.asked)


def test_the_free_prompts_speak_of_the_small_world() -> None:
    suite = free_suite()
    assert len(suite.prompts) == 100
    for prompt in suite.prompts:
        assert isinstance(prompt.asked, PartialScene)
        assert {thing.subject for thing in prompt.asked.things} <= set(WORLD.subjects)
        assert prompt.asked.background in (None, *WORLD.backgrounds)
        assert prompt.asked.style in (None, *WORLD.styles)
        assert {thing.tint for thing in prompt.asked.things} <= {None, *WORLD.tints}


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeffa fox\n\n  two owls \n", encoding="utf-8")
    suite = open_suite(str(file), WORLD)
    assert [prompt.text for prompt in suite.prompts] == ["a fox", "two owls"]
    assert suite.name == "mine"
    assert suite.source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(open_suite(str(file), WORLD, 1).prompts) == 1


@pytest.mark.parametrize("end", ["txt", "jsonl"])
def test_a_prompt_may_hold_any_break_but_that_of_lines(end: str, tmp_path: Path) -> None:
    prompts = ["a fox\u2028in snow", "an owl\x85at night"]
    lines = prompts if end == "txt" else [f'{{"prompt": "{prompt}"}}' for prompt in prompts]
    file = tmp_path / f"mine.{end}"
    file.write_bytes("\r\n".join(lines).encode())
    assert [prompt.text for prompt in prompt_file(file).prompts] == prompts


@pytest.mark.parametrize("line", ['{"prompt": "\\ud800"}', '{"prompt": "a", "task": "\\ud800"}'])
def test_half_a_surrogate_pair_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(f'{{"prompt": "a fox"}}\n{line}\n')
    with pytest.raises(RelayError, match=r'line 2: "\w+" has half of a surrogate pair: \\ud800'):
        prompt_file(file)


def test_a_jsonl_file_may_say_more(tmp_path: Path) -> None:
    (tmp_path / "fox.png").touch()
    lines = [
        {"prompt": "a fox", "id": 7, "reference": "fox.png", "task": "animals"},
        {
            "prompt": "two red owls above a bus",
            "facts": {
                "subjects": ["owl", "bus"],
                "counts": [2, None],
                "tints": ["red", None],
                "relation": "above",
            },
        },
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    first, second = prompt_file(file).prompts
    assert (first.id, first.task, first.reference) == ("7", "animals", tmp_path / "fox.png")
    owl = NamedThing("owl", "red")
    assert second.asked == PartialScene((owl, owl, NamedThing("bus")), "above")
    assert second.id == "2"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [
        '{"prompt": "a fox"}',
        '{"prompt": "a fox"',
        '{"prompt": ""}',
        '{"promt": "a fox"}',
        '{"prompt": "a fox", "reference": "gone.png"}',
        '{"prompt": "a fox", "facts": {"subjects": ["fox"], "counts": [1, 2]}}',
        '{"prompt": "a fox", "facts": {"subjects": ["fox"], "relation": "inside"}}',
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(RelayError) as error:
        prompt_file(file)
    said = str(error.value)
    assert "line 2: it is not JSON; line 3:" in said
    assert "'promt'" in said and "gone.png" in said and "and 1 more" in said


@pytest.mark.parametrize("task", [3, True, ["a"], {}])
def test_a_task_that_is_no_text_is_named(task: object, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [{"prompt": "a fox", "task": "animals"}, {"prompt": "an owl", "task": task}]
    file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(RelayError, match=r'line 2: "task" is .*no text'):
        prompt_file(file)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"\n\n", "holds no prompt"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
        ("a.jsonl", b'{"prompt": "x", "facts": {"subjects": ["fox"], "colours": []}}', "colours"),
    ],
)
def test_a_file_that_is_no_list_says_why(
    name: str, content: bytes, match: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RelayError, match=match):
        prompt_file(tmp_path / name)


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(RelayError, match="did you mean 'drawbench'"):
        open_suite("drawbanch", WORLD)


def test_drawbench_is_read_from_its_sheet() -> None:
    text = 'Prompts,Category\nA red car.,Colors\n"A sign, that says ""hi"".",Text\n,\n'
    first, second = read_drawbench(text)
    assert (first.text, first.task) == ("A red car.", "Colors")
    assert second.text == 'A sign, that says "hi".'
    with pytest.raises(ValueError, match="column Prompts"):
        read_drawbench("<html>not found</html>\n")


def test_parti_is_read_with_its_quotes() -> None:
    text = 'Prompt\tCategory\tChallenge\tNote\n"bond" in a word\tAbstract\tBasic\t\nlife\tAbstract'
    with pytest.raises(ValueError, match="line 3 has too few columns"):
        read_parti(text)
    (only,) = read_parti(text.rsplit("\n", 1)[0])
    assert (only.text, only.task) == ('"bond" in a word', "Abstract")


def test_geneval_is_read_from_its_metadata() -> None:
    line = {"tag": "counting", "include": [{"class": "bus", "count": 2}], "prompt": "two buses"}
    (only,) = read_geneval(json.dumps(line) + "\n\n")
    assert (only.text, only.task, only.id) == ("two buses", "counting", "0")
    with pytest.raises(ValueError, match="line 2"):
        read_geneval(json.dumps(line) + '\n{"tag": "x"}')


def test_dpg_has_a_row_a_question_and_a_prompt_an_item() -> None:
    text = (
        "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
        "question_natural_language\n"
        'a1,"A fox, red.",,1,0,entity,whole,entity - whole (fox),Is there a fox?\n'
        'a1,"A fox, red.",,2,1,attribute,color,"attribute - color (fox, red)",Is it red?\n'
        "b2,An owl.,,1,0,entity,whole,entity - whole (owl),Is there an owl?\n"
    )
    assert [(p.id, p.text) for p in read_dpg(text)] == [("a1", "A fox, red."), ("b2", "An owl.")]


def coco(num: int) -> str:
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg"} for i in range(num)]
    captions = [
        {"image_id": i, "id": 10 * i + k, "caption": f"{i} \n {k}"}
        for i in range(num)
        for k in (3, 1)
    ]
    return json.dumps({"images": images, "annotations": captions})


def test_coco_draws_5000_pictures_and_their_first_captions() -> None:
    prompts = read_coco(coco(6000))
    assert len({prompt.id for prompt in prompts}) == 5000
    assert prompts == read_coco(coco(6000))
    assert all(int(p.text.split()[0]) == int(p.id[13:25]) for p in prompts)
    assert all(p.text.endswith(" 1") for p in prompts)
    with pytest.raises(ValueError, match="captions"):
        read_coco("[]")


def test_a_file_is_fetched_once_and_taken_out_of_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "annotations.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("annotations/captions.json", coco(2))
    archive.write_bytes(buffer.getvalue())
    kept = tmp_path / "cache" / "captions.json"
    path = fetch(archive.as_uri(), kept, "annotations/captions.json")
    assert path.read_text() == coco(2)
    archive.unlink()
    assert fetch(archive.as_uri(), kept, "annotations/captions.json") == kept
    assert [file.name for file in kept.parent.iterdir()] == ["captions.json"]


def test_without_a_network_it_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RelayError) as error:
        open_suite("parti", WORLD)
    place = tmp_path / "relay-diffusion" / "suites" / "PartiPrompts.tsv"
    assert str(place) in str(error.value) and PUBLIC["parti"].url in str(error.value)
    assert "\n" not in str(error.value)
    rows = "".join(f"{num} foxes\tAnimals\tBasic\t\n" for num in range(1632))
    place.write_text(f"Prompt\tCategory\tChallenge\tNote\n{rows}")
    suite = open_suite("parti", WORLD, 1)
    assert [prompt.text for prompt in suite.prompts] == ["0 foxes"]
    assert suite.source["sha256"] == hashlib.sha256(place.read_bytes()).hexdigest()


def test_a_damaged_file_of_the_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "drawbench.csv").write_text("<html>sign in</html>")
    with pytest.raises(RelayError, match=r"drawbench\.csv is not the file of drawbench"):
        public_suite("drawbench", tmp_path)


class Answer(io.BytesIO):
    """What a server sends, which may break off; reading then ends as at the end of a file."""

    def __init__(self, content: bytes, headers: dict[str, str]) -> None:
        super().__init__(content)
        self.headers = headers


SHEET = "Prompts,Category\n" + "".join(f"{num} foxes,Counting\n" for num in range(200))


@pytest.mark.parametrize(
    ("content", "headers", "match"),
    [
        (SHEET[:1000], {"Content-Length": str(len(SHEET))}, f"after 1000 of {len(SHEET)} bytes"),
        (SHEET[: SHEET.index("60 foxes")], {}, r"it holds 60 prompts, not 200"),
        (SHEET + "one more,Text\n", {}, "it holds 201 prompts, not 200"),
        ("<html>sign in</html>", {}, "names no column Prompts"),
    ],
)
def test_what_is_not_the_whole_suite_is_not_kept(
    content: str,
    headers: dict[str, str],
    match: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = Answer(content.encode(), headers)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: answer)
    with pytest.raises(RelayError, match=match) as error:
        public_suite("drawbench", tmp_path)
    assert "\n" not in str(error.value) and "put" in str(error.value)
    assert not list(tmp_path.iterdir())
    whole = Answer(SHEET.encode(), {"Content-Length": str(len(SHEET))})
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: whole)
    assert len(public_suite("drawbench", tmp_path).prompts) == 200


def test_a_server_that_breaks_off_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(Answer):
        def read(self, size: int | None = -1) -> bytes:
            raise http.client.IncompleteRead(b"Prompts")

    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: Breaking(b"", {}))
    with pytest.raises(RelayError, match="cannot be fetched"):
        public_suite("drawbench", tmp_path)
    assert not list(tmp_path.iterdir())


def test_references_are_found_by_id(tmp_path: Path) -> None:
    pictures = tmp_path / "val"
    pictures.mkdir()
    for name in ("0.png", "1.jpg"):
        (pictures / name).touch()
    suite = scenes_suite(WORLD, 2)
    found = with_references(suite, pictures)
    assert [prompt.reference for prompt in found.prompts] == [
        pictures / "0.png",
        pictures / "1.jpg",
    ]
    with pytest.raises(RelayError, match="lacks 1 of 3"):
        with_references(scenes_suite(WORLD, 3), pictures)
