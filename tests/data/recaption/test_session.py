"""What is asked, what is kept, and when a run ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.recaption.answers import Unusable
from relay_diffusion.data.recaption.instruction import Instruction
from relay_diffusion.data.recaption.journal import Journal, journal_path
from relay_diffusion.data.recaption.request import Request, make_request
from relay_diffusion.data.recaption.run import FAILURES_IN_A_ROW
from relay_diffusion.data.recaption.session import rehearse
from relay_diffusion.data.recaption.settings import Prices
from relay_diffusion.data.recaption.writer import Answer
from relay_diffusion.errors import RelayError
from tests.data.drawn import Drawn, drawn, encoded, picture, write_folder
from tests.data.recaption.conftest import SETTINGS, Scripted, described, go

PRICED = replace(SETTINGS, prices=Prices(1.0, 10.0), parallel=2)
"""A picture of 1000 tokens read and 100 written costs 0.002."""


def long_captions(data: Path) -> list[str | None]:
    records = open_records(str(data))
    return [records.texts(i).captions.get("long") for i in range(len(records))]


def test_failures_are_listed_with_the_reason_and_asked_about_again(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(6))
    broken = data / "part0" / "000.png"
    broken.write_bytes(broken.read_bytes()[:60])

    def some(request: Request) -> Answer:
        if request.original == "picture 1":
            raise Unusable("no answer", "500, out of order")
        if request.original == "picture 2":
            return Answer("A ramp.", 1000, 5)
        if request.original == "picture 3":
            return Answer(described("pict"), 1000, 300, "cut off")
        return Answer(described(request.original), 1000, 100)

    lines = go(data, Scripted(some))
    assert "6 pictures: 0 have the caption, 6 to be asked about" in lines
    assert "4,000 tokens read, 505 written" in lines
    (failed,) = [line for line in lines if "got no caption" in line]
    for reason in ("4 got", "1 no answer", "1 too short", "1 cut off", "1 truncated"):
        assert reason in failed
    listed = data / ".recaption.long.failed"
    assert "part1/001.png: no answer: 500, out of order\n" in listed.read_text()
    assert sum(caption is not None for caption in long_captions(data)) == 2

    broken.write_bytes(encoded(picture(0, 40, 40)))
    writer = Scripted()
    go(data, writer)
    assert sorted(map(str, writer.asked)) == [f"picture {i}" for i in range(4)]
    assert all(long_captions(data))
    assert not listed.exists()


def test_pictures_without_a_caption_go_alone_and_those_with_a_broken_one_do_not_go(
    tmp_path: Path,
) -> None:
    data = write_folder(tmp_path / "data", drawn(4))
    (data / "part0" / "000.txt").unlink()
    (data / "part0" / "002.txt").write_text(" ")
    (data / "part1" / "001.txt").write_bytes(b"\xff\xfe")
    writer = Scripted()
    lines = go(data, writer)
    assert sorted(map(str, writer.asked)) == ["None", "None", "picture 3"]
    assert lines[0] == "4 pictures: 0 have the caption, 3 to be asked about, 1 cannot be"
    assert any("1 caption is not UTF-8" in line for line in lines)


def test_large_pictures_are_sent_smaller(tmp_path: Path) -> None:
    write_folder(tmp_path, [Drawn("a", encoded(picture(0, 400, 100)), {"caption": "a"})])
    records = open_records(str(tmp_path))
    sizes = [
        make_request(records, 0, replace(SETTINGS, side=side)).picture.size for side in (200, 1000)
    ]
    assert sizes == [(200, 50), (400, 100)]


def test_a_model_that_answers_nothing_of_use_is_not_asked_for_ever(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(FAILURES_IN_A_ROW + 30))
    writer = Scripted(lambda request: Answer("No.", 1000, 2))
    with pytest.raises(RelayError, match=r"the last 20 answers .*too short.* kept in .*goes on"):
        go(data, writer)
    assert FAILURES_IN_A_ROW <= len(writer.asked) < FAILURES_IN_A_ROW + SETTINGS.parallel
    go(data, Scripted())
    assert all(long_captions(data))


def test_what_was_answered_is_in_the_data_when_the_model_gives_up(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(FAILURES_IN_A_ROW + 5))
    answers = iter(range(5))

    def some(request: Request) -> Answer:
        text = "No." if next(answers, None) is None else described(request.original)
        return Answer(text, 1000, 100)

    with pytest.raises(RelayError, match="answers were of no use"):
        go(data, Scripted(some), replace(SETTINGS, parallel=1))
    assert sum(caption is not None for caption in long_captions(data)) == 5


def test_lasting_failures_stand_behind_new_pictures_and_end_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_diffusion.data.recaption.run.FAILURES_IN_A_ROW", 3)
    data = write_folder(tmp_path / "data", drawn(12))

    def odd_ones(request: Request) -> Answer:
        fails = int(str(request.original).split()[1]) % 4 < 2
        return Answer("No." if fails else described(request.original), 1000, 100)

    one_by_one = replace(SETTINGS, parallel=1)
    writer = Scripted(odd_ones)
    go(data, writer, replace(one_by_one, num=10))
    go(data, writer, one_by_one)
    assert len(writer.asked) == 10 + 7
    assert {writer.asked[10], writer.asked[11]}.isdisjoint(writer.asked[:10])
    assert sum(caption is not None for caption in long_captions(data)) == 6


def test_a_budget_holds_over_all_runs(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(12))
    writer = Scripted()
    lines = go(data, writer, replace(PRICED, budget=0.0101))
    assert len(writer.asked) == 5
    assert "5,000 tokens read, 500 written, cost 0.0100" in lines
    assert lines[-1] == (
        "the budget of 0.0101 is used up, 7 pictures are left: 0.0100 is spent, and one more may "
        "take up to 0.0020; a higher --budget goes on"
    )
    assert sum(caption is not None for caption in long_captions(data)) == 5
    go(data, writer, replace(PRICED, budget=0.0101))
    assert len(writer.asked) == 5
    lines = go(data, writer, replace(PRICED, budget=1.0))
    assert len(writer.asked) == 12
    assert any("cost 0.0140, 0.0240 with earlier runs" in line for line in lines)
    assert not any("used up" in line for line in lines)


def test_a_budget_holds_where_the_server_counts_no_tokens(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(12))
    writer = Scripted(lambda request: Answer(described(request.original), num_uncounted=1))
    lines = go(data, writer, replace(PRICED, budget=0.0101))
    assert len(writer.asked) == 4  # of 220 tokens, and a few that are read
    assert any("cost about 0.008" in line for line in lines)
    timed_out = Scripted(lambda request: Answer("", flaw="no answer: timed out", num_uncounted=3))
    lines = go(data, timed_out, replace(PRICED, budget=0.0201, parallel=1))
    assert len(timed_out.asked) == 2
    assert any("2 got no caption: 2 no answer" in line for line in lines)


class Late(Scripted):
    """Each try times out, and takes a moment to; may have to be paid for."""

    def __init__(self, tries: int, answers: bool = False) -> None:
        super().__init__()
        self.tries, self.answers = tries, answers
        self.allowed: list[int | None] = []
        self.num_at_once = self._num = 0

    async def write(self, request: Request, tries: int | None = None) -> Answer:
        self.allowed.append(tries)
        self._num += 1
        self.num_at_once = max(self.num_at_once, self._num)
        await asyncio.sleep(0.01)
        self._num -= 1
        if self.answers:
            return await super().write(request)
        flaw = "no answer: timed out"
        return Answer("", flaw=flaw, num_uncounted=self.tries if tries is None else tries)


def test_a_budget_holds_where_all_that_is_under_way_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_diffusion.data.recaption.run.FAILURES_IN_A_ROW", 10**6)
    data = write_folder(tmp_path / "data", drawn(40))
    go(data, Scripted(), replace(PRICED, num=2))
    settings = replace(PRICED, parallel=16, budget=0.0461)  # 23 pictures, of which 2 are done
    late = Late(tries=4)
    lines = go(data, late, settings)
    with Journal.held(journal_path(open_records(str(data)), "long")) as journal:
        assert 0.0441 < journal.cost < 0.0461
    assert late.num_at_once == 5
    assert late.allowed == [4] * 5 + [1]  # what is left at the end is not left lying
    assert any("the budget of 0.0461 is used up" in line for line in lines)


def test_what_is_held_back_for_tries_that_are_not_made_is_spent_after_all(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(40))
    quick = Late(tries=7, answers=True)
    go(data, quick, replace(PRICED, parallel=16, budget=0.0601))
    assert len(quick.asked) == 30
    assert quick.allowed[0] == quick.allowed[22] == 7
    assert quick.allowed[-1] == 1


def test_nobody_knows_how_a_server_counts_so_the_first_picture_goes_alone(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(40))
    dear = Scripted(lambda request: Answer(described(request.original), 30_000, 100))
    go(data, dear, replace(PRICED, parallel=16, budget=0.02))
    assert len(dear.asked) == 1  # 0.031, where tens of pictures seemed to have room
    other = tmp_path / "other"
    late = Late(tries=1, answers=True)
    go(write_folder(other, drawn(40)), late, replace(PRICED, parallel=16, budget=1.0))
    assert late.num_at_once == 16


def test_a_budget_without_room_for_one_picture_says_so(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(4))
    writer = Scripted()
    writer.max_tokens = 600
    lines = go(data, writer, replace(PRICED, budget=0.005))
    assert writer.asked == []
    assert lines[-1].startswith("the budget of 0.005 is used up, 4 pictures are left: 0.0000 is")
    assert "one more may take up to 0.0060" in lines[-1]  # 600 written and a few read


def test_the_list_has_the_failures_of_earlier_runs_too(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(8))
    listed = data / ".recaption.long.failed"

    def some(request: Request) -> Answer:
        fails = str(request.original) < "picture 4"
        return Answer("No." if fails else described(request.original), 1000, 100)

    one_by_one = replace(PRICED, parallel=1)
    go(data, Scripted(some), one_by_one)
    assert len(listed.read_text().splitlines()) == 4
    first = str(Path(listed.read_text().splitlines()[0].partition(":")[0]))
    # One more is asked about, in vain again, or none at all: four have no caption.
    for budget in (0.0181, 0.0181):
        lines = go(data, Scripted(some), replace(one_by_one, budget=budget))
        assert len(listed.read_text().splitlines()) == 4
    assert any("4 got no caption: 4 too short" in line for line in lines)
    go(data, Scripted(), replace(SETTINGS, num=1))
    assert len(listed.read_text().splitlines()) == 3
    assert first not in listed.read_text()
    (data / listed.read_text().partition(":")[0]).unlink()  # a picture that is gone
    with (data / "captions.jsonl").open("a") as table:  # and one described by hand
        name = listed.read_text().splitlines()[1].partition(":")[0]
        table.write(json.dumps({"file_name": name, "long": "A ramp."}) + "\n")
    go(data, Scripted(some))
    assert len(listed.read_text().splitlines()) == 1


def test_another_instruction_counts_only_when_captions_are_to_be_renewed(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(4))
    go(data, Scripted())
    edited = (data / "captions.jsonl").read_text().replace("picture 0.", "something by hand.")
    (data / "captions.jsonl").write_text(edited)
    other = replace(SETTINGS, instruction=Instruction("Describe it otherwise."))
    newer = Scripted(lambda request: Answer(f"Otherwise: {described(request.original)}"))
    go(data, newer, other)
    assert newer.asked == []
    go(data, newer, replace(other, renew=True))
    assert sorted(map(str, newer.asked)) == ["picture 1", "picture 2", "picture 3"]
    go(data, newer, replace(other, renew=True))
    assert len(newer.asked) == 3
    captions = [str(caption) for caption in long_captions(data)]
    assert captions[0].endswith("something by hand.")
    assert sum(caption.startswith("Otherwise") for caption in captions) == 3


def test_an_answer_to_an_original_that_has_changed_is_not_used(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(3))
    path = journal_path(open_records(str(data)), "long")
    with pytest.raises(RelayError):  # answered, but not in the data
        (data / ".captions.jsonl.new").mkdir()
        go(data, Scripted())
    (data / ".captions.jsonl.new").rmdir()
    assert len(path.read_text().splitlines()) == 3
    (data / "part0" / "000.txt").write_text("another picture")
    writer = Scripted()
    go(data, writer)
    assert writer.asked == ["another picture"]
    assert long_captions(data)[0] == described("another picture")


def test_the_field_of_the_original_must_be_somewhere(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(2, title="t", alt="a"), "json")
    with pytest.raises(RelayError, match="only alt, title: give --original alt, or --no-original"):
        go(data, Scripted())
    writer = Scripted()
    go(data, writer, replace(SETTINGS, original="title"))
    assert sorted(map(str, writer.asked)) == ["t 0", "t 1"]


def test_the_journal_keeps_the_triplets_and_survives_a_torn_line(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", drawn(2))
    go(data, Scripted())
    path = journal_path(open_records(str(data)), "long")
    # Pictures are asked about side by side: answers come in any order.
    by_name = {one["name"]: one for one in map(json.loads, path.read_text().splitlines())}
    first = by_name["part0/000.png"]
    assert (first["original"], first["text"]) == ("picture 0", described("picture 0"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"file": "part')
    assert len(Journal(path).entries) == 2
    with Journal.held(path):
        assert path.read_bytes() == whole
        with pytest.raises(RelayError, match="another relay recaption is at work"):
            go(data, Scripted())
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(RelayError, match="line 1 is damaged"):
        go(data, Scripted())


def test_a_rehearsal_asks_nothing_and_knows_better_after_answers(tmp_path: Path) -> None:
    pictures = [
        Drawn(str(i), encoded(picture(0, 560, 280)), {"caption": f"picture {i}"}) for i in range(4)
    ]
    data = write_folder(tmp_path / "data", pictures)
    path = journal_path(open_records(str(data)), "long")

    def lines() -> list[str]:
        said: list[str] = []
        rehearse(open_records(str(data)), Journal(path), PRICED, "m", 2.0, said.append)
        return said

    request, counted, expected = lines()
    assert "Original caption: picture 0" in request
    assert "data:image/jpeg;base64,... (560x280," in request
    assert counted == "4 pictures: 0 have the caption, 4 to be asked about"
    # 20 x 10 patches, and nine letters of instruction, read; 220 written
    assert expected.startswith("about 809 tokens read and 880 written, cost about 0.01, 2 minutes")
    assert not path.exists()
    go(data, Scripted(), replace(PRICED, num=1))
    assert lines()[1:] == [
        "4 pictures: 1 have the caption, 3 to be asked about",
        "about 3,000 tokens read and 300 written, cost about 0.01, "
        "2 minutes at 2 requests a minute",
    ]
