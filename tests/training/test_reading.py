"""What captions say of scenes: the facts by hand, the loss at its least, and an encoder that learns
who has which colour."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_text import Captions

from relay_diffusion.data.scenes.captions import scene_prompt
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training.networks import build_text_encoder
from relay_diffusion.training.optimizer import OptimizerSettings, build_optimizer, set_rate
from relay_diffusion.training.reading import (
    CaptionReader,
    facts_of,
    reading_loss,
    share_read,
)
from relay_diffusion.training.recipe import recipe_from_dict
from relay_diffusion.training.run import run

WORLD = World(("cat", "fox", "owl"), 2, ("red", "meadow"), ("flat", "pixel art"), ("blue", "red"))
"""Stands in for a world of three subjects."""


def thing(subject: str, tint: str | None, x: float, size: float = 0.4) -> Thing:
    return Thing(subject, tint, x, 0.5, size)


BESIDE = Scene(
    (thing("owl", "blue", 0.7), thing("cat", None, 0.3, size=0.3)), "right of", "meadow", "flat", 0
)
TWICE = Scene((thing("fox", "red", 0.3), thing("fox", "red", 0.7)), None, "red", "pixel art", 0)


def test_facts_say_of_each_subject_and_place_what_the_scene_has() -> None:
    facts = facts_of([BESIDE, TWICE], WORLD)
    nothing = [0, -100, -100, -100]
    # Number, tint, stand ("unsaid", "in a row", left, right, above, below), size.
    assert facts["things"][0].tolist() == [[1, 0, 2, 1], nothing, [1, 1, 3, 0]]
    assert facts["things"][1].tolist() == [nothing, [2, 2, 0, 0], nothing]
    # Left, right, above, below; subject 3 is nobody.
    assert facts["places"][0].tolist() == [[0, 0], [2, 1], [3, -100], [3, -100]]
    assert facts["places"][1].tolist() == [[3, -100]] * 4
    assert facts["picture"].tolist() == [[1, 0], [0, 1]]


def test_sure_and_right_answers_cost_nothing_and_a_wrong_one_what_it_is_sure_of() -> None:
    facts = facts_of([BESIDE, TWICE], WORLD)
    reader = CaptionReader(8, WORLD)
    logits = {}
    for name in ("things", "places", "picture"):
        widths = ([5] if name == "things" else []) + reader.splits[name]
        logits[name] = tuple(
            20.0 * torch.nn.functional.one_hot(facts[name][..., i].clamp(min=0), width).float()
            for i, width in enumerate(widths)
        )
    shown = (facts["things"][..., 0] > 0).float()
    logits["whole"] = (*logits["picture"], 40 * shown - 20)
    assert reading_loss(logits, facts).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert set(share_read(logits, facts).values()) == {1.0}

    # The owl is now taken for a red one.
    logits["things"][1][0, 2] = torch.tensor([0.0, 0.0, 20.0])
    assert reading_loss(logits, facts).tolist() == pytest.approx([20, 0], abs=1e-4)
    assert share_read(logits, facts)["tint"] == pytest.approx(2 / 3)


def test_an_encoder_learns_whose_colour_is_whose() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    widths = {"d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 3}
    encoder = build_text_encoder(widths, len(tokenizer))
    # Two things, both dyed, in the two ways round: the words of a caption do not say which.
    scenes = [
        Scene((thing(a, tint, 0.3), thing(b, other, 0.7)), "left of", "meadow", "flat", 0)
        for a in WORLD.subjects
        for b in WORLD.subjects
        for tint, other in (("blue", "red"), ("red", "blue"))
        if a != b
    ]
    facts = facts_of(scenes, WORLD)
    ids = tokenize(tokenizer, [scene_prompt(scene) for scene in scenes], 12)
    words = ids != tokenizer.pad_token_id
    reader = CaptionReader(48, WORLD)
    modules = {"text_encoder": encoder, "reader": reader}
    optimizer = build_optimizer(modules, OptimizerSettings(lr=3e-3, weight_decay=0.0))
    set_rate(optimizer, 3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        reading_loss(reader(encode_text(encoder, ids), words), facts).mean().backward()
        optimizer.step()
    shares = share_read(reader(encode_text(encoder, ids), words), facts)
    assert shares["tint"] == shares["who stands where"] == 1


def test_it_needs_scenes(tmp_path: Path) -> None:
    recipe = recipe_from_dict(
        {
            "run": {"name": "text", "objective": "text", "steps": 1, "out": str(tmp_path)},
            "data": {"batch_size": 8},
            "model": {"max_tokens": 16, "text_encoder": {"d_model": 32, "num_layers": 1}},
            "objective": {"reading": 0.5},
        }
    )
    with pytest.raises(RelayError, match=r"objective\.reading is for scenes"):
        run(recipe, source=lambda split, views: Captions())
