"""What captions say of scenes: the facts by hand, the loss at its least, and an encoder that learns
who has which colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_text import Captions
from torch import nn

from relay_diffusion.data.scenes.captions import scene_prompt
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.data.scenes.stream import SceneDescription, SceneStream
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training.feed import Batch, Split
from relay_diffusion.training.networks import build_text_encoder
from relay_diffusion.training.optimizer import OptimizerSettings, build_optimizer, set_rate
from relay_diffusion.training.reading import (
    UNSAID,
    CaptionProbe,
    Logits,
    count_read,
    facts_of,
    reading_loss,
)
from relay_diffusion.training.recipe import Recipe, recipe_from_dict
from relay_diffusion.training.run import run
from relay_diffusion.training.sources import Ahead

STEPS = 300
WORLD = World(("cat", "fox", "owl"), 2, ("red", "meadow"), ("flat", "pixel art"), ("blue", "red"))
"""Stands in for a world of three subjects."""


def thing(subject: str, tint: str | None, x: float, size: float = 0.4) -> Thing:
    return Thing(subject, tint, x, 0.5, size)


BESIDE = Scene(
    (thing("owl", "blue", 0.7), thing("cat", None, 0.3, size=0.3)), "right of", "meadow", "flat", 0
)
TWICE = Scene((thing("fox", "red", 0.3), thing("fox", "red", 0.7)), None, "red", "pixel art", 0)


def test_facts_say_of_each_subject_and_side_what_the_scene_has() -> None:
    facts = facts_of([BESIDE, TWICE], WORLD)
    nothing = [0, UNSAID, UNSAID, UNSAID]
    # Number, tint, relation ("unsaid", "in a row", left, right, above, below), size.
    assert facts["things"][0].tolist() == [[1, 0, 2, 1], nothing, [1, 1, 3, 0]]
    assert facts["things"][1].tolist() == [nothing, [2, 2, 0, UNSAID], nothing]
    # Left, right, above, below; subject 3 is nobody.
    assert facts["sides"][0].tolist() == [[0, 0], [2, 1], [3, UNSAID], [3, UNSAID]]
    assert facts["sides"][1].tolist() == [[3, UNSAID]] * 4
    assert facts["picture"].tolist() == [[1, 0], [0, 1]]


def test_what_two_of_a_subject_differ_in_is_not_asked() -> None:
    things = (thing("fox", "red", 0.3), thing("fox", "blue", 0.7))
    facts = facts_of([Scene(things, "left of", "meadow", "flat", 0)], WORLD)
    assert facts["things"][0, 1].tolist() == [2, UNSAID, UNSAID, UNSAID]
    assert facts["sides"][0, :2].tolist() == [[1, 2], [1, 1]]


def sure(probe: CaptionProbe, facts: Batch, logit: float = 20.0) -> Logits:
    """Logits that are right."""
    logits = {}
    for name in ("things", "sides", "picture"):
        widths = ([5] if name == "things" else []) + probe.splits[name]
        truths = facts[name].clamp(min=0).unbind(-1)
        logits[name] = tuple(
            logit * F.one_hot(truth, width).float()
            for truth, width in zip(truths, widths, strict=True)
        )
    shown = (facts["things"][..., 0] > 0).float()
    return logits | {"whole": (*logits["picture"], 2 * logit * shown - logit)}


def test_sure_and_right_answers_cost_nothing_and_a_wrong_one_what_it_is_sure_of() -> None:
    facts = facts_of([BESIDE, TWICE], WORLD)
    logits = sure(CaptionProbe(8, WORLD), facts)
    assert reading_loss(logits, facts).tolist() == pytest.approx([0, 0], abs=1e-5)
    counts = count_read(logits, facts)
    assert all(right == asked for right, asked in counts.values())
    asked = {name: asked for name, (_, asked) in counts.items()}
    assert (asked["number"], asked["absent"], asked["tint"], asked["dyed"]) == (3, 3, 3, 2)
    assert (asked["size"], asked["side"], asked["style (whole)"]) == (2, 2, 2)

    # The owl is now taken for a red one, and a fox is seen where there is none.
    logits["things"][1][0, 2] = torch.tensor([0.0, 0.0, 20.0])
    logits["things"][0][0, 1] = torch.tensor([0.0, 20.0, 0.0, 0.0, 0.0])
    assert reading_loss(logits, facts).tolist() == pytest.approx([40, 0], abs=1e-4)
    counts = count_read(logits, facts)
    assert (counts["tint"], counts["dyed"], counts["absent"]) == ((2, 3), (1, 2), (2, 3))


def test_padding_is_read_in_the_mean_only_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    probe = CaptionProbe(8, WORLD)
    nn.init.normal_(probe.numbers)
    context, mask = torch.randn(2, 6, 8), torch.tensor([[True] * 4 + [False] * 2] * 2)
    logits = probe(context, mask)
    other = probe(context + 3 * ~mask[..., None], mask)
    for name in ("things", "sides", "picture"):
        assert all(map(torch.equal, logits[name], other[name]))
    assert not torch.equal(logits["whole"][0], other["whole"][0])
    reading_loss(logits, facts_of([BESIDE, TWICE], WORLD)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in probe.parameters())


@pytest.mark.slow
def test_an_encoder_learns_whose_colour_is_whose() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    widths = {"d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 3}
    encoder = build_text_encoder(widths, len(tokenizer))
    # Two things, both dyed, either way round: the words of a caption do not say which is which.
    scenes = [
        Scene((thing(a, tint, 0.3), thing(b, other, 0.7)), "left of", background, style, 0)
        for a in WORLD.subjects
        for b in WORLD.subjects
        for tint, other in (("blue", "red"), ("red", "blue"))
        for background in WORLD.backgrounds
        for style in WORLD.styles
        if a != b
    ]
    asked, taught = scenes[::6], [scene for i, scene in enumerate(scenes) if i % 6]
    ids = tokenize(tokenizer, [scene_prompt(scene) for scene in taught + asked], 16)
    mask = ids != tokenizer.pad_token_id
    probe = CaptionProbe(48, WORLD)
    modules = {"text_encoder": encoder, "probe": probe}
    optimizer = build_optimizer(modules, OptimizerSettings(lr=3e-3, weight_decay=0.0))
    set_rate(optimizer, 3e-3)
    num, facts = len(taught), facts_of(taught, WORLD)
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = probe(encode_text(encoder, ids[:num]), mask[:num])
        reading_loss(logits, facts).mean().backward()
        optimizer.step()
    counts = count_read(probe(encode_text(encoder, ids[num:]), mask[num:]), facts_of(asked, WORLD))
    assert counts["dyed"] == counts["side"] == (16, 16)


def text_recipe(out: Path, **run: Any) -> Recipe:
    return recipe_from_dict(
        {
            "run": {"name": "text", "objective": "text", "steps": 2, "out": str(out), **run},
            "data": {"batch_size": 4, "world": "small"},
            "model": {
                "max_tokens": 32,
                "text_encoder": {"d_model": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2},
            },
            "objective": {"reading": 1.0, "contrast": 0.0},
            "optimizer": {"kind": "muon", "warmup": 1, "scales": {"probe": 3.0}},
            "validation": {"every": 1, "num_pictures": 8},
            "preview": {"every": 0},
            "checkpoint": {"every": 1},
        }
    )


def captions(split: Split, views: Sequence[View]) -> Ahead[SceneDescription]:
    """No atlas: nothing is drawn."""
    return Ahead(SceneStream(World.small(), None, (View(32),), split=split), workers=1)  # type: ignore[arg-type]


def test_a_run_says_what_is_read_and_exports_the_encoder_alone(tmp_path: Path) -> None:
    assert run(text_recipe(tmp_path), source=captions)
    log = (tmp_path / "text" / "log.jsonl").read_text()
    assert '"validation/side"' in log and '"validation/absent"' in log
    assert "retrieval" not in log
    export = tmp_path / "text" / "export"
    assert {path.name for path in export.iterdir()} == {"text_encoder", "tokenizer", "recipe.toml"}


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run(text_recipe(tmp_path / "whole"), source=captions)
    run(text_recipe(tmp_path / "parts", steps=1), source=captions)
    run(text_recipe(tmp_path / "parts"), source=captions, resume=True)
    whole, parts = (
        (tmp_path / name / "text/export/text_encoder/model.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_it_needs_scenes(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=r"objective\.reading is for scenes"):
        run(text_recipe(tmp_path), source=lambda split, views: Captions())
