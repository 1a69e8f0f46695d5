"""Small pictures that a base stage redraws in part, before a relay learns to enlarge them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, Squares, tiny_recipe, tokenizer, train_tiny

from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.training.build import networks_of
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective_settings import Redraw
from relay_diffusion.training.recipe import RelayRecipe, recipe_from_dict
from relay_diffusion.training.redrawing import Redrawing, redraw_bytes
from relay_diffusion.training.rounds import DistillRecipe
from relay_diffusion.training.upscaling import prepared_with_low_resolution
from tests.pipelines.conftest import cascade, cascade_folder, distilled
from tests.pipelines.tiny import PROMPT

__all__ = ["cascade", "cascade_folder", "distilled"]

NUM = 6


def recipe_of(folder: Path, out: Path, view: int = 64, **redraw: Any) -> RelayRecipe:
    recipe = tiny_recipe(
        "relay",
        out,
        data={"views": [{"size": view}], "batch_size": NUM},
        model={name: str(folder / name) for name in ("vae", "text_encoder", "tokenizer")},
        objective={"through_vae": 0.0, "redraw": {"cascade": str(folder), **redraw}},
    )
    assert isinstance(recipe, RelayRecipe)
    return recipe


def redrawing(folder: Path, out: Path, **redraw: Any) -> Redrawing:
    recipe = recipe_of(folder, out, **redraw)
    assert recipe.objective.redraw is not None
    return Redrawing(recipe.objective.redraw, recipe.model, recipe, CPU)


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("kind", ["cascade", "distilled"])
def test_it_draws_what_image_to_image_does(
    kind: str, strength: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pipe: RelayPipeline = request.getfixturevalue(kind)
    pipe.save_pretrained(tmp_path / "cascade")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    draws = Draws.of_batch(0, "prepare", 0, 2)
    eps = draws.normal("redraw_noise", 4, 4, 4)
    steps = pipe.config.num_inference_steps
    wanted = pipe(
        [PROMPT] * 2,
        image=(x + 1) / 2,
        strength=strength,
        height=32,
        width=32,
        num_inference_steps=steps,
        latents=[eps],
        output_type="pt",
    ).images
    ours = redrawing(tmp_path / "cascade", tmp_path, strength=[strength, strength])
    context, _ = pipe.encode_prompt([PROMPT] * 2)
    vector = torch.tensor([[32, 32, 0, 0, 32, 32]], dtype=torch.float32).expand(2, 6)
    with torch.no_grad():
        z = ours.redraw(encode(pipe.vae, x), context, vector, draws)
        made = (decode(pipe.vae, z) + 1) / 2
    torch.testing.assert_close(made.clamp(0, 1), wanted, atol=1e-4, rtol=0)


def low_resolution_of(
    folder: Path, tmp_path: Path, rows: range = range(NUM), whole: bool = True, **redraw: Any
) -> torch.Tensor:
    recipe = recipe_of(folder, tmp_path, **redraw)
    settings = recipe.objective.redraw
    assert settings is not None
    networks = networks_of(recipe, tokenizer())
    pictures = Squares("train", [View(64)]).batch(0, NUM, rows)
    if not whole:
        pictures = type(pictures)(pictures.x, pictures.captions, pictures.time_ids, whole=False)
    draws = Draws(0, "prepare", 0, torch.arange(rows.start, rows.stop), NUM)
    redraws = Redrawing(settings, recipe.model, recipe, CPU)
    with torch.no_grad():
        batch = prepared_with_low_resolution(networks, 8, 0.0, pictures, draws, CPU, redraws)
    return batch["z_lr"]


def test_it_redraws_its_share_of_whole_pictures_each_by_itself(
    cascade_folder: Path, tmp_path: Path
) -> None:
    untouched = low_resolution_of(cascade_folder, tmp_path, share=0.0)
    some = low_resolution_of(cascade_folder, tmp_path, share=0.5, strength=[0.3, 1.0])
    changed = (some != untouched).flatten(1).any(1)
    draws = Draws.of_batch(0, "prepare", 0, NUM)
    assert changed.tolist() == (draws.uniform("redraw") < 0.5).tolist()
    assert 0 < changed.sum() < NUM
    alone = low_resolution_of(cascade_folder, tmp_path, range(2, 5), share=0.5, strength=[0.3, 1.0])
    torch.testing.assert_close(alone, some[2:5], atol=1e-5, rtol=1e-5)
    windows = low_resolution_of(cascade_folder, tmp_path, whole=False, share=1.0)
    assert torch.equal(windows, untouched)


def test_pictures_of_other_sizes_are_left_as_they_are(cascade_folder: Path, tmp_path: Path) -> None:
    ours = redrawing(cascade_folder, tmp_path, share=1.0)
    draws = Draws.of_batch(0, "prepare", 0, NUM)
    for size, all_of_them in ((64, True), (32, False), (128, False)):
        pictures = Squares("train", [View(size)]).batch(0, NUM)
        assert ours.chosen(pictures, draws).tolist() == [all_of_them] * NUM


def test_a_relay_trains_on_it(cascade_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(cascade_folder, tmp_path, share=0.5)
    assert train_tiny(recipe)
    assert (recipe.folder / "export" / "relay_unet" / "config.json").is_file()


def test_its_memory_is_counted_of_a_stage_stored_as_a_difference_too() -> None:
    whole = redraw_bytes(Redraw("starter"), half=True)
    assert redraw_bytes(Redraw("starter-fast"), half=True) > whole > 2e7
    assert redraw_bytes(Redraw("starter"), half=False) == 2 * whole


def test_it_refuses_another_autoencoder(cascade_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(cascade_folder, other)
    networks = networks_of(tiny_recipe("relay", tmp_path), tokenizer())
    shutil.rmtree(other / "vae")
    save_half(networks.vae, other / "vae")
    recipe = recipe_of(other, tmp_path)
    settings = Redraw(str(cascade_folder))
    with pytest.raises(RelayError, match=r"redraw\.cascade, .* has another vae than model\.vae"):
        Redrawing(settings, recipe.model, recipe, CPU)
    fresh = tiny_recipe("relay", tmp_path)
    with pytest.raises(RelayError, match=r"model\.vae starts from nothing, and objective\.redraw"):
        Redrawing(settings, fresh.model, fresh, CPU)


def test_it_refuses_prepared_data_and_a_base_stage(cascade_folder: Path, tmp_path: Path) -> None:
    redraw = {"cascade": str(cascade_folder)}
    data = {"source": "prepared", "path": str(tmp_path), "views": [{"size": 64}]}
    with pytest.raises(RelayError, match="prepared data have theirs already"):
        tiny_recipe("relay", tmp_path, data=data, objective={"redraw": redraw})
    rounds = [{"num_steps": 2, "steps": 1}]
    objective = {"teacher": "starter", "stage": "base", "rounds": rounds, "redraw": redraw}
    table = {"run": {"name": "r", "objective": "distill", "steps": 1}, "objective": objective}
    with pytest.raises(RelayError, match="redraw is of a relay, and this distils a base"):
        recipe_from_dict(table, {"distill": DistillRecipe})


@pytest.mark.parametrize(
    "wrong", [{"share": 1.5}, {"strength": [0.0, 0.5]}, {"strength": [0.5, 0.2]}]
)
def test_it_says_what_share_and_strength_must_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(RelayError, match=r"redraw has share .*: the share must be 0"):
        Redraw("starter", **wrong)
