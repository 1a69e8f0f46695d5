"""Checkpoints that are damaged, dangerous or of something else: one line that names what."""

from __future__ import annotations

import logging
import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from released import (
    BASE,
    CASCADE,
    DISTILLED,
    HEAD_DIM,
    Shape,
    random_unet,
    read_released,
    released_unet,
    write_released,
)
from safetensors.torch import load_file, save_file

from relay_diffusion.errors import RelayError
from relay_diffusion.models import unet_from_official, vae_from_official
from relay_diffusion.models.official_text import text_encoder_from_folder

PREFIX = "model.diffusion_model."


def message(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(RelayError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(tensors: dict[str, Any], folder: Path, head_dim: int = HEAD_DIM) -> str:
    return message(unet_from_official, write_released(tensors, folder), head_dim)


@pytest.fixture(scope="module")
def distilled() -> dict[str, torch.Tensor]:
    return read_released(DISTILLED)


@pytest.mark.parametrize(
    "name",
    [
        "time_embed.0.weight",
        "label_emb.0.0.weight",
        "input_blocks.0.0.weight",
        "input_blocks.4.0.in_layers.2.weight",
        "input_blocks.4.1.norm.weight",
        "input_blocks.7.1.transformer_blocks.0.attn2.to_k.weight",
        "middle_block.1.proj_in.weight",
        "middle_block.2.out_layers.3.bias",
        "output_blocks.5.2.conv.weight",
        "out.2.weight",
    ],
)
def test_a_missing_tensor_is_named(name: str, distilled: dict[str, Any], tmp_path: Path) -> None:
    rest = {key: tensor for key, tensor in distilled.items() if key != PREFIX + name}
    assert PREFIX + name in refusal(rest, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "spare.weight",
        "input_blocks.4.2.weight",
        "middle_block.3.in_layers.0.weight",
        "output_blocks.9.0.in_layers.0.weight",
        "label_emb.0.4.weight",
    ],
)
def test_an_extra_tensor_is_named(name: str, distilled: dict[str, Any], tmp_path: Path) -> None:
    tensors = {**distilled, PREFIX + name: torch.zeros(32)}
    assert f"left over: {PREFIX}{name}" in refusal(tensors, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "time_embed.0.weight",
        "input_blocks.4.0.in_layers.2.weight",
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        "input_blocks.7.0.emb_layers.1.bias",
        "middle_block.1.proj_out.weight",
        "output_blocks.8.0.skip_connection.weight",
        "out.0.bias",
    ],
)
def test_a_misshapen_tensor_is_named(name: str, distilled: dict[str, Any], tmp_path: Path) -> None:
    tensor = distilled[PREFIX + name]
    wrong = torch.cat([tensor, tensor[:2]])
    assert f"misfit: {PREFIX}{name} " in refusal({**distilled, PREFIX + name: wrong}, tmp_path)


def test_channels_that_do_not_go_in_and_out_alike_are_named(
    distilled: dict[str, Any], tmp_path: Path
) -> None:
    name = PREFIX + "input_blocks.0.0.weight"
    wrong = {**distilled, name: torch.zeros(32, 8, 3, 3, dtype=torch.half)}
    assert "input_blocks.0.0.weight" in refusal(wrong, tmp_path)


@pytest.mark.parametrize("value", [torch.zeros(32, dtype=torch.int64), "no tensor", None, 3.0])
def test_what_is_no_weight_is_named(value: Any, distilled: dict[str, Any], tmp_path: Path) -> None:
    for name in ("out.0.bias", "input_blocks.4.0.in_layers.2.weight"):
        assert PREFIX + name in refusal({**distilled, PREFIX + name: value}, tmp_path)


def test_many_problems_stay_one_short_line(distilled: dict[str, Any], tmp_path: Path) -> None:
    kept = {name: t for name, t in distilled.items() if "transformer_blocks.0.ff" not in name}
    assert len(refusal({**kept, PREFIX + "x.y": torch.zeros(1)}, tmp_path)) < 1000


def test_other_prefixes_are_listed_and_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = released_unet(random_unet(Shape((32,), (1,), (1,), 1)))
    others = {
        "first_stage_model.encoder.conv_in.weight": torch.zeros(1),
        "first_stage_model.decoder.conv_in.weight": torch.zeros(1),
        "model_ema.decay": torch.zeros(1),
        "model.sigmas": torch.zeros(4),
    }
    with caplog.at_level(logging.WARNING):
        unet_from_official(write_released({**tensors, **others}, tmp_path), HEAD_DIM)
    assert "first_stage_model (2), model_ema (1), model.sigmas (1)" in caplog.text


def test_a_checkpoint_of_something_else_says_what_it_has(tmp_path: Path) -> None:
    said = refusal({"first_stage_model.encoder.weight": torch.zeros(1)}, tmp_path)
    assert PREFIX in said and "first_stage_model (1)" in said


class Attack:
    """Would run a command if it were unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("where", ["module", "beside"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_named_and_not_run(
    where: str, zipped: bool, tmp_path: Path
) -> None:
    marker, file = tmp_path / "ran", tmp_path / "mp_rank_00_model_states.pt"
    module: dict[str, Any] = {PREFIX + "out.0.bias": torch.zeros(3)}
    content: dict[str, Any] = {"module": module}
    (module if where == "module" else content)["attack"] = Attack(marker)
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert f"{os.mkdir.__module__}.mkdir" in message(unet_from_official, tmp_path)
    assert not marker.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "unet.pt"
    file.write_bytes(pickle.dumps({"module": Attack(marker)}, protocol=2))
    message(unet_from_official, file)
    assert not marker.exists()


def test_a_harmless_object_is_refused_and_named_too(tmp_path: Path) -> None:
    file = tmp_path / "unet.pt"
    torch.save({"module": {}, "args": Namespace(lr=1)}, file)
    assert "argparse.Namespace" in message(unet_from_official, file)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_named(kept: float, tmp_path: Path) -> None:
    for opened, source in (
        (unet_from_official, DISTILLED / "mp_rank_00_model_states.pt"),
        (vae_from_official, CASCADE / "vae.safetensors"),
    ):
        content = source.read_bytes()
        file = tmp_path / source.name
        file.write_bytes(content[: int(len(content) * kept)])
        assert str(file) in message(opened, file)


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "nowhere" in message(unet_from_official, tmp_path / "nowhere")
    said = message(unet_from_official, tmp_path)
    assert "mp_rank_00_model_states.pt" in said and "latest" in said
    (tmp_path / "latest").write_text("7")
    expected = str(Path("7") / "mp_rank_00_model_states.pt")
    assert expected in message(unet_from_official, tmp_path)
    write_released({}, tmp_path / "7")
    (tmp_path / "7" / "mp_rank_01_model_states.pt").touch()
    assert "several ranks" in message(unet_from_official, tmp_path)
    assert "vae.safetensors" in message(vae_from_official, tmp_path / "vae.safetensors")


def test_head_dim_that_cannot_be_is_named() -> None:
    assert "head_dim 64" in message(unet_from_official, BASE)


def test_middle_that_diffusers_cannot_have_is_named(tmp_path: Path) -> None:
    tensors = released_unet(random_unet(Shape((32,), (1,), (2,), 2)))
    one = {k: t for k, t in tensors.items() if "middle_block.1.transformer_blocks.1" not in k}
    assert "middle" in refusal(one, tmp_path)


@pytest.mark.parametrize("change", ["missing", "extra", "misshapen"])
def test_vae_tensors_that_do_not_fit_are_named(change: str, tmp_path: Path) -> None:
    tensors = load_file(CASCADE / "vae.safetensors")
    name = "decoder.up.1.block.0.conv1.weight"
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        name = "decoder.up.1.attn.0.q.weight"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = tensors[name][:, :5].contiguous()
    save_file(tensors, tmp_path / "vae.safetensors")
    assert name in message(vae_from_official, tmp_path / "vae.safetensors")


@pytest.mark.parametrize("change", ["missing", "extra", "misshapen"])
def test_t5_tensors_that_do_not_fit_are_named(change: str, tmp_path: Path) -> None:
    source = CASCADE / "text_encoder"
    tensors = load_file(source / "model.safetensors")
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        name = "encoder.block.2.layer.0.layer_norm.weight"
        tensors[name] = torch.zeros(48)
    else:
        tensors[name] = tensors[name][:5].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    assert "config.json" in message(text_encoder_from_folder, tmp_path)
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    assert name in message(text_encoder_from_folder, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "model.safetensors" in message(text_encoder_from_folder, tmp_path)
