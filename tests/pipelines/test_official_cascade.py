"""RelayPipeline against the released CogView3 code, from token ids to pixels.

tests/fixtures/official-cascade-tiny holds what that code computes on small random networks: those
of official-base-tiny (10 steps, classifier-free guidance 7.5) and official-distill-tiny (1 relay
step from level 200, guidance embedded), a T5 and an autoencoder in SDXL's layout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import T5EncoderModel

from relay_diffusion.models import unet_from_official, vae_from_official
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.models.text import encode_text
from relay_diffusion.pipelines import run
from relay_diffusion.pipelines.cascade import RelayPipeline
from tests.models.released import told_vector

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDER = FIXTURES / "official-cascade-tiny"
HEAD_DIM = 16


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(FOLDER / "golden.safetensors")


@pytest.fixture(scope="module")
def released() -> RelayPipeline:
    settings = json.loads((FOLDER / "golden.json").read_text())

    def unet(name: str) -> Any:
        file = FIXTURES / settings[name] / "mp_rank_00_model_states.pt"
        return unet_from_official(file, head_dim=HEAD_DIM).float()

    text_encoder = T5EncoderModel.from_pretrained(FOLDER / "text_encoder", dtype=torch.float32)
    pipe = RelayPipeline(
        text_encoder=text_encoder,
        tokenizer=None,
        vae=vae_from_official(FOLDER / "vae.safetensors").float(),
        base_unet=unet("base"),
        relay_unet=unet("relay"),
        scheduler=cascade_scheduler(),
        base_size=settings["base_pixels"],
        num_inference_steps=settings["base_steps"],
        num_relay_steps=settings["relay_steps"],
        relay_start=[1000 * settings["relay_steps"] / settings["relay_num_steps"]],
        guidance_scale=settings["guidance_scale"],
        max_tokens=settings["tokens"],
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def embeds(released: RelayPipeline, golden: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return encode_text(released.text_encoder, golden["input_ids"])


def assert_agrees(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-4, relative. What float32 leaves is 1e-5 in the last pixels, 1e-6 in the first."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_text_is_encoded_as_released(embeds: Tensor, golden: dict[str, Tensor]) -> None:
    assert_agrees(embeds, golden["context"])


def test_latents_of_both_stages_are_the_released_ones(
    released: RelayPipeline,
    golden: dict[str, Tensor],
    embeds: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[tuple[Tensor, Tensor]] = []
    plain = run.encode

    def recording(vae: Any, x: Tensor) -> Tensor:
        encoded.append((x, plain(vae, x)))
        return encoded[-1][1]

    monkeypatch.setattr(run, "encode", recording)
    noise = [golden["base_noise"], golden["relay_noise"]]
    out = released(prompt_embeds=embeds, height=128, width=128, latents=noise, output_type="latent")
    ((upsampled_pixels, z_lr),) = encoded
    assert_agrees(out.stages[0], golden["base_latents"])
    assert_agrees(upsampled_pixels, golden["upsampled_pixels"])
    assert_agrees(z_lr, golden["z_lr"])
    assert_agrees(out.images, golden["relay_latents"])


def test_pixels_of_both_stages_are_the_released_ones(
    released: RelayPipeline, golden: dict[str, Tensor], embeds: Tensor
) -> None:
    noise = [golden["base_noise"], golden["relay_noise"]]
    out = released(prompt_embeds=embeds, height=128, width=128, latents=noise, output_type="pt")
    names = ("base_pixels_unclamped", "relay_pixels_unclamped")
    for pictures, name in zip(out.stages, names, strict=True):
        assert_agrees(pictures * 2 - 1, golden[name].clamp(-1, 1))


def test_the_network_hears_the_released_size_numbers(
    released: RelayPipeline, golden: dict[str, Tensor], embeds: Tensor
) -> None:
    for stage, size in (("base", (64, 64)), ("relay", (128, 128))):
        ours = run.size_conditioning(size, embeds)
        assert torch.equal(ours, golden[f"{stage}_size_numbers"].float())


def with_one_network(
    released: RelayPipeline, monkeypatch: pytest.MonkeyPatch, folder: str
) -> dict[str, Tensor]:
    """Put the network of a folder in both places of the cascade, and return its golden values.

    They were made without pictures: size conditioning and z_lr are random numbers, which take the
    places here of what the network makes of sizes and the autoencoder of the picture below.
    """
    files = load_file(FIXTURES / folder / "golden.safetensors")
    unet = unet_from_official(
        FIXTURES / folder / "mp_rank_00_model_states.pt", head_dim=HEAD_DIM
    ).float()
    told_vector(unet, files["vector"])
    for stage in ("base_unet", "relay_unet"):
        monkeypatch.setattr(released, stage, unet)
    monkeypatch.setattr(run, "encode", lambda vae, x: files["lowres_latent"])
    return files


@pytest.mark.parametrize(
    ("folder", "steps"), [("official-base-tiny", 10), ("official-distill-tiny", 4)]
)
def test_the_base_stage_alone_is_the_released_one(
    folder: str, steps: int, released: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_one_network(released, monkeypatch, folder)
    out = released(
        prompt_embeds=files["context"],
        height=64,
        width=64,
        num_inference_steps=steps,
        latents=files["x"],
        output_type="latent",
    )
    assert_agrees(out.images, files[f"base_euler_{steps}"])


@pytest.mark.parametrize(
    ("folder", "steps", "of"),
    [
        ("official-base-tiny", 12, 24),
        ("official-base-tiny", 4, 8),
        ("official-distill-tiny", 1, 5),
        ("official-distill-tiny", 2, 8),
    ],
)
def test_the_relay_stage_alone_is_the_released_one(
    folder: str, steps: int, of: int, released: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_one_network(released, monkeypatch, folder)
    out = released.upscale(
        torch.zeros(2, 3, 32, 32),  # what is enlarged is not looked at: encode() is replaced
        prompt_embeds=files["context"],
        num_relay_steps=steps,
        strength=1000 * steps / of,
        latents=files["x"],
        output_type="latent",
    )
    assert_agrees(out.images, files[f"relay_{steps}_of_{of}"])
