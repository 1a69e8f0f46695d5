"""Where memory is short, one network at a time is on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import big_modeling
from accelerate.hooks import CpuOffload
from torch import nn

from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import tiny_cascade

PARTS = ("text_encoder", "base_unet", "relay_unet", "vae")
IMAGE = torch.rand(1, 3, 32, 32)


@pytest.fixture
def offloaded() -> RelayPipeline:
    return tiny_cascade()


@pytest.fixture
def on_device(offloaded: RelayPipeline, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The parts that are on the device whenever one of them runs; offloading as accelerate does it,
    with a list in the place of a device."""
    there: list[nn.Module] = []
    seen: list[list[str]] = []

    class Pretended(CpuOffload):
        def init_hook(self, module: nn.Module) -> nn.Module:
            if module in there:
                there.remove(module)
            return module

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self.prev_module_hook is not None:
                self.prev_module_hook.offload()
            if module not in there:
                there.append(module)
            seen.append([part for part in PARTS if getattr(offloaded, part) in there])
            return args, kwargs

    monkeypatch.setattr(big_modeling, "CpuOffload", Pretended)
    offloaded.enable_model_cpu_offload(device="cpu")
    return seen


def changes(seen: list[list[str]]) -> list[list[str]]:
    """Without what is the same as before it."""
    return [now for now, before in zip(seen, [[], *seen], strict=False) if now != before]


def test_upscaling_has_one_network_on_the_device(
    offloaded: RelayPipeline, on_device: list[list[str]]
) -> None:
    offloaded.upscale(IMAGE, "a red fox", negative_prompt="blue", times=2, output_type="pt")
    once = [["vae"], ["relay_unet"]]
    assert changes(on_device) == [["text_encoder"], *once, *once, ["vae"]]


def test_a_call_has_one_network_on_the_device(
    offloaded: RelayPipeline, on_device: list[list[str]]
) -> None:
    offloaded("a red fox", height=128, width=128, output_type="pt")
    once = [["vae"], ["relay_unet"]]
    assert changes(on_device) == [["text_encoder"], ["base_unet"], *once, *once, ["vae"]]
    on_device.clear()
    offloaded("a red fox", image=IMAGE, output_type="pt")
    base = [["text_encoder"], ["vae"], ["base_unet"]]
    assert changes(on_device) == [*base, *once, ["vae"]]


def test_little_memory_offloads_to_the_accelerator_of_the_machine(
    offloaded: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(
        offloaded, "enable_model_cpu_offload", lambda device: asked.append(torch.device(device))
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    offloaded.enable_low_memory()
    assert offloaded.vae.use_tiling and not asked
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    offloaded.enable_low_memory()
    offloaded.enable_low_memory("cpu")
    offloaded.vae = None
    offloaded.enable_low_memory("cuda:1")
    assert asked == [torch.device("cuda"), torch.device("cuda:1")]


def test_low_memory_has_the_vae_in_tiles_and_one_picture_at_a_time() -> None:
    pipe = tiny_cascade()
    assert not (pipe.vae.use_tiling or pipe.vae.use_slicing)
    pipe.enable_low_memory("cpu")
    assert pipe.vae.use_tiling and pipe.vae.use_slicing


def test_the_page_on_memory_reads_prompts_first_and_opens_the_networks_after(
    cascade_folder: Path,
) -> None:
    page = Path(__file__).parents[2] / "docs" / "released-weights.md"
    section = page.read_text(encoding="utf-8").split("## Memory of pictures")[1]
    code = section.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("cogview3", str(cascade_folder)).replace("cuda", "cpu"), names)
    assert names["pipe"].text_encoder is None
    assert names["picture"].size == (64, 64)
