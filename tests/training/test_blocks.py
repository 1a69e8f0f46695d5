"""Networks are compiled block by block, and train as they do uncompiled."""

from __future__ import annotations

import json
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from tiny_training import CPU, UNET, pass_of, tiny_objective, tiny_recipe
from torch import nn
from torch._dynamo.utils import counters

from relay_diffusion.errors import RelayError
from relay_diffusion.training.blocks import blocks_of, compile_blocks
from relay_diffusion.training.loop import train
from relay_diffusion.training.low_rank import constrain
from relay_diffusion.training.networks import build_unet


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_alike_blocks_are_compiled_once(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    unet: Any = build_unet({**UNET, "transformer_layers_per_block": 3}, 4, 16)
    if rank:
        constrain(unet, unet.state_dict(), rank)
    compile_blocks({"unet": unet})
    for _ in range(2):
        pass_of(unet)
    kinds = {tuple((name, p.shape) for name, p in b.named_parameters()) for b in blocks_of(unet)}
    assert counters["stats"]["unique_graphs"] == len(kinds) < len(blocks_of(unet))


def test_a_network_without_blocks_is_compiled_whole() -> None:
    network = nn.Linear(2, 2)
    compile_blocks({"network": network})
    assert network._compiled_call_impl is not None


def test_a_smaller_budget_keeps_less_and_changes_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partitioned = partialmethod(nn.Module.compile, backend="aot_eager_decomp_partition")
    monkeypatch.setattr(nn.Module, "compile", partitioned)

    def step(budget: float) -> tuple[int, list[torch.Tensor | None]]:
        torch.compiler.reset()
        torch.manual_seed(0)
        block = BasicTransformerBlock(32, 2, 16)
        compile_blocks({"block": block}, budget)
        known = {p.untyped_storage().data_ptr() for p in block.parameters()}
        kept: dict[int, torch.Tensor] = {}

        def keep(x: torch.Tensor) -> torch.Tensor:
            if x.untyped_storage().data_ptr() not in known:
                kept[x.untyped_storage().data_ptr()] = x
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            result = block(torch.randn(2, 64, 32, requires_grad=True))
        result.square().sum().backward()
        size = sum(x.untyped_storage().nbytes() for x in kept.values())
        return size, [p.grad for p in block.parameters()]

    (whole, gradients), (less, again) = step(1.0), step(0.4)
    assert less < 0.6 * whole
    torch.testing.assert_close(again, gradients)


def test_a_budget_is_the_compilers(tmp_path: Path) -> None:
    with pytest.raises(RelayError, match=r"memory_budget has an effect only with run.compile"):
        tiny_recipe("base", tmp_path, run={"activation_memory_budget": 0.5})


def test_a_network_that_does_not_learn_is_left_as_it_is() -> None:
    network = nn.Linear(2, 2).requires_grad_(False)
    compile_blocks({"network": network})
    assert network._compiled_call_impl is None


@pytest.mark.slow
def test_only_steps_are_compiled_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what validation and previews pass through, in other numbers."""
    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))

    def graphs(name: str, **more: Any) -> int:
        torch.compiler.reset()
        counters.clear()
        recipe = tiny_recipe("base", tmp_path / name, run={"compile": True, "steps": 2}, **more)
        assert train(recipe, tiny_objective(recipe), CPU)
        return int(counters["stats"]["unique_graphs"])

    every = {"every": 1, "num_pictures": 3}
    assert graphs("steps") == graphs("more", validation=every, preview=every) > 0


@pytest.mark.long  # a C++ compiler, for a minute and a half
@pytest.mark.parametrize("kind", ["base", "relay"])
def test_a_compiled_network_trains_as_a_plain_one(kind: str, tmp_path: Path) -> None:
    def figures(name: str, **run: Any) -> list[dict[str, float]]:
        recipe = tiny_recipe(kind, tmp_path / name, run=run)
        assert train(recipe, tiny_objective(recipe), CPU)
        lines = map(json.loads, (recipe.folder / "log.jsonl").read_text().splitlines())
        return [
            {key: line[key] for key in ("loss", "grad_norm")} for line in lines if "loss" in line
        ]

    plain = figures("plain")
    for name, more in (("compiled", {}), ("again", {"activation_checkpointing": True})):
        compiled = figures(name, compile=True, **more)
        assert len(compiled) == 4
        for one, other in zip(compiled, plain, strict=True):
            assert one == pytest.approx(other, rel=1e-4)  # sums in another order
