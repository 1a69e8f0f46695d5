"""An adapter learns, nothing else does, and a run of it goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, UNET, Squares, newest_state, tokenizer, train_tiny
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.models.lora import read_adapter
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.loop import train
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Recipe, recipe_from_dict

PART = {"base": "base_unet", "relay": "relay_unet", "concat": "relay_unet"}


def lora_recipe(cascade: Path, out: Path, kind: str = "base", **changes: Any) -> Recipe:
    tables: dict[str, Any] = {
        "run": {"name": kind, "objective": kind, "steps": 4, "out": str(out), "log_every": 1},
        "data": {"batch_size": 4, "views": [{"size": 32}]},
        "model": {"cascade": str(cascade)},
        "lora": {"rank": 2, "target_modules": ["to_q", "to_out.0", "ff.net.2", "conv1"]},
        "optimizer": {"lr": 1e-2, "warmup": 0, "schedule": "constant"},
        "validation": {"every": 0, "num_pictures": 4},
        "preview": {"every": 0, "num_pictures": 2, "num_steps": 2},
        "checkpoint": {"every": 2},
    }
    if kind == "concat":
        tables["model"]["unet"] = str(cascade / "concat_unet")
    for name, change in changes.items():
        tables[name] = tables.get(name, {}) | change
    return recipe_from_dict(tables)


def objective_for(recipe: Recipe) -> Objective:
    return objective_of(recipe, networks_of(recipe, tokenizer()), Squares, CPU)


def test_a_cascade_fills_in_what_the_recipe_leaves_out(
    starting_point: Path, tmp_path: Path
) -> None:
    recipe = lora_recipe(starting_point, tmp_path, "relay", model={"max_tokens": 6})
    assert recipe.model.unet == str(starting_point / "relay_unet")
    assert recipe.model.tokenizer == str(starting_point / "tokenizer")
    assert (recipe.model.max_tokens, recipe.model.prediction_type) == (6, "v_prediction")
    assert recipe.objective.num_relay_train_steps == 300


@pytest.mark.parametrize("kind", PART)
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_the_adapter_learns_and_nothing_else(
    starting_point: Path, tmp_path: Path, kind: str, dora: bool
) -> None:
    recipe = lora_recipe(starting_point, tmp_path, kind, run={"steps": 2}, lora={"dora": dora})
    networks = networks_of(recipe, tokenizer())
    objective = objective_of(recipe, networks, Squares, CPU)
    before = {
        f"{part}.{name}": value.clone()
        for part, module in networks.modules().items()
        for name, value in module.state_dict().items()
    }
    assert train(recipe, objective, CPU)
    changed = {
        f"{part}.{name}"
        for part, module in networks.modules().items()
        for name, value in module.state_dict().items()
        if not torch.equal(value, before[f"{part}.{name}"])
    }
    assert changed == {name for name in before if ".lora_" in name}
    averaged = {name for name in newest_state(recipe) if name.startswith("ema.")}
    assert averaged == {f"ema.{name}" for name in changed}

    assert [path.name for path in (recipe.folder / "export").iterdir() if path.is_dir()] == ["lora"]
    adapter = read_adapter(recipe.folder / "export" / "lora")
    assert adapter.cascade == str(starting_point)
    assert list(adapter.tensors) == [PART[kind]]
    assert len(adapter.tensors[PART[kind]]) == len(changed)
    assert {tensor.dtype for tensor in adapter.tensors[PART[kind]].values()} == {torch.float16}


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_a_fresh_adapter_leaves_the_loss_as_it_is(
    starting_point: Path, tmp_path: Path, dora: bool
) -> None:
    def loss(recipe: Recipe) -> Tensor:
        objective = objective_for(recipe)
        with torch.no_grad():
            return objective.loss(objective.feed(0), Draws.of_batch(0, "train", 0, 4))

    adapted = lora_recipe(starting_point, tmp_path, lora={"dora": dora})
    object.__setattr__(plain := lora_recipe(starting_point, tmp_path), "lora", None)
    assert torch.equal(loss(adapted), loss(plain))


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_every_parameter_of_the_adapter_gets_a_gradient(
    starting_point: Path, tmp_path: Path, dora: bool
) -> None:
    recipe = lora_recipe(
        starting_point,
        tmp_path,
        lora={"dora": dora, "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "conv2"]},
    )
    objective = objective_for(recipe)
    named = {n: p for n, p in objective.trained["unet"].named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(named.values(), lr=1.0)
    silent = []
    for step in range(2):  # B, zero at first, hides A
        optimizer.zero_grad()
        objective.loss(objective.feed(step), Draws.of_batch(0, "train", step, 4)).mean().backward()
        silent.append({n for n, p in named.items() if p.grad is None or not bool(p.grad.any())})
        optimizer.step()
    assert silent[0] == {name for name in named if "lora_A" in name}
    assert silent[1] == set()


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_two_steps_and_two_more_equal_four(
    starting_point: Path, tmp_path: Path, dtype: str
) -> None:
    # Dropout, which draws at every step, and must be on before the first evaluation too.
    def make(out: str, steps: int) -> Recipe:
        return lora_recipe(
            starting_point,
            tmp_path / out,
            run={"steps": steps, "dtype": dtype},
            lora={"dora": True, "dropout": 0.3},
            checkpoint={"every": 3},
        )

    def run(recipe: Recipe, resume: bool = False) -> dict[str, Any]:
        assert train(recipe, objective_for(recipe), CPU, resume)
        return newest_state(recipe)

    whole = run(make("whole", 4))
    run(make("halves", 2))
    halves = run(make("halves", 4), resume=True)
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[key], halves[key]) for key in whole)
    # The adapter is all there is to be kept, and it is kept in full.
    kept = {key: value.dtype for key, value in whole.items() if key.startswith("weights.")}
    assert kept and all(".lora_" in key for key in kept) and set(kept.values()) == {torch.float32}


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ["to_qq"]}, "has no layer 'to_qq', nearest: 'to_q'"),
        ({"target_modules": ["attn1"]}, "lora.target_modules: Target module"),
        ({"rank": 0}, "lora: rank is 0, must be at least 1"),
        ({"dropout": 1.0}, "lora: dropout is 1.0, must be at least 0 and below 1"),
        ({"ranks": 3}, "unknown key lora.ranks: did you mean rank"),
    ],
)
def test_what_is_wrong_is_named(
    starting_point: Path, tmp_path: Path, lora: dict[str, Any], message: str
) -> None:
    with pytest.raises(RelayError) as refusal:
        objective_for(lora_recipe(starting_point, tmp_path, lora=lora))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_network_that_knows_nothing_gets_no_adapter(starting_point: Path, tmp_path: Path) -> None:
    recipe = lora_recipe(starting_point, tmp_path, model={"unet": UNET})
    with pytest.raises(RelayError, match="lora is for a network that has been trained"):
        train_tiny(recipe)


def test_a_folder_that_is_no_cascade_is_named(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=r"model.cascade: .* is no cascade"):
        lora_recipe(tmp_path, tmp_path)


def test_other_objectives_take_no_adapter(starting_point: Path, tmp_path: Path) -> None:
    with pytest.raises(RelayError, match="unknown key lora"):
        lora_recipe(starting_point, tmp_path, "autoencoder")
