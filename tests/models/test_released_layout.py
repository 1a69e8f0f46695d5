"""Networks of any size, written in the released layout, come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from released import (
    HEAD_DIM,
    Shape,
    random_unet,
    random_vae,
    relative_error,
    released_unet,
    write_released,
    write_released_vae,
)
from safetensors.torch import save_file
from torch import Tensor

from relay_diffusion.models import unet_from_official, vae_from_official

SHAPES = {
    "as released, small": Shape((32, 64, 128), (2, 2, 2), (None, 2, 3), 3),
    "one level": Shape((32,), (1,), (1,), 1),
    "two levels, attention at both": Shape((64, 32), (1, 3), (1, 2), 2),
    "four levels of unlike length": Shape((32, 32, 64, 64), (1, 2, 1, 3), (None, 1, None, 2), 2),
    "no attention at the deepest level": Shape((32, 64), (2, 1), (2, None), 1),
    "transformers without blocks": Shape((32, 64), (2, 2), (0, 1), 1),
    "projections by convolution": Shape((32, 64), (1, 1), (None, 1), 1, linear=False),
    "guidance embedded": Shape((32, 64), (1, 1), (1, 1), 1, guidance=20),
    "other widths": Shape(
        (32, 96), (1, 1), (1, 1), 1, head_dim=32, context=40, vector=48, latents=8
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_random_unet_comes_back(shape: Shape, tmp_path: Path) -> None:
    unet = random_unet(shape)
    found = unet_from_official(write_released(released_unet(unet), tmp_path), shape.head_dim)
    own = found.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in unet.state_dict().items())
    side = 2 ** len(shape.widths)
    inputs = {
        "sample": torch.randn(2, shape.latents, side, side),
        "timestep": torch.tensor([3, 700]),
        "encoder_hidden_states": torch.randn(2, 5, shape.context),
        "timestep_cond": None if shape.guidance is None else torch.randn(2, shape.guidance),
        "added_cond_kwargs": {
            "text_embeds": torch.zeros(2, 0),
            "time_ids": torch.tensor([[64.0, 96, 0, 8, 64, 96], [32, 32, 4, 0, 32, 32]]),
        },
    }
    expected: Tensor = unet(**inputs).sample
    assert torch.equal(found(**inputs).sample, expected)
    # Its configuration is enough to open it again with plain diffusers.
    found.save_pretrained(tmp_path / "saved")
    again = type(unet).from_pretrained(tmp_path / "saved")
    assert torch.equal(again(**inputs).sample, expected)


def test_checkpoint_is_found_by_file_step_folder_and_latest(tmp_path: Path) -> None:
    tensors = released_unet(random_unet(SHAPES["one level"]))
    file = write_released(tensors, tmp_path / "170000")
    (tmp_path / "latest").write_text("170000\n")
    save_file(tensors, tmp_path / "unet.safetensors")
    for path in (file, tmp_path / "170000", tmp_path, str(tmp_path), tmp_path / "unet.safetensors"):
        found = unet_from_official(path, HEAD_DIM).state_dict()
        assert torch.equal(
            found["conv_in.weight"], tensors["model.diffusion_model.input_blocks.0.0.weight"]
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = released_unet(random_unet(SHAPES["one level"]))
    file = write_released({name: tensor.to(dtype) for name, tensor in tensors.items()}, tmp_path)
    unet = unet_from_official(file, HEAD_DIM)
    assert {parameter.dtype for parameter in unet.parameters()} == {dtype}
    unet.save_pretrained(tmp_path / "saved")
    stored = (tmp_path / "saved/diffusion_pytorch_model.safetensors").stat().st_size
    assert stored < sum(t.numel() for t in tensors.values()) * dtype.itemsize * 1.1


def test_weights_that_share_memory_or_lie_transposed_can_be_saved(tmp_path: Path) -> None:
    """DeepSpeed may store views of one buffer."""
    tensors = released_unet(random_unet(SHAPES["one level"]))
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    pieces = flat.split([tensor.numel() for tensor in tensors.values()])
    views = {
        name: piece.view_as(tensor)
        for (name, tensor), piece in zip(tensors.items(), pieces, strict=True)
    }
    out = "model.diffusion_model.middle_block.{}.out_layers.3.weight"
    views[out.format(0)] = views[out.format(2)]
    embed = "model.diffusion_model.time_embed.2.weight"
    views[embed] = views[embed].T.contiguous().T
    unet = unet_from_official(write_released(views, tmp_path), HEAD_DIM)
    unet.save_pretrained(tmp_path / "saved")
    again = type(unet).from_pretrained(tmp_path / "saved").state_dict()
    own = "mid_block.resnets.{}.conv2.weight"
    assert torch.equal(again[own.format(0)], tensors[out.format(2)])
    assert torch.equal(again[own.format(1)], tensors[out.format(2)])
    assert torch.equal(again["time_embedding.linear_2.weight"], tensors[embed])


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize(
    ("widths", "layers", "latents"), [((32, 64, 32, 96), 2, 4), ((32, 64), 1, 8)]
)
def test_random_vae_comes_back(
    widths: tuple[int, ...], layers: int, latents: int, prefix: str, tmp_path: Path
) -> None:
    vae = random_vae(widths, layers, latents)
    write_released_vae(vae, tmp_path / "vae.safetensors", prefix)
    found = vae_from_official(tmp_path / "vae.safetensors")
    assert found.config.scaling_factor == 0.13025
    x = torch.rand(1, 3, 16, 24) * 2 - 1
    z = vae.encode(x).latent_dist.mean
    assert relative_error(found.encode(x).latent_dist.mean, z) < 1e-6
    assert relative_error(found.decode(z).sample, vae.decode(z).sample) < 1e-6
