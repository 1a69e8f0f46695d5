"""RelayPipeline's calls, on random networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, UNet2DConditionModel
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from relay_diffusion.diffusion import guide
from relay_diffusion.errors import RelayError
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.prompting import remarks_on

from .tiny import generators, tiny_cascade, tiny_unet

PROMPT = "a red fox above a mushroom"


def record_calls(
    monkeypatch: pytest.MonkeyPatch, unet: UNet2DConditionModel
) -> list[dict[str, Any]]:
    """Keep what a network is called with."""
    calls: list[dict[str, Any]] = []
    forward = unet.forward

    def recording(sample: Tensor, timestep: Tensor, **kwargs: Any) -> Any:
        calls.append({"sample": sample, "timestep": timestep, **kwargs})
        return forward(sample, timestep, **kwargs)

    monkeypatch.setattr(unet, "forward", recording)
    return calls


def test_a_prompt_becomes_a_picture_through_all_stages(cascade: RelayPipeline) -> None:
    out = cascade(PROMPT, height=128, width=64)
    assert [stage[0].size for stage in out.stages] == [(16, 32), (32, 64), (64, 128)]
    assert out.images is out.stages[-1]


def test_the_default_size_is_twice_the_base(cascade: RelayPipeline) -> None:
    assert cascade(PROMPT).images[0].size == (64, 64)


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


def test_the_unconditional_half_is_zero_and_a_negative_prompt_replaces_it(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, cascade.base_unet)
    cascade(PROMPT)
    without, with_prompt = calls[-1]["encoder_hidden_states"]
    assert not without.any()
    cascade(PROMPT, negative_prompt="a mushroom")
    negative = calls[-1]["encoder_hidden_states"][0]
    torch.testing.assert_close(negative[None], cascade.encode_prompt("a mushroom")[0])
    cascade(PROMPT, negative_prompt=PROMPT)
    torch.testing.assert_close(calls[-1]["encoder_hidden_states"][0], with_prompt)


def test_guidance_moves_away_from_the_unconditional_estimate(cascade: RelayPipeline) -> None:
    def one_step(**options: Any) -> Tensor:
        return cascade(
            height=32, width=32, num_inference_steps=1, generator=generators(2),
            output_type="latent", **options,
        ).images  # fmt: skip

    embeds, zeros = cascade.encode_prompt(PROMPT)
    conditional = one_step(prompt_embeds=embeds, guidance_scale=1.0)
    unconditional = one_step(prompt_embeds=zeros, guidance_scale=1.0)
    guided = one_step(prompt_embeds=embeds, guidance_scale=5.0)
    torch.testing.assert_close(guided, guide(unconditional, conditional, 5.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_only_the_conditional_half_runs(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    calls = record_calls(monkeypatch, cascade.base_unet)
    cascade(PROMPT, guidance_scale=scale)
    assert {len(call["sample"]) for call in calls} == {1}


def test_embedded_guidance_runs_one_half_and_is_heard(
    distilled: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, distilled.base_unet)
    low, high = (
        distilled(PROMPT, guidance_scale=scale, generator=generators(0), output_type="pt").images
        for scale in (2.0, 9.0)
    )
    assert {len(call["sample"]) for call in calls} == {1}
    assert (low - high).abs().max() > 1e-3


def test_guidance_outside_the_distilled_range_is_refused(distilled: RelayPipeline) -> None:
    with pytest.raises(RelayError, match=r"guidance 12 is outside the range .*: 2 to 9"):
        distilled(PROMPT, guidance_scale=12)


def test_steps_that_a_network_was_not_distilled_for_are_named(
    distilled: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    distilled(PROMPT)
    assert not caplog.messages
    distilled(PROMPT, num_inference_steps=5, num_relay_steps=3)
    assert caplog.messages == [
        "the base network is distilled for 4 steps: 5 will look worse",
        "the relay network is distilled for 1 or 2 steps: 3 will look worse",
    ]


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


def test_an_empty_prompt_is_unconditional(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    embeds, _ = cascade.encode_prompt(["", PROMPT])
    assert not embeds[0].any() and embeds[1].any()
    assert caplog.messages == ["the prompt is empty: the picture shows whatever the networks like"]


def test_what_is_cut_off_a_long_prompt_is_said_once(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    long = "a red fox above a blue fox above a mushroom"  # 7 words and </s> fit
    short = "a red fox above a blue fox"
    for _ in range(2):
        embeds, _ = cascade.encode_prompt(long)
    (line,) = caplog.messages
    assert "longer than 8 tokens" in line and "'above a mushroom'" in line
    torch.testing.assert_close(embeds, cascade.encode_prompt(short)[0])


def test_a_word_that_was_never_seen_is_named_with_the_nearest(
    cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade.encode_prompt("a red foxx")
    (line,) = caplog.messages
    assert "'foxx'" in line and "'fox'" in line


def test_prompts_can_be_encoded_and_the_encoder_freed(cascade_folder: Any) -> None:
    pipe = RelayPipeline.from_pretrained(cascade_folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    whole = pipe(PROMPT, negative_prompt="a mushroom", generator=generators(6), output_type="pt")
    embeds, negative = pipe.encode_prompt(PROMPT, "a mushroom")
    pipe.text_encoder = None
    freed = pipe(
        prompt_embeds=embeds,
        negative_prompt_embeds=negative,
        generator=generators(6),
        output_type="pt",
    )
    assert torch.equal(freed.images, whole.images)
    with pytest.raises(RelayError, match="give prompt_embeds"):
        pipe(PROMPT)


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


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"height": 100, "width": 64}, "nearest that can are"),
        ({"height": 2**14, "width": 2**14}, "beyond the limit"),
        ({"num_inference_steps": 0}, "0 steps; allowed is 1 to 1000"),
        ({"num_inference_steps": 1001}, "1001 steps"),
        ({"num_relay_steps": 301}, "301 relay steps; allowed is 1 to 300"),
        ({"guidance_scale": -1}, "guidance -1"),
        ({"solver": "heun"}, "solver 'heun'; allowed is euler or multistep"),
        ({"eta": 2.0}, "eta 2.0; allowed is 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt 0"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        ({"image": Image.new("RGB", (8, 8)), "strength": 0}, "strength 0; allowed is above 0"),
        ({"callback_on_step_end_tensor_inputs": ["unet"]}, "has unet; allowed is latents"),
        ({"prompt_embeds": torch.zeros(1, 8, 16)}, "one of the two"),
    ],
)
def test_wrong_arguments_are_answered_in_one_line(
    cascade: RelayPipeline, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RelayError, match=complaint) as refusal:
        cascade(PROMPT, **options)
    assert "\n" not in str(refusal.value)


def poison(unet: UNet2DConditionModel, after: int) -> Callable[..., Any]:
    """A forward that gives NaN from the call ``after`` on."""
    forward, count = unet.forward, 0

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        out = forward(*args, **kwargs)
        broken = float("nan") if count > after else 0.0
        return (out[0] + broken,) if isinstance(out, tuple) else type(out)(out.sample + broken)

    return poisoned


def test_nan_in_a_latent_is_an_error_that_says_where(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cascade.relay_unet, "forward", poison(cascade.relay_unet, after=1))
    with pytest.raises(RelayError, match=r"relay 64x64 at step 2 of 2 .*NaN.* in float32"):
        cascade(PROMPT)


def test_nan_from_the_vae_is_an_error_too(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cascade.vae.decoder, "forward", lambda z, *_: z.new_full((1, 3, 32, 32), torch.nan)
    )
    with pytest.raises(RelayError, match="pixels that the VAE made are not finite"):
        cascade(PROMPT)


def test_words_are_not_missed_by_a_tokenizer_that_spells_them() -> None:
    spelling = Tokenizer(BPE({"f": 0, "o": 1, "x": 2}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelling)
    assert not list(remarks_on("fox", tokenizer, 8, None))
    (line,) = remarks_on("fox", tokenizer, 8, ["cat", "box"])
    assert "'fox'" in line and "'box'" in line


def test_the_words_of_the_cascade_go_before_those_of_the_tokenizer(
    cascade: RelayPipeline,
) -> None:
    (line,) = remarks_on("a blue fox", cascade.tokenizer, 8, ["a", "fox", "glue"])
    assert "'blue'" in line and "'glue'" in line


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
