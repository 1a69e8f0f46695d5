"""What a call of RelayPipeline refuses, or warns of, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import PROMPT, generators


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"height": 100, "width": 64}, "nearest that can are"),
        ({"height": 2**14, "width": 2**14}, "beyond the limit"),
        ({"num_inference_steps": 0}, "0 steps; allowed is 1 to 1000"),
        ({"num_inference_steps": 1001}, "1001 steps"),
        ({"num_relay_steps": 301}, "301 relay steps; allowed is 1 to 300"),
        ({"guidance_scale": -1}, "guidance -1"),
        ({"relay_guidance_scale": -1}, "relay guidance -1; give a number of 0 or more"),
        ({"guidance_scale": [3.0, 7.5]}, "guidance of type list; give one number"),
        ({"relay_guidance_scale": torch.ones(1)}, "relay guidance of type Tensor; give one"),
        ({"relay_guidance_scale": float("nan")}, "relay guidance nan"),
        ({"relay_guidance_scale": float("inf")}, "relay guidance inf"),
        ({"solver": "heun"}, "solver 'heun'; allowed is euler or multistep"),
        ({"eta": 2.0}, "eta 2.0; allowed is 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt 0"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        ({"image": Image.new("RGB", (8, 8)), "strength": 0}, "strength 0; allowed is above 0"),
        ({"callback_on_step_end_tensor_inputs": ["unet"]}, "has unet; allowed is latents"),
        ({"prompt_embeds": torch.zeros(1, 8, 16)}, "one of the two"),
        ({"height": 64.0}, "height of type float; give one whole number"),
        ({"width": "64"}, "width of type str; give one whole number"),
        ({"num_inference_steps": 4.0}, "num_inference_steps of type float; give one whole"),
        ({"num_inference_steps": True}, "num_inference_steps of type bool"),
        ({"num_relay_steps": 2.0}, "num_relay_steps of type float"),
        ({"num_images_per_prompt": 1.0}, "num_images_per_prompt of type float"),
        ({"eta": "0.5"}, "eta of type str; give one number"),
        ({"strength": 7}, "strength 7; allowed is above 0"),
        ({"strength": "half"}, "strength of type str; give one number"),
        ({"generator": 0}, "a generator of type int; give torch.Generator"),
        ({"generator": [0]}, "a generator of type int; give torch.Generator"),
        ({"latents": [1, 2]}, "latents of type int; give a tensor"),
        ({"latents": 1}, "latents of type int; give a tensor"),
    ],
)
def test_wrong_arguments_are_answered_in_one_line(
    cascade: RelayPipeline, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RelayError, match=complaint) as refusal:
        cascade(PROMPT, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt": []}, "an empty list of prompts; give text"),
        ({"prompt": 3}, "a prompt of type int; give text"),
        ({"prompt": [PROMPT, 3]}, "a prompt of type int; give text"),
        ({"prompt": PROMPT, "negative_prompt": 3}, "a negative prompt of type int"),
        ({"prompt": PROMPT, "negative_prompt": []}, "an empty list of negative prompts"),
        ({"prompt_embeds": torch.zeros(8, 16)}, r"prompt_embeds of shape \(8, 16\); .*, L, 16\)"),
        ({"prompt_embeds": torch.zeros(1, 8, 24)}, r"shape \(1, 8, 24\); .* \(num, L, 16\)"),
        ({"prompt_embeds": torch.zeros(0, 8, 16)}, r"prompt_embeds of shape \(0, 8, 16\)"),
        ({"prompt_embeds": np.zeros((1, 8, 16))}, "prompt_embeds of type ndarray; give a tensor"),
        (
            {"prompt": PROMPT, "negative_prompt_embeds": torch.zeros(8, 16)},
            r"negative_prompt_embeds of shape \(8, 16\)",
        ),
    ],
)
@pytest.mark.parametrize("expand", [None, "scenes"])
def test_what_is_no_text_is_answered_in_one_line(
    cascade: RelayPipeline, options: dict[str, Any], expand: str | None, complaint: str
) -> None:
    with pytest.raises(RelayError, match=complaint) as refusal:
        cascade(**options, expand=SameText() if expand else None)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"image": Image.new("RGB", (8, 8)), "strength": 1.5}, "strength 1.5; allowed is above 0"),
        ({"image": "fox.png"}, "a picture of type str"),
        ({"callback_on_step_end_tensor_inputs": ["unet"]}, "has unet"),
    ],
)
def test_nothing_is_expanded_for_what_is_refused(
    cascade: RelayPipeline, options: dict[str, Any], complaint: str
) -> None:
    class Paid(SameText):
        def expand(self, prompt: str, seed: int) -> str:
            raise AssertionError("a language model was asked")

    with pytest.raises(RelayError, match=complaint):
        cascade(PROMPT, expand=Paid(), **options)


class SameText:
    """An expander that changes nothing."""

    def expand(self, prompt: str, seed: int) -> str:
        return prompt


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


def test_another_scheduler_is_told_to_have_no_effect(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = cascade(PROMPT, generator=generators(0), output_type="pt").images
    assert not caplog.messages
    other = DPMSolverMultistepScheduler.from_config(cascade.scheduler.config)
    monkeypatch.setattr(cascade, "scheduler", other)
    again = cascade(PROMPT, generator=generators(0), output_type="pt").images
    assert torch.equal(again, first)
    (line,) = caplog.messages
    assert "DPMSolverMultistepScheduler does not sample" in line
    assert "solver= (euler or multistep)" in line


@pytest.mark.parametrize(
    "options", [{"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}]
)
def test_a_scheduler_with_noise_levels_of_its_own_is_refused(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    config = cascade.scheduler.config
    other = DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="sde-dpmsolver++", **options
    )
    monkeypatch.setattr(cascade, "scheduler", other)
    with pytest.raises(RelayError, match=f"{next(iter(options))} makes another noise schedule"):
        cascade(PROMPT)
