"""A stage may begin as another one of the cascade that a recipe starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import CPU, TEXT_ENCODER, UNET, Squares, tokenizer

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import LOW_RANK_NOTE
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.low_rank import pays
from relay_diffusion.training import distributed
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.estimate import estimate
from relay_diffusion.training.loop import train
from relay_diffusion.training.lora import LoraSettings
from relay_diffusion.training.low_rank import plain
from relay_diffusion.training.recipe import DenoisingRecipe, Recipe, recipe_from_dict
from relay_diffusion.training.run import summary


def recipe(cascade: Path, kind: str, **model: Any) -> Recipe:
    return recipe_from_dict(
        {
            "run": {"name": kind, "objective": kind, "steps": 2, "out": str(cascade / "runs")},
            "data": {"batch_size": 2, "views": [{"size": 32}]},
            "model": {"cascade": str(cascade)} | model,
            "validation": {"every": 0},
            "preview": {"every": 0},
        }
    )


def conditions(unet: Any) -> dict[str, Any]:
    text = torch.randn(2, 8, unet.config.cross_attention_dim)
    added = {"text_embeds": text.new_zeros(2, 0), "time_ids": torch.full((2, 6), 32.0)}
    return {"encoder_hidden_states": text, "added_cond_kwargs": added}


@pytest.mark.parametrize(("kind", "stage"), [("relay", "base"), ("base", "relay")])
def test_a_stage_begins_as_the_one_that_is_named(
    kind: str, stage: str, starting_point: Path
) -> None:
    read = recipe(starting_point, kind, stage=stage)
    assert read.model.unet == str(starting_point / f"{stage}_unet")
    own = recipe(starting_point, kind)
    assert own.model.unet == str(starting_point / f"{kind}_unet")


def test_a_stage_by_concatenation_begins_as_the_base_stage(starting_point: Path) -> None:
    base = networks_of(recipe(starting_point, "base"), tokenizer()).unet
    both = recipe(starting_point, "concat", stage="base")
    networks = networks_of(both, tokenizer())
    wide = networks.unet
    assert wide.config.in_channels == 2 * base.config.in_channels
    z, beside, t = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4), torch.tensor([10, 900])
    given = conditions(base)
    with torch.no_grad():
        narrow = base(z, t, **given).sample
        torch.testing.assert_close(wide(torch.cat([z, beside], 1), t, **given).sample, narrow)
    # What it begins with may not stay: the low resolution is to be read.
    objective = objective_of(both, networks, Squares, CPU)
    assert train(both, objective, CPU)
    assert wide.conv_in.weight[:, 4:].abs().max() > 0


@pytest.mark.parametrize(
    ("model", "lora", "message"),
    [
        ({"cascade": "", "stage": "base"}, None, "of no cascade: name one in model.cascade"),
        ({"stage": "upper"}, None, "model.stage is 'upper'"),
        ({"stage": "base"}, {"rank": 2}, "an adapter is of the stage that the objective trains"),
        ({"stage": "base", "unet": UNET}, None, "model.unet says otherwise"),
        ({"stage": "base", "init_from": {"unet": "x"}}, None, "model.init_from.unet says otherwi"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(
    model: dict[str, str], lora: dict[str, int] | None, message: str, starting_point: Path
) -> None:
    tables: dict[str, Any] = {
        "run": {"name": "r", "objective": "relay", "steps": 1},
        "model": {"cascade": str(starting_point)} | model,
    }
    with pytest.raises(RelayError, match=message):
        recipe_from_dict(tables | ({"lora": lora} if lora else {}))


def test_a_stage_of_low_rank_learns_a_difference_of_that_rank(starting_point: Path) -> None:
    read = recipe(starting_point, "relay", stage="base", rank=2)
    networks = networks_of(read, tokenizer())
    before = {name: weight.clone() for name, weight in plain(networks.unet.state_dict()).items()}
    base = networks_of(recipe(starting_point, "base"), tokenizer()).unet.state_dict()
    assert all(torch.equal(before[name], weight) for name, weight in base.items())
    assert train(read, objective_of(read, networks, Squares, CPU), CPU)
    ranks = set()
    for name, weight in plain(networks.unet.state_dict()).items():
        if pays(weight, 2):
            difference = (weight - before[name]).double().flatten(1)
            ranks.add(int(torch.linalg.matrix_rank(difference, rtol=0.01)))
    assert max(ranks) == 2
    exported = load_file(read.folder / "export/relay_unet/diffusion_pytorch_model.safetensors")
    assert exported.keys() == base.keys()
    note = json.loads((read.folder / "export" / LOW_RANK_NOTE).read_text())
    assert note == {"rank": 2, "of": network_hash(starting_point / "base_unet")}


def test_low_rank_is_counted_with_the_weights_and_not_with_each_sample(
    starting_point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several processes count before they build, and cannot send each other what has no weights.
    monkeypatch.setattr(distributed, "of_main", lambda x: pytest.fail("sent"))
    needs = []
    for rank in (0, 2):
        read = recipe(starting_point, "relay", stage="base", rank=rank)
        with torch.device("meta"):
            networks = networks_of(read, tokenizer())
        num = sum(p.numel() for p in networks.unet.parameters() if p.ndim >= 2)
        assert isinstance(read, DenoisingRecipe)
        needs.append(estimate(read, networks))
    whole, low = needs
    assert low.activations == pytest.approx(whole.activations, rel=0.02)
    assert low.weights.learning < whole.weights.learning / 2
    assert low.weights.fixed_bytes - whole.weights.fixed_bytes == pytest.approx(4 * num, rel=0.4)
    assert "of them learn" in summary(recipe(starting_point, "relay", stage="base", rank=2))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"rank": 2, "unet": UNET}}, "model.rank is for a network that has been trained"),
        ({"model": {"rank": 2}, "lora": {"rank": 2}}, "lora has a rank of its own"),
        ({"model": {"rank": -1}}, "rank is -1, must be at least 0"),
        ({"run": {"objective": "text"}, "model": {"rank": 2}}, "and text trains no UNet by it"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(
    tables: dict[str, Any], message: str, starting_point: Path
) -> None:
    with pytest.raises(RelayError, match=message):
        networks_of(
            recipe_from_dict(
                {
                    **tables,
                    "run": {"name": "r", "objective": "relay", "steps": 1} | tables.get("run", {}),
                    "model": {"cascade": str(starting_point)} | tables["model"],
                }
            ),
            tokenizer(),
        )


def test_only_what_is_trained_as_a_stage_begins_as_one(starting_point: Path) -> None:
    with pytest.raises(RelayError, match="text trains no stage of a cascade"):
        recipe(starting_point, "text", stage="base")


def test_an_adapter_does_not_widen_its_network(starting_point: Path) -> None:
    """It would never learn to read the low resolution: the kernels for it would stay zero."""
    with_adapter = replace(recipe(starting_point, "concat"), lora=LoraSettings(rank=2))
    with pytest.raises(RelayError, match="must be 8, 4 and 16: they do not belong together"):
        networks_of(with_adapter, tokenizer())


def test_networks_that_do_not_belong_together_are_refused(starting_point: Path) -> None:
    other = recipe(starting_point, "base", text_encoder={**TEXT_ENCODER, "d_model": 24})
    with pytest.raises(RelayError, match=r"takes text of width 16; .* must be 4, 4 and 24"):
        networks_of(other, tokenizer())


def test_a_text_encoder_with_tensors_missing_is_refused(
    starting_point: Path, tmp_path: Path
) -> None:
    """transformers would fill them with random numbers."""
    own = tmp_path / "text_encoder"
    shutil.copytree(starting_point / "text_encoder", own)
    file = own / "model.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if key.endswith("wi.weight"))
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    with pytest.raises(RelayError, match=f"model.text_encoder: .* missing: {name}"):
        networks_of(recipe(starting_point, "base", text_encoder=str(own)), tokenizer())
