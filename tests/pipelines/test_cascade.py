"""RelayPipeline's calls, on random networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC
from PIL import Image
from torch import Tensor

from relay_diffusion.diffusion import sample_base, sample_relay
from relay_diffusion.errors import RelayError
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.pipelines.cascade import RelayPipeline

from .test_refusals import SameText
from .tiny import PROMPT, generators, record_calls, tiny_cascade, tiny_unet


def test_a_prompt_becomes_a_picture_through_all_stages(cascade: RelayPipeline) -> None:
    out = cascade(PROMPT, height=128, width=64)
    assert [stage[0].size for stage in out.stages] == [(16, 32), (32, 64), (64, 128)]
    assert out.images is out.stages[-1]


def test_the_default_size_is_twice_the_base(cascade: RelayPipeline) -> None:
    assert cascade(PROMPT).images[0].size == (64, 64)


def test_sizes_that_a_world_was_not_drawn_at_are_named(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade(PROMPT, height=32, width=64, num_inference_steps=1)
    assert not caplog.messages  # of networks that have seen all shapes
    of_scenes = tiny_cascade(world="small")
    of_scenes(PROMPT, height=64, width=64, num_inference_steps=1)
    assert not caplog.messages
    of_scenes(PROMPT, height=64, width=128, num_inference_steps=1)
    of_scenes(PROMPT, height=16, width=16, num_inference_steps=1)
    assert caplog.messages == [
        "the base stage was trained at 32x32 and is run at 32x16: things may be missing",
        "the base stage was trained at 32x32 and is run at 16x16: things may be missing",
    ]


def test_the_stages_hand_float_pictures_on(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay starts from the clamped base picture, enlarged, not from one of 8 bits."""
    z_base, _ = cascade(PROMPT, generator=generators(3), output_type="latent").stages
    seen: list[Tensor] = []
    plain = cascade.vae.encode
    monkeypatch.setattr(cascade.vae, "encode", lambda x, **k: seen.append(x) or plain(x, **k))
    again = cascade(PROMPT, generator=generators(3), output_type="pt")
    with torch.no_grad():
        x = decode(cascade.vae, z_base).clamp(-1, 1)
    x_lr = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[0], x_lr)
    torch.testing.assert_close(again.stages[0], x / 2 + 0.5)


def test_a_seed_gives_the_same_picture_alone_and_in_a_batch(cascade: RelayPipeline) -> None:
    options = {"eta": 0.5, "output_type": "np"}  # with fresh noise in every step
    together = cascade(
        [PROMPT, "a blue fox"], num_images_per_prompt=2, generator=generators(0, 1, 2, 3), **options
    ).images
    alone = [
        cascade(prompt, generator=generators(seed), **options).images[0]
        for prompt, seed in ((PROMPT, 0), (PROMPT, 1), ("a blue fox", 2), ("a blue fox", 3))
    ]
    assert np.abs(together - np.stack(alone)).max() < 1e-4
    assert np.abs(together[0] - together[1]).max() > 1e-2
    assert np.abs(together[0] - together[2]).max() > 1e-2


def test_a_single_generator_gives_the_same_pictures_again(cascade: RelayPipeline) -> None:
    once, again = (
        cascade(PROMPT, num_images_per_prompt=2, generator=generators(9)[0], output_type="pt")
        for _ in range(2)
    )
    assert torch.equal(once.images, again.images)
    assert not torch.equal(once.images[0], once.images[1])


def test_given_latents_take_the_place_of_drawn_ones(cascade: RelayPipeline) -> None:
    (generator,) = generators(4)
    noise = [torch.randn(4, side, side, generator=generator)[None] for side in (4, 8)]
    given = cascade(PROMPT, latents=noise, generator=generators(11), output_type="pt")
    drawn = cascade(PROMPT, generator=generators(4), output_type="pt")
    torch.testing.assert_close(given.images, drawn.images)


def test_the_forms_of_output_agree(cascade: RelayPipeline) -> None:
    def made(output_type: str) -> Any:
        return cascade(PROMPT, generator=generators(1), output_type=output_type).images

    pt = made("pt")
    assert pt.shape == (1, 3, 64, 64)
    torch.testing.assert_close(torch.from_numpy(made("np")).movedim(-1, 1), pt)
    bytes_of = (pt * 255).round().byte()[0].movedim(0, -1).numpy()
    assert np.array_equal(np.asarray(made("pil")[0]), bytes_of)
    assert made("latent").shape == (1, 4, 8, 8)
    with pytest.raises(RelayError, match="output_type 'jpg'; allowed is pil, np, pt, latent"):
        made("jpg")


def test_return_dict_false_gives_a_tuple(cascade: RelayPipeline) -> None:
    images, stages = cascade(PROMPT, return_dict=False)
    assert images is stages[-1]


def test_the_network_is_told_the_true_size_of_each_stage(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = record_calls(monkeypatch, cascade.base_unet)
    relay = record_calls(monkeypatch, cascade.relay_unet)
    cascade(PROMPT, height=128, width=64)
    told = [call["added_cond_kwargs"]["time_ids"].float().tolist() for call in (*base, *relay)]
    assert told[: len(base)] == [[[32, 16, 0, 0, 32, 16]] * 2] * 3
    assert told[len(base) : -2] == [[[64, 32, 0, 0, 64, 32]] * 2] * 2
    assert told[-2:] == [[[128, 64, 0, 0, 128, 64]] * 2] * 2


def test_each_doubling_has_its_own_start_level(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, cascade.relay_unet)
    cascade(PROMPT, height=256, width=256)  # three doublings, two start levels
    first_of_stage = [int(call["timestep"].flatten()[0]) for call in calls[::2]]
    assert first_of_stage == [499, 299, 299]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_stay_in_float32_whatever_the_networks_use(
    cascade_folder: Any, dtype: torch.dtype
) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    dtypes = set()

    def look(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        dtypes.add(kwargs["latents"].dtype)
        return {}

    out = pipe(PROMPT, output_type="latent", callback_on_step_end=look)
    assert dtypes == {torch.float32} and out.images.dtype == torch.float32
    assert pipe.base_unet.dtype == dtype and pipe.vae.dtype == torch.float32


def test_a_picture_can_be_the_start(cascade: RelayPipeline) -> None:
    """The less strength, the nearer the base picture stays to the one it was started from."""
    start = Image.new("RGB", (48, 32), (200, 30, 30))
    x_start = torch.tensor([200, 30, 30]).view(1, 3, 1, 1).expand(1, 3, 32, 32) / 127.5 - 1
    with torch.no_grad():
        z_start = encode(cascade.vae, x_start)
    distances = []
    for strength in (0.01, 0.3, 1.0):
        out = cascade(
            PROMPT, image=start, strength=strength, num_inference_steps=100,
            generator=generators(0), output_type="latent", guidance_scale=1.0,
        )  # fmt: skip
        distances.append(float((out.stages[0] - z_start).abs().mean()))
    assert distances == sorted(distances)
    assert distances[0] < 0.1 * distances[2]


def test_pictures_to_start_from_are_repeated_as_prompts_are(cascade: RelayPipeline) -> None:
    prompts, starts = (
        [PROMPT, "a blue fox"],
        [Image.new("RGB", (32, 32), c) for c in ("red", "blue")],
    )
    options = {"strength": 0.3, "output_type": "latent"}
    together = cascade(
        prompts, image=starts, num_images_per_prompt=2, generator=generators(0, 1, 2, 3), **options
    ).images
    pairs = [(prompt, start) for prompt, start in zip(prompts, starts, strict=True) for _ in "12"]
    for seed, (prompt, start) in enumerate(pairs):
        alone = cascade(prompt, image=start, generator=generators(seed), **options).images
        torch.testing.assert_close(together[seed : seed + 1], alone, rtol=1e-3, atol=1e-4)
    expanded = cascade(
        prompts, image=starts, num_images_per_prompt=2, generator=generators(0, 1, 2, 3),
        expand=SameText(), **options,
    ).images  # fmt: skip
    torch.testing.assert_close(expanded, together, rtol=1e-3, atol=1e-4)
    with pytest.raises(RelayError, match="2 pictures to start 3 from; give 1, one for each prompt"):
        cascade([PROMPT] * 3, image=starts)


def test_the_networks_can_wait_their_turn_off_the_accelerator(cascade_folder: Any) -> None:
    """With the CPU in the accelerator's place: the hooks run, in their order, at every call."""
    pipe = RelayPipeline.from_pretrained(cascade_folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe(PROMPT, generator=generators(0), output_type="pt").images
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        offloaded = pipe(PROMPT, generator=generators(0), output_type="pt").images
        assert torch.equal(offloaded, plain)
    larger = pipe.upscale(offloaded, PROMPT, output_type="pt").images
    assert larger.shape == (1, 3, 128, 128)


def test_an_autoencoder_of_the_other_kind_serves_as_well() -> None:
    pipe = tiny_cascade()
    torch.manual_seed(0)
    pipe.vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8, 16, 16),
        decoder_block_out_channels=(8, 8, 16, 16),
        encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        scaling_factor=0.5,
    ).eval()
    assert pipe(PROMPT, height=128, width=64).images[0].size == (64, 128)


def test_a_deeper_relay_network_asks_no_more_of_the_base_than_it_needs() -> None:
    deep = tiny_unet(
        3,
        block_out_channels=(8, 8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 1, 2),
    )
    pipe = tiny_cascade()
    pipe.relay_unet = deep
    assert pipe.size_multiple == 16  # a base of 16 is relayed at 32, 4 latents, one deep cell
    assert pipe(PROMPT, height=32, width=96).images[0].size == (96, 32)


def test_a_cascade_without_relay_makes_the_base_size_only(cascade_folder: Any) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, relay_unet=None)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(PROMPT, height=32, width=32).images[0].size == (32, 32)
    with pytest.raises(RelayError, match="without its relay_unet"):
        pipe(PROMPT, height=64, width=64)


def test_solver_and_eta_reach_both_samplers(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    for sampler in (sample_base, sample_relay):

        def watched(*args: Any, sampler: Any = sampler, **kwargs: Any) -> Any:
            given.append((sampler.__name__, kwargs["solver"], kwargs["eta"]))
            return sampler(*args, **kwargs)

        monkeypatch.setattr(f"relay_diffusion.pipelines.run.{sampler.__name__}", watched)
    cascade(PROMPT, solver="multistep", eta=0.5)
    cascade(PROMPT)
    assert given == [
        ("sample_base", "multistep", 0.5),
        ("sample_relay", "multistep", 0.5),
        ("sample_base", "euler", 0.0),
        ("sample_relay", "euler", 0.0),
    ]
