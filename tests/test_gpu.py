"""What a GPU does as the CPU does, and what there is only there.

    make test PYTEST="-m gpu -n 0"

One test after the other (-n 0), so that the rate of the renderer is that of an idle GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.devices import pick_device, pick_dtype
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.loop import train
from tests.data.shapes import shapes_atlas
from tests.training.tiny_training import Squares, tiny_recipe, tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
PROMPT = "a red fox above a mushroom"
NETWORKS = ("text_encoder", "base_unet", "relay_unet")


def starter(dtype: torch.dtype) -> RelayPipeline:
    pipe = RelayPipeline.from_pretrained("starter", dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe: RelayPipeline) -> Tensor:
    """(1, 3, 256, 256) in [0, 1]; the noise is the CPU's, so that it is the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    x: Tensor = pipe(PROMPT, generator=generator, output_type="pt").images
    return x.float().cpu()


@pytest.fixture(scope="module")
def on_cpu() -> Tensor:
    return picture(starter(torch.float32))


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """Convolutions in all of float32; matrix products are, unless asked otherwise."""
    assert torch.get_float32_matmul_precision() == "highest"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


# On the CPU no pixel of this picture is further than 2.9e-6 from that of the networks in float64,
# and 1.5e-6 from that of other kernels: fifty times that leaves room for a GPU's own. In bfloat16,
# whose 8 bits are 3 fewer than TF32's, pixels move by 4e-2 and more (2026-11-28).
FLOAT32 = 1e-4


@pytest.mark.usefixtures("no_tf32")
def test_the_starter_makes_the_picture_of_the_cpu(on_cpu: Tensor) -> None:
    torch.testing.assert_close(
        picture(starter(torch.float32).to(CUDA)), on_cpu, rtol=0, atol=FLOAT32
    )


def test_bfloat16_is_the_commands_default_and_makes_nearly_that_picture(on_cpu: Tensor) -> None:
    assert pick_dtype("auto", pick_device()) == torch.bfloat16
    pipe = starter(pick_dtype("auto", CUDA))
    assert {getattr(pipe, name).dtype for name in NETWORKS} == {torch.bfloat16}
    assert pipe.vae.dtype == torch.float32
    x = picture(pipe.to(CUDA))
    assert bool(x.isfinite().all())
    # Bfloat16 on the CPU: 48 dB for this prompt, 53 for another. Other prompts are 7 dB apart.
    assert float(-10 * (x - on_cpu).square().mean().log10()) > 30


@pytest.mark.usefixtures("no_tf32")
def test_the_networks_wait_their_turn_off_the_gpu(on_cpu: Tensor) -> None:
    pipe = starter(torch.float32)
    pipe.enable_model_cpu_offload()
    for _ in range(2):
        torch.testing.assert_close(picture(pipe), on_cpu, rtol=0, atol=FLOAT32)
        parts = [getattr(pipe, name) for name in (*NETWORKS, "vae")]
        assert {p.device for part in parts for p in part.parameters()} == {CPU}


def test_scenes_are_drawn_at_5000_pictures_a_second() -> None:
    world = World.small()
    stream = SceneStream(world, shapes_atlas(world.subjects).to(CUDA), [View(128)])
    described = stream.describe(0, 512)
    stream.draw(described)
    rates = []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        x = stream.draw(described).x
        torch.cuda.synchronize()
        rates.append(len(x) / (time.perf_counter() - started))
    assert max(rates) > 5000


def figures(kind: str, device: torch.device, out: Path, **run: Any) -> list[dict[str, float]]:
    """Loss and gradient norm of each step of a tiny run in bfloat16."""
    recipe = tiny_recipe(kind, out, run={"dtype": "bfloat16", **run})
    objective = objective_of(recipe, networks_of(recipe, tokenizer()), Squares, device)
    assert train(recipe, objective, device)
    lines = map(json.loads, (recipe.folder / "log.jsonl").read_text().splitlines())
    return [{key: line[key] for key in ("loss", "grad_norm")} for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", ["base", "relay"])
def test_a_training_step_is_that_of_the_cpu(kind: str, tmp_path: Path) -> None:
    (there,) = figures(kind, CPU, tmp_path / "cpu", steps=1)
    (here,) = figures(kind, CUDA, tmp_path / "gpu", steps=1)
    # Twice as much and more as float32 and bfloat16 are apart on the CPU: 0.1% of the loss, 0.3% of
    # the norm.
    assert here == pytest.approx(there, rel=0.01)


def test_a_compiled_network_trains_as_a_plain_one(tmp_path: Path) -> None:
    plain = figures("base", CUDA, tmp_path / "plain", steps=10)
    compiled = figures("base", CUDA, tmp_path / "compiled", steps=10, compile=True)
    assert len(compiled) == 10
    for one, other in zip(compiled, plain, strict=True):
        assert one == pytest.approx(other, rel=0.02)  # float32 and bfloat16: 0.7%
