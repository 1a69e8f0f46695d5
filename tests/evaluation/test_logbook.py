"""Settings are kept, changed ones refused; batches survive a run that was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.logbook import Batch, Logbook
from relay_diffusion.evaluation.making import speed


def batch(
    number: int,
    num: int = 4,
    seconds: float = 2.0,
    peak: int = 10,
    expansion: float = 0.0,
    model: str = "m",
) -> Batch:
    return Batch(model, "s", number, num, seconds, peak, expansion)


def test_what_was_agreed_holds_in_the_next_run(tmp_path: Path) -> None:
    first = Logbook(tmp_path)
    first.agree("model", "a", {"steps": 50, "size": (64, 64)})
    first.save()
    first.add(batch(0, model="a"))
    again = Logbook(tmp_path)
    again.agree("model", "a", {"steps": 50, "size": [64, 64]})
    again.agree("model", "b", {"steps": 10})
    for changed in ({"steps": 10, "size": [64, 64]}, {"steps": 50}):
        with pytest.raises(RelayError, match="pictures of model 'a' with"):
            again.agree("model", "a", changed)
    with pytest.raises(RelayError, match="steps 50, and now it is 10"):
        again.agree("model", "a", {"steps": 10, "size": [64, 64]})


def test_settings_that_made_no_picture_may_be_changed(tmp_path: Path) -> None:
    first = Logbook(tmp_path)
    for kind, name in (("run", ""), ("suite", "s"), ("suite", "t"), ("model", "m"), ("model", "n")):
        first.agree(kind, name, {"size": 1})
    first.save()
    guessed = Logbook(tmp_path)
    guessed.agree("run", "", {"size": 2})
    first.add(batch(0))
    again = Logbook(tmp_path)
    for kind, name in (("suite", "t"), ("model", "n")):
        again.agree(kind, name, {"size": 2})
    for kind, name in (("run", ""), ("suite", "s"), ("model", "m")):
        with pytest.raises(RelayError, match="size 1, and now it is 2"):
            again.agree(kind, name, {"size": 2})


def test_another_name_for_the_same_folder_is_refused(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path)
    logbook.agree("suite", "my prompts", {})
    with pytest.raises(RelayError, match="suite 'my prompts' where those of 'my-prompts' would be"):
        logbook.agree("suite", "my-prompts", {})


def test_a_line_that_was_being_written_is_forgotten(tmp_path: Path) -> None:
    first = Logbook(tmp_path)
    first.add(batch(0))
    first.add(batch(1))
    path = tmp_path / "batches.jsonl"
    path.write_text(path.read_text()[:-10])
    again = Logbook(tmp_path)
    assert again.of("m") == [batch(0)]
    again.add(batch(1, seconds=3.0))
    assert Logbook(tmp_path).of("m") == [batch(0), batch(1, seconds=3.0)]


def test_a_line_from_before_expansion_had_a_time_is_read(tmp_path: Path) -> None:
    line = '{"model": "m", "suite": "s", "number": 0, "num_pictures": 4, "seconds": 2.0, '
    (tmp_path / "batches.jsonl").write_text(line + '"peak_bytes": 10}\n')
    assert Logbook(tmp_path).of("m") == [batch(0)]


def test_a_damaged_logbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "batches.jsonl").write_text("{}\n")
    with pytest.raises(RelayError, match=r"batches\.jsonl is damaged"):
        Logbook(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RelayError, match=r"run\.json is damaged"):
        Logbook(tmp_path)


def test_time_is_the_median_of_full_batches() -> None:
    batches = [batch(0, seconds=9.0), batch(1), batch(2, seconds=4.0), batch(3, 1, 50.0, peak=99)]
    batches += [batch(number, seconds=4.0, expansion=8.0) for number in range(4, 7)]
    assert speed(batches) == {
        "seconds_per_batch": 4.0,
        "seconds_per_picture": 1.0,
        "expansion_seconds_per_picture": 1.0,
        "batch_size": 4,
        "peak_bytes": 99,
    }
