"""What the judge is asked of prompts that do not say everything."""

from __future__ import annotations

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.alignment import alignment, alignment_by_task
from relay_diffusion.evaluation.bootstrap import score
from relay_diffusion.evaluation.instruments import check_judge
from relay_diffusion.evaluation.judge import (
    Judge,
    NamedThing,
    PartialScene,
    Seen,
    Verdict,
    agreement,
)
from relay_diffusion.evaluation.judge.network import NO_TINT, Answers, JudgeNetwork
from relay_diffusion.evaluation.suites import Prompt, Suite

ANSWERS = Answers(("fox", "owl"), (NO_TINT, "red", "blue"), ("white",), ("flat",))
FOX, RED_FOX, BLUE_OWL = NamedThing("fox"), NamedThing("fox", "red"), NamedThing("owl", "blue")


def saw(*things: tuple[str, str | None, float]) -> Verdict:
    seen = [Seen(subject, tint, x, 0.5, 0.3, 0.9) for subject, tint, x in things]
    return Verdict(tuple(seen), "white", "flat")


def test_only_what_is_said_is_asked() -> None:
    assert agreement(PartialScene((FOX,)), saw(("fox", None, 0.5))) == {"subject": True}
    assert agreement(PartialScene((FOX,), style="flat"), saw()) == {"subject": False, "style": True}
    assert agreement(PartialScene((), background="blue"), saw()) == {"background": False}


def test_each_thing_must_have_its_own_colour() -> None:
    asked = PartialScene((RED_FOX, BLUE_OWL))
    right, swapped = (
        (("fox", "red", 0.2), ("owl", "blue", 0.8)),
        (
            ("fox", "blue", 0.2),
            ("owl", "red", 0.8),
        ),
    )
    assert agreement(asked, saw(*right))["colour"]
    assert not agreement(asked, saw(*swapped))["colour"]
    two = PartialScene((RED_FOX, RED_FOX))
    assert not agreement(two, saw(("fox", "red", 0.2), ("fox", None, 0.8)))["colour"]
    assert agreement(two, saw(("fox", "red", 0.2), ("fox", "red", 0.8))) == {
        "count": True,
        "colour": True,
    }


def test_counts_of_several_kinds_are_all_asked() -> None:
    asked = PartialScene((FOX, FOX, NamedThing("owl")), "left of")
    seen = [("fox", None, 0.1), ("fox", None, 0.3), ("owl", None, 0.8)]
    assert agreement(asked, saw(*seen)) == {"both subjects": True, "count": True, "position": True}
    assert not agreement(asked, saw(*seen[1:]))["count"]


def test_everything_holds_only_if_all_does() -> None:
    prompts = [Prompt("a", PartialScene((FOX,), style="flat")), Prompt("b")]
    read = [[saw(("fox", None, 0.5)), saw()], [saw(), saw()]]
    scores = alignment(prompts, read)
    assert scores["everything"].value == 0.5
    assert scores["facts"].value == 0.75
    assert scores["style"].value == 1.0
    assert scores["subject"].num_prompts == 1 and scores["subject"].num_pictures == 2


def test_a_task_needs_the_things_as_well() -> None:
    asked = PartialScene((RED_FOX, BLUE_OWL), "left of")
    prompts = [
        Prompt("p", asked, task="position"),
        Prompt("c", asked, task="colour attribution"),
        Prompt("x", asked, task="no task of ours"),
    ]
    only_fox, both = saw(("fox", "red", 0.2)), saw(("fox", "red", 0.2), ("owl", "blue", 0.8))
    tasks = alignment_by_task(prompts, [[only_fox, both]] * 3)
    assert {name: one.value for name, one in tasks.items()} == {
        "position": 0.5,
        "colour attribution": 0.5,
    }
    assert alignment(prompts, [[only_fox, both]] * 3)["position"].num_pictures == 3


def test_the_interval_is_that_of_prompts_not_of_pictures() -> None:
    alike = score([(100, 100)] * 5 + [(0, 100)] * 5)
    assert alike.value == 0.5 and alike.num_pictures == 1000
    assert alike.high - alike.low > 0.5  # ten coins, not a thousand
    assert score([(1, 2)] * 8).low == 0.5


def test_a_judge_of_another_world_is_refused() -> None:
    judge = Judge(JudgeNetwork(ANSWERS, width=8), {})
    check_judge(
        judge, Suite("s", (Prompt("a red fox", PartialScene((RED_FOX,))), Prompt("what")), {})
    )
    with pytest.raises(RelayError, match="'bus'"):
        check_judge(judge, Suite("s", (Prompt("a bus", PartialScene((NamedThing("bus"),))),), {}))


def test_features_are_what_the_whole_picture_is_read_from() -> None:
    network = JudgeNetwork(ANSWERS, width=8).eval()
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    features = network.features(x)
    assert features.shape == (2, 48)
    assert torch.equal(network.background(features), network(x).background)
