"""Adapters in a cascade can be weighed, switched, made part of the weights, and taken out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from relay_diffusion.errors import RelayError

from .test_lora import adapted_layers, add_adapters
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


def test_a_cascade_is_not_saved_with_adapters_in_it(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2, "relay_unet")
    with pytest.raises(RelayError, match=r"relay_unet has adapters.*unload_lora_weights\(\) only"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
