"""A network stored as its difference of low rank from another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from relay_diffusion.errors import RelayError
from relay_diffusion.models.low_rank import (
    LOW_RANK_FILE,
    differences,
    factors,
    is_difference,
    low_rank_difference,
    open_low_rank,
    open_unet,
    origin,
    pays,
    with_difference,
    write_low_rank,
)
from relay_diffusion.models.unet import build_unet, cogview3_unet_config

RANK = 2


def unet(seed: int, guidance_width: int | None = None) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return build_unet(
        cogview3_unet_config(
            widths=(32, 64),
            layers_per_level=1,
            transformer_depths=(None, 1),
            middle_depth=1,
            head_dim=16,
            context_width=16,
            vector_width=96,
            guidance_width=guidance_width,
        )
    )


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    unet(0).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def student() -> UNet2DConditionModel:
    """The teacher, with matrices of rank 2 on top and an embedding of the guidance scale."""
    return moved(unet(1, guidance_width=8), unet(0), seed=2)


def moved(made: UNet2DConditionModel, of: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """``made`` with the weights of another and matrices of rank 2 on top."""
    own = of.state_dict()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name in own:
                weight.copy_(own[name])
                if weight.ndim >= 2:
                    up = torch.randn(len(weight), RANK)
                    down = torch.randn(RANK, weight[0].numel())
                    weight += 0.01 * (up @ down).view_as(weight)
                else:
                    weight += 0.01 * torch.randn_like(weight)
    return made


@pytest.fixture
def stored(teacher: Path, student: UNet2DConditionModel, tmp_path: Path) -> Path:
    """The student as its difference from the teacher."""
    folder = tmp_path / "student"
    student.save_config(folder)
    assert write_low_rank(folder, student, teacher, RANK) > 1 - 1e-5  # half precision
    return folder


def test_factors_are_the_nearest_product() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    down, up = factors(weight, 3)
    assert down.shape == (3, 36) and up.shape == (6, 3)
    values = torch.linalg.svdvals(weight.flatten(1))
    error = (weight.flatten(1) - up @ down).norm()
    torch.testing.assert_close(error.double(), values[3:].norm(), rtol=1e-5, atol=0)


def test_vectors_and_small_matrices_are_kept_whole() -> None:
    assert not pays(torch.zeros(1000), 1)
    assert pays(torch.zeros(8, 8), 3) and not pays(torch.zeros(8, 8), 4)
    assert pays(torch.zeros(8, 4, 3, 3), 6)


def test_what_is_the_same_takes_no_space() -> None:
    own = unet(0).state_dict()
    assert not any(".lora_" in name for name in low_rank_difference(own, own, RANK))


def test_a_low_rank_difference_is_stored_as_good_as_whole(
    teacher: Path, student: UNet2DConditionModel, stored: Path
) -> None:
    opened = open_low_rank(stored, teacher, torch.float32)
    assert opened.config.time_cond_proj_dim == 8
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(opened.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    whole = sum(weight.numel() for weight in student.parameters()) * 2
    assert (stored / LOW_RANK_FILE).stat().st_size < whole / 2


def test_what_is_cut_off_is_told(
    teacher: Path, student: UNet2DConditionModel, stored: Path
) -> None:
    kept = write_low_rank(stored, student, teacher, 1)
    assert 0.4 < kept < 0.9  # one of two random directions, and the longer one
    with pytest.raises(RelayError, match="rank 0, must be at least 1"):
        write_low_rank(stored, student, teacher, 0)


def test_a_difference_from_another_network_is_refused(teacher: Path, stored: Path) -> None:
    unet(5).save_pretrained(teacher)
    with pytest.raises(
        RelayError, match=r"is the difference from a network .*: train from that one"
    ):
        open_low_rank(stored, teacher, torch.float32)


def test_a_damaged_difference_is_named(teacher: Path, stored: Path) -> None:
    (stored / LOW_RANK_FILE).write_bytes(b"nothing")
    with pytest.raises(RelayError, match=r"low_rank.safetensors is damaged"):
        open_low_rank(stored, teacher, torch.float32)


def test_a_difference_from_a_difference_is_opened_by_way_of_both(tmp_path: Path) -> None:
    """As a student of a relay stage that began as its base stage."""
    own, fast = tmp_path / "own", tmp_path / "fast"
    first = unet(0)
    second = moved(unet(1), first, seed=2)
    third = moved(unet(1), second, seed=3)
    first.save_pretrained(own / "base_unet")
    fast.mkdir()
    (own / "model_index.json").write_text("{}")
    (fast / "model_index.json").write_text('{"shares": "../own"}')
    for folder, network, of in ((own, second, "base_unet"), (fast, third, "relay_unet")):
        network.save_config(folder / "relay_unet")
        write_low_rank(folder / "relay_unet", network, own / of, RANK)
    assert differences(own) == {"relay_unet": own / "base_unet"}
    assert differences(fast) == {"relay_unet": own / "relay_unet"}
    assert open_unet(fast / "relay_unet", torch.bfloat16).dtype == torch.bfloat16
    opened = open_unet(fast / "relay_unet", torch.float32).state_dict()
    for name, weight in third.state_dict().items():
        torch.testing.assert_close(opened[name], weight, rtol=1e-3, atol=2e-4)
    # The student of another relay stage.
    write_low_rank(own / "relay_unet", third, own / "base_unet", RANK)
    with pytest.raises(RelayError, match="is the difference from a network"):
        open_unet(fast / "relay_unet", torch.float32)


def test_only_a_relay_stage_differs_from_its_own_base_stage(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(RelayError, match="does not say which cascade its base_unet differs from"):
        origin(tmp_path / "base_unet")


def test_a_network_that_was_saved_anew_is_whole(
    student: UNet2DConditionModel, stored: Path
) -> None:
    assert is_difference(stored)
    student.save_pretrained(stored)
    assert not is_difference(stored)


def test_what_does_not_fit_is_named(teacher: Path, stored: Path) -> None:
    config = stored / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "time_cond_proj_dim": 4}))
    with pytest.raises(RelayError, match=r"not fit the config.json .* time_embedding.cond_proj"):
        open_low_rank(stored, teacher, torch.float32)


def test_a_difference_is_added_in_float32() -> None:
    of = {"weight": torch.ones(4, 4, dtype=torch.float16)}
    added = {"weight.lora_A": torch.ones(1, 4), "weight.lora_B": torch.full((4, 1), 1e-4)}
    assert with_difference(of, added)["weight"][0, 0].item() == pytest.approx(1.0001, abs=1e-7)
