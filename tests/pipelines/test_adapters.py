"""Adapters in a cascade can be weighed, switched, made part of the weights, and taken out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from relay_diffusion.errors import RelayError
from relay_diffusion.models.attaching import check_adapter
from relay_diffusion.models.lora import LORA_FILE, read_adapter
from relay_diffusion.pipelines.cascade import RelayPipeline

from .test_lora import adapted_layers, add_adapters, picture
from .tiny import tiny_cascade


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LoRAs of both UNets; tests do not change it."""
    folder = tmp_path_factory.mktemp("saved")
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2)
    pipe.save_lora_adapter(folder)
    return folder


def test_an_adapter_that_one_network_refuses_is_in_neither(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny_cascade()
    pipe.relay_unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), "mine")
    with pytest.raises(RelayError, match="relay_unet has an adapter named 'mine' already"):
        pipe.load_lora_adapter(saved, adapter_name="mine")
    assert not hasattr(pipe.base_unet, "peft_config")

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("not today")

    monkeypatch.setattr(pipe.relay_unet, "load_lora_adapter", refuse)
    with pytest.raises(RelayError, match="cannot be put into relay_unet: not today"):
        pipe.load_lora_adapter(saved, adapter_name="other")
    assert not hasattr(pipe.base_unet, "peft_config")
    assert {name for layer in adapted_layers(pipe) for name in layer.lora_A} == {"mine"}


def two(saved: Path) -> RelayPipeline:
    """A cascade with the same adapter twice, at 1 and at a half."""
    pipe = tiny_cascade()
    pipe.load_lora_adapter(saved, 1.0, "one")
    pipe.load_lora_adapter(saved, 0.5, "two")
    return pipe


def alone(saved: Path, scale: float) -> Tensor:
    pipe = tiny_cascade()
    pipe.load_lora_adapter(saved, scale)
    return picture(pipe)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=0, atol=1e-4)


def test_adapters_are_weighed_and_switched(saved: Path) -> None:
    pipe = two(saved)
    assert pipe.get_active_adapters() == ["one", "two"]
    pipe.set_adapters(["one", "two"], [0.25, 0.5])
    assert close(picture(pipe), alone(saved, 0.5))
    pipe.set_adapters("two", 3.0)
    assert pipe.get_active_adapters() == ["two"]
    assert close(picture(pipe), alone(saved, 1.5))
    pipe.set_adapters([])
    assert close(picture(pipe), picture(tiny_cascade()))


def test_loading_one_leaves_the_others_as_they_are(saved: Path) -> None:
    pipe = two(saved)
    pipe.set_adapters("one", 0.25)
    pipe.load_lora_adapter(saved, 0.5, "third")
    assert pipe.get_active_adapters() == ["one", "third"]
    assert close(picture(pipe), alone(saved, 0.75))


def test_an_adapter_is_saved_with_its_weight(saved: Path, tmp_path: Path) -> None:
    pipe = two(saved)
    pipe.set_adapters("two", 0.5)
    pipe.save_lora_adapter(tmp_path, "two")
    assert close(alone(tmp_path, 1.0), alone(saved, 0.25))
    assert close(picture(pipe), alone(saved, 0.25))


def test_adapters_are_taken_out(saved: Path, tmp_path: Path) -> None:
    before = picture(tiny_cascade())
    pipe = two(saved)
    pipe.delete_adapters("one")
    assert pipe.get_active_adapters() == ["two"]
    assert close(picture(pipe), alone(saved, 0.5))
    pipe.delete_adapters("two")
    assert not adapted_layers(pipe) and torch.equal(picture(pipe), before)
    pipe.load_lora_adapter(saved)
    pipe.unload_lora_weights()
    assert not adapted_layers(pipe) and torch.equal(picture(pipe), before)
    pipe.save_pretrained(tmp_path)


def test_adapters_become_part_of_the_weights(saved: Path, tmp_path: Path) -> None:
    pipe = two(saved)
    pipe.set_adapters("two")
    pipe.fuse_lora()
    assert close(picture(pipe), alone(saved, 0.5))
    for change in (pipe.set_adapters, pipe.delete_adapters):
        with pytest.raises(RelayError, match=r"into the base_unet: call unfuse_lora\(\) first"):
            change("one")
    with pytest.raises(RelayError, match="fused into the base_unet"):
        pipe.load_lora_adapter(saved)
    pipe.unfuse_lora()
    pipe.set_adapters([])
    assert close(picture(pipe), picture(tiny_cascade()))
    pipe.set_adapters("two")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path)
    opened = RelayPipeline.from_pretrained(tmp_path, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    assert close(picture(opened), alone(saved, 0.5))


def test_a_weight_that_is_left_out_is_1(saved: Path) -> None:
    pipe = two(saved)
    pipe.set_adapters(["one", "two"], [None, 3.0])
    assert close(picture(pipe), alone(saved, 2.5))


def test_adapters_are_fused_at_a_scale(saved: Path) -> None:
    pipe = two(saved)
    pipe.fuse_lora(lora_scale=0.5)
    assert close(picture(pipe), alone(saved, 0.75))
    for change in (pipe.fuse_lora, pipe.disable_lora):
        with pytest.raises(RelayError, match=r"into the base_unet: call unfuse_lora\(\) first"):
            change()
    pipe.unfuse_lora()
    assert close(picture(pipe), alone(saved, 1.5))


def test_adapters_are_listed_and_disabled(saved: Path) -> None:
    before = picture(tiny_cascade())
    pipe = two(saved)
    pipe.set_adapters("two")
    names = ["one", "two"]
    assert pipe.get_list_adapters() == {"base_unet": names, "relay_unet": names}
    pipe.disable_lora()
    assert torch.equal(picture(pipe), before)
    pipe.enable_lora()
    assert close(picture(pipe), alone(saved, 0.5))
    pipe.disable_lora()
    pipe.set_adapters("one")
    assert close(picture(pipe), alone(saved, 1.0))
    pipe.disable_lora()
    pipe.load_lora_adapter(saved, 0.5, "third")
    assert close(picture(pipe), alone(saved, 1.5))
    pipe.disable_lora()
    pipe.fuse_lora()
    assert close(picture(pipe), alone(saved, 1.5))
    assert tiny_cascade().get_list_adapters() == {}


def test_one_of_a_single_stage_lets_those_of_both_act_again(saved: Path, tmp_path: Path) -> None:
    of_base = tiny_cascade()
    of_base.load_lora_adapter(saved)
    of_base.relay_unet.unload_lora()
    of_base.save_lora_adapter(tmp_path)
    pipe = tiny_cascade()
    pipe.load_lora_adapter(saved, adapter_name="both")
    pipe.disable_lora()
    pipe.load_lora_adapter(tmp_path, adapter_name="base")
    assert not any(layer.disable_adapters for layer in adapted_layers(pipe))


def test_adapters_are_loaded_by_the_name_of_diffusers(saved: Path) -> None:
    pipe = tiny_cascade()
    pipe.load_lora_weights(saved, adapter_name="one")
    pipe.load_lora_weights(saved.parent, "two", weight_name=f"{saved.name}/{LORA_FILE}")
    assert pipe.get_active_adapters() == ["one", "two"]
    assert close(picture(pipe), alone(saved, 2.0))
    with pytest.raises(RelayError, match="an adapter of type dict; give its folder, or its file"):
        pipe.load_lora_weights({})  # type: ignore[arg-type]


def test_what_no_adapter_can_be_given_is_one_line(saved: Path) -> None:
    pipe = two(saved)
    with pytest.raises(RelayError, match="named 'three'; there are one, two"):
        pipe.set_adapters(["one", "three"])
    with pytest.raises(RelayError, match="named 'three'"):
        pipe.delete_adapters("three")
    for weights in ([1.0, 2.0], float("nan"), [{"unet": 1.0}], {"unet": 1.0}, "half"):
        with pytest.raises(RelayError, match="for 1 adapters; give a number, or one each"):
            pipe.set_adapters("one", weights)
    with pytest.raises(RelayError, match=r"be put into base_unet: .*'half' already exists"):
        pipe.load_lora_adapter(saved, adapter_name="half")  # which layers have a method of
    assert close(picture(pipe), alone(saved, 1.5))
    pipe.unload_lora_weights()
    with pytest.raises(RelayError, match="named 'one'; there is none"):
        pipe.set_adapters("one")
    pipe.relay_unet.add_adapter(LoraConfig(use_dora=True, target_modules=["to_q"]), "dora")
    with pytest.raises(RelayError, match="'dora' is a DoRA, which is weighed when it is loaded"):
        pipe.set_adapters("dora", 0.5)
    pipe.set_adapters("dora")
    with pytest.raises(RelayError, match="'dora' is a DoRA"):
        pipe.fuse_lora(lora_scale=0.5)
    for scale in (0, float("inf"), "half"):
        with pytest.raises(RelayError, match=f"lora_scale {scale}; give a number such as 0.7"):
            pipe.fuse_lora(lora_scale=scale)  # type: ignore[arg-type]


def test_an_adapter_names_the_cascade_of_the_hub(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2, "relay_unet")
    for folder, name in (
        ("hub/models--owner--my-name/snapshots/0123abcd", "owner/my-name"),
        ("hub/models--mine/0123abcd", "0123abcd"),
    ):
        pipe.config["_name_or_path"] = folder
        pipe.save_lora_adapter(tmp_path)
        assert read_adapter(tmp_path).cascade == name


class Packed(nn.Linear):
    """Two weights of four bits in a byte, as bitsandbytes has them."""

    def __init__(self, of: nn.Linear) -> None:
        super().__init__(of.in_features, of.out_features, bias=False)
        packed = torch.zeros(of.weight.numel() // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)


def test_a_network_of_four_bits_takes_adapters(saved: Path) -> None:
    unet = tiny_cascade().relay_unet
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)]
    for name in layers:
        unet.set_submodule(name, Packed(unet.get_submodule(name)))
    check_adapter(unet, "relay_unet", read_adapter(saved), "default")
    wider = tiny_cascade({"block_out_channels": (8, 24)}).relay_unet
    with pytest.raises(RelayError, match=r"lora_A 2x16 where 2x24 is wanted"):
        check_adapter(wider, "relay_unet", read_adapter(saved), "default")


def test_a_cascade_is_not_saved_with_adapters_in_it(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2, "relay_unet")
    with pytest.raises(RelayError, match=r"relay_unet has adapters.*unload_lora_weights\(\) only"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
