from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relay_diffusion.errors import RelayError
from relay_diffusion.models.autoencoder import decode
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import generators, record_calls


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (37, 21), (1, 1), (64, 5)])
def test_a_picture_of_any_size_is_doubled(cascade: RelayPipeline, width: int, height: int) -> None:
    out = cascade.upscale(picture(width, height), "a red fox", times=2)
    sizes = [(width * 2, height * 2), (width * 4, height * 4)]
    assert [stage[0].size for stage in out.stages] == sizes
    assert out.images[0].size == sizes[-1]


def test_it_is_the_relay_stage_of_a_call(cascade: RelayPipeline) -> None:
    """The base picture of a call, upscaled with the same noise, is the picture of the call."""
    noise = [torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)]
    whole = cascade("a red fox", latents=noise, output_type="pt")
    again = cascade.upscale(whole.stages[0], "a red fox", latents=noise[1], output_type="pt")
    torch.testing.assert_close(again.images, whole.images, rtol=1e-3, atol=1e-4)


def test_latents_are_those_of_the_padded_picture(cascade: RelayPipeline) -> None:
    latents, cut = (
        cascade.upscale(picture(37, 21), generator=generators(0), output_type=kind).images
        for kind in ("latent", "pt")
    )
    assert latents.shape == (1, 4, 6, 10) and cut.shape == (1, 3, 42, 74)
    with torch.no_grad():
        whole = decode(cascade.vae, latents).clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(whole[:, :, :42, :74], cut)


def test_strength_is_the_start_level(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, cascade.relay_unet)
    cascade.upscale(picture(32, 32), strength=200)
    assert int(calls[0]["timestep"].flatten()[0]) == 199
    with pytest.raises(RelayError, match=r"start level 1001; it is a training index"):
        cascade.upscale(picture(32, 32), strength=1001)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_strength_is_no_share(cascade: RelayPipeline, share: float) -> None:
    said = rf"strength {share}; .* training index above 1 .* to 1000 .* no share; .* own is 500"
    with pytest.raises(RelayError, match=said):
        cascade.upscale(picture(32, 32), strength=share)


def test_a_text_is_encoded_once_for_all_pictures(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain = cascade.text_encoder.forward

    def count(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        read.append(len(input_ids))
        return plain(input_ids, **kwargs)

    monkeypatch.setattr(cascade.text_encoder, "forward", count)
    cascade.upscale([picture(8, 8)] * 3, "a red fox", negative_prompt="blue")
    assert read == [1, 1]
    embeds, negative = cascade.encode_prompt(["a red fox", "a fox", "a red fox"], "blue")
    assert torch.equal(embeds[0], embeds[2]) and not torch.equal(embeds[0], embeds[1])
    assert read[2:] == [2, 1] and len(negative) == 3


def test_a_start_level_is_that_of_the_size(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, cascade.relay_unet)
    for side, first_index in ((8, 499), (32, 499), (64, 299)):
        calls.clear()
        cascade.upscale(picture(side, side))
        assert int(calls[0]["timestep"].flatten()[0]) == first_index


def test_without_a_prompt_the_networks_run_once_and_without_text(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, cascade.relay_unet)
    cascade.upscale(picture(32, 32))
    assert all(len(call["sample"]) == 1 for call in calls)
    assert not any(call["encoder_hidden_states"].any() for call in calls)


def test_several_pictures_each_with_its_own_prompt_and_seed(cascade: RelayPipeline) -> None:
    pictures = [picture(32, 32), picture(32, 32).rotate(90)]
    prompts = ["a red fox", "a blue mushroom"]
    together = cascade.upscale(pictures, prompts, generator=generators(1, 2), output_type="pt")
    alone = cascade.upscale(pictures[1], prompts[1], generator=generators(2), output_type="pt")
    torch.testing.assert_close(together.images[1:], alone.images, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "options", "complaint"),
    [
        (picture(32, 32), {"times": 0}, "times 0"),
        (picture(32, 32), {"times": 9}, "beyond the limit"),
        (picture(32, 32), {"times": 1.5}, "times of type float; give one whole number"),
        (picture(32, 32), {"strength": "500"}, "strength of type str; give one number"),
        (picture(32, 32), {"generator": 0}, "a generator of type int"),
        ([picture(8, 8), picture(9, 9)], {}, "differ in size"),
        ("fox.png", {}, "of type str"),
        (picture(8, 8), {"prompt": ["a fox", "a red fox"]}, "2 prompts for 1 pictures; give one"),
        (
            picture(32, 32),
            {"latents": torch.zeros(1, 4, 4, 4)},
            r"latents of doubling 1 have shape .*, not \(1, 4, 8, 8\)",
        ),
        (picture(32, 32), {"latents": [None, None]}, "latents for 2 doublings; give 1 or fewer"),
        ([picture(8, 8)] * 2, {"prompt_embeds": torch.zeros(1, 8, 16)}, "1 prompt_embeds for 2"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cascade: RelayPipeline, image: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RelayError, match=complaint):
        cascade.upscale(image, **options)


def test_embeddings_are_as_many_as_the_pictures(cascade: RelayPipeline) -> None:
    embeds = torch.randn(2, cascade.config.max_tokens, 16)
    with pytest.raises(RelayError, match="2 prompt_embeds for 1 pictures"):
        cascade.upscale(picture(32, 32), prompt_embeds=embeds)


def test_a_negative_prompt_alone_is_not_dropped_in_silence(cascade: RelayPipeline) -> None:
    with pytest.raises(RelayError, match="a negative prompt goes with a prompt"):
        cascade.upscale(picture(32, 32), negative_prompt="blue")
