"""Adapters change what they were trained to change, by as much as is asked for, or nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.models.lora import LORA_FILE, read_adapter
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import generators, tiny_cascade

TARGETS = ["to_q", "to_out.0", "ff.net.2", "conv1", "conv_shortcut"]
UNETS = ("base_unet", "relay_unet")


def stages(pipe: RelayPipeline, steps: int = 1) -> list[Tensor]:
    settings = {"num_inference_steps": steps, "num_relay_steps": 1, "output_type": "pt"}
    return pipe("a red fox", generator=generators(0), **settings).stages


def picture(pipe: RelayPipeline, steps: int = 1) -> Tensor:
    return stages(pipe, steps)[-1]


def add_adapters(pipe: RelayPipeline, dora: bool, size: float, *parts: str) -> None:
    """Fresh adapters as peft makes them, moved by normal noise of ``size``."""
    draw = torch.Generator().manual_seed(5)
    for part in parts or UNETS:
        unet = getattr(pipe, part)
        unet.add_adapter(LoraConfig(r=2, lora_alpha=3, use_dora=dora, target_modules=TARGETS))
        for name, parameter in unet.named_parameters():
            if ".lora_" in name:
                parameter.data += size * torch.randn(parameter.shape, generator=draw)


def weights(pipe: RelayPipeline) -> dict[str, Tensor]:
    """Of each adapted layer, as they act."""
    found = {}
    for part in UNETS:
        for name, layer in getattr(pipe, part).named_modules():
            if isinstance(layer, LoraLayer):
                layer.merge(safe_merge=True)
                found[f"{part}.{name}"] = layer.get_base_layer().weight.detach().clone()
    return found


def adapted_layers(pipe: RelayPipeline) -> list[LoraLayer]:
    modules = [module for part in UNETS for module in getattr(pipe, part).modules()]
    return [module for module in modules if isinstance(module, LoraLayer)]


@pytest.fixture(params=[False, True], ids=["lora", "dora"], scope="module")
def dora(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def saved(dora: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with adapters of both UNets; tests do not change it."""
    folder = tmp_path_factory.mktemp("saved")
    pipe = tiny_cascade()
    add_adapters(pipe, dora, 0.2)
    pipe.save_lora_adapter(folder)
    return folder


@pytest.fixture(scope="module")
def tensors(saved: Path) -> dict[str, Tensor]:
    return load_file(saved / LORA_FILE)


def loaded(folder: Path, *scales: float) -> RelayPipeline:
    pipe = tiny_cascade()
    for index, scale in enumerate(scales):
        pipe.load_lora_adapter(folder, scale, f"adapter_{index}")
    return pipe


def test_a_fresh_adapter_changes_no_bit(dora: bool) -> None:
    pipe = tiny_cascade()
    before = picture(pipe)
    add_adapters(pipe, dora, 0.0)
    assert torch.equal(picture(pipe), before)


def test_an_adapter_is_the_same_after_the_file(dora: bool, tmp_path: Path) -> None:
    pipe = tiny_cascade()
    before = picture(pipe)
    add_adapters(pipe, dora, 0.2)
    made = picture(pipe)
    assert (made - before).abs().max() > 0.01
    pipe.save_lora_adapter(tmp_path)
    assert torch.equal(picture(loaded(tmp_path, 1.0)), made)
    with safe_open(tmp_path / LORA_FILE, framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == set(UNETS)  # noqa: SIM118
        config = json.loads(file.metadata()["lora_adapter_metadata"])
    assert config["relay_unet.use_dora"] is dora
    assert (config["base_unet.r"], config["base_unet.lora_alpha"]) == (2, 3)


def test_plain_diffusers_opens_the_file(saved: Path) -> None:
    pipe = tiny_cascade()
    for part in UNETS:
        getattr(pipe, part).load_lora_adapter(saved, prefix=part, weight_name=LORA_FILE)
    assert torch.equal(picture(pipe), picture(loaded(saved, 1.0)))


def test_scale_0_changes_no_bit(saved: Path) -> None:
    assert torch.equal(picture(loaded(saved, 0.0)), picture(tiny_cascade()))


def test_weights_are_linear_in_the_scale(saved: Path) -> None:
    full = weights(loaded(saved, 1.0))
    plain = tiny_cascade()
    assert len(full) > 20
    for scale in (-0.5, 1.6):
        for name, weight in weights(loaded(saved, scale)).items():
            part, _, layer = name.partition(".")
            before = getattr(plain, part).get_submodule(layer).weight
            wanted = before + scale * (full[name] - before)
            torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=1e-5)


def test_a_network_in_pieces_takes_the_scale(
    saved: Path, dora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny_cascade()
    in_pieces = partial(pipe.enable_sequential_cpu_offload, device="cpu")
    monkeypatch.setattr(pipe, "enable_sequential_cpu_offload", in_pieces)  # diffusers calls it too
    in_pieces()
    if dora:
        with pytest.raises(RelayError, match="a DoRA, needs the weights of a network"):
            pipe.load_lora_adapter(saved, 0.5)
    else:
        pipe.load_lora_adapter(saved, 0.5)
        assert all(parameter.is_meta for parameter in pipe.relay_unet.parameters())
        pipe.remove_all_hooks()  # brings the weights back: on a CPU nothing runs in pieces
        ours, theirs = weights(pipe), weights(loaded(saved, 0.5))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_several_add_up(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2)
    pipe.save_lora_adapter(tmp_path)
    twice = picture(loaded(tmp_path, 0.3, 0.7))
    torch.testing.assert_close(twice, picture(pipe), rtol=0, atol=1e-4)


def test_an_adapter_of_one_stage_leaves_the_other(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2, "relay_unet")
    pipe.save_lora_adapter(tmp_path / "relay")
    made, plain = stages(loaded(tmp_path / "relay", 1.0)), stages(tiny_cascade())
    assert torch.equal(made[0], plain[0]) and not torch.equal(made[1], plain[1])

    # The base's, from a file of its own, under the same name: then both go into one.
    other = tiny_cascade()
    add_adapters(other, False, 0.2, "base_unet")
    other.save_lora_adapter(tmp_path / "base")
    both = tiny_cascade()
    both.load_lora_adapter(tmp_path / "relay")
    both.load_lora_adapter(tmp_path / "base")
    both.save_lora_adapter(tmp_path / "both")
    assert read_adapter(tmp_path / "both").tensors.keys() == set(UNETS)
    assert torch.equal(picture(both), picture(loaded(tmp_path / "both", 1.0)))


def test_what_is_saved_has_its_scale_in_it(saved: Path, tmp_path: Path) -> None:
    half = loaded(saved, 0.5)
    half.save_lora_adapter(tmp_path / "half", "adapter_0")
    assert torch.equal(picture(loaded(tmp_path / "half", 1.0)), picture(half))


def test_distilled_networks_and_half_precision_take_adapters(
    distilled: RelayPipeline, saved: Path
) -> None:
    distilled.to(dtype=torch.bfloat16)
    distilled.vae.float()
    before = picture(distilled, 4)
    distilled.load_lora_adapter(saved)
    after = picture(distilled, 4)
    assert after.isfinite().all() and not torch.equal(before, after)


def test_a_part_that_was_not_opened_is_passed_over(saved: Path) -> None:
    pipe = tiny_cascade()
    pipe.base_unet = None
    pipe.load_lora_adapter(saved)
    assert "default" in pipe.relay_unet.peft_config
    pipe.relay_unet = None
    with pytest.raises(RelayError, match="is for base_unet and relay_unet, which this cascade"):
        pipe.load_lora_adapter(saved, 1.0, "other")


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
QUERY = "base_unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
RELAY_QUERY = QUERY.replace("base_unet", "relay_unet")


def without(key: str) -> Change:
    return lambda held: {name: value for name, value in held.items() if name != key}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda held: {"unet.to_q.lora_A.weight": torch.ones(2, 2)}, "unet.to_q.lora_A.weight is"),
        (lambda held: {**held, "text_encoder.x": torch.ones(1)}, "text_encoder.x is for neither"),
        (lambda held: {}, "it holds nothing"),
        (
            lambda held: {**held, f"{QUERY}.lora_A.weight": torch.ones(2, 99)},
            r"to_q.lora_A 2x99 where 2x16 is wanted",
        ),
        (
            lambda held: {**held, f"{QUERY}.lora_B.weight": torch.ones(16, 3)},
            r"to_q.lora_B 16x3 where 16x2 is wanted",
        ),
        (
            lambda held: {key.replace("mid_block", "middle"): held[key] for key in held},
            "which has no middle.attentions",
        ),
        (without(f"{QUERY}.lora_B.weight"), "to_q has A"),
        (lambda held: {**held, "base_unet.conv_in.weight": torch.ones(1)}, "no conv_in.weight"),
        (
            lambda held: {**held, f"{RELAY_QUERY}.lora_A.weight": torch.ones(2, 99)},
            r"the relay_unet of this cascade; misfit: .*to_q.lora_A 2x99",
        ),
    ],
)
@pytest.mark.parametrize("dora", [False], indirect=True)
def test_an_adapter_that_does_not_fit_is_named_and_left_out(
    cascade: RelayPipeline,
    tensors: dict[str, Tensor],
    tmp_path: Path,
    change: Change,
    complaint: str,
) -> None:
    save_file(change(tensors), tmp_path / LORA_FILE)
    with pytest.raises(RelayError, match=complaint) as refusal:
        cascade.load_lora_adapter(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not adapted_layers(cascade)


def test_the_cascade_that_it_was_trained_on_is_named(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2)
    pipe.config["_name_or_path"] = "/somewhere/starter"
    pipe.save_lora_adapter(tmp_path)
    other = tiny_cascade({"block_out_channels": (8, 24)})
    with pytest.raises(RelayError, match="which was trained on starter, does not fit the base_"):
        other.load_lora_adapter(tmp_path)


def test_files_that_are_none_are_one_line(tmp_path: Path, cascade: RelayPipeline) -> None:
    with pytest.raises(RelayError, match="there is no adapter"):
        cascade.load_lora_adapter(tmp_path)
    (tmp_path / LORA_FILE).write_bytes(b"damaged" * 99)
    with pytest.raises(RelayError, match="is damaged or no safetensors file"):
        cascade.load_lora_adapter(tmp_path)
    with pytest.raises(RelayError, match="neither UNet has an adapter named 'default'"):
        cascade.save_lora_adapter(tmp_path)


def test_names_and_scales_that_cannot_be(saved: Path) -> None:
    pipe = loaded(saved, 1.0)
    with pytest.raises(RelayError, match="an adapter named 'adapter_0' already"):
        pipe.load_lora_adapter(saved, 1.0, "adapter_0")
    with pytest.raises(RelayError, match="scale of an adapter is inf"):
        pipe.load_lora_adapter(saved, float("inf"), "other")


def test_without_peft_it_says_what_to_install(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_cascade()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RelayError, match=r"need peft: pip install 'relay-diffusion\[train\]'"):
        pipe.load_lora_adapter(saved)
