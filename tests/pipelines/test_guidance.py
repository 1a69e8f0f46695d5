"""Guidance by two halves, or embedded in a distilled network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from relay_diffusion.diffusion import guide
from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.cascade import RelayPipeline

from .test_upscale import picture
from .tiny import PROMPT, generators, record_calls


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
    with pytest.raises(RelayError, match=r"guidance 12 is outside .* the base network .*: 2 to 9"):
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


def test_a_solver_that_networks_were_not_distilled_for_is_named(
    distilled: RelayPipeline, cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade(PROMPT, solver="multistep")
    assert not caplog.messages
    distilled(PROMPT, solver="multistep")
    distilled(PROMPT, solver="multistep")
    assert caplog.messages == ["distilled networks are made for euler: multistep will look worse"]


def test_a_start_that_a_relay_was_not_distilled_for_is_named(
    distilled: RelayPipeline, cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade.upscale(picture(32, 32), strength=200)
    distilled.upscale(picture(32, 32), strength=300)
    assert not caplog.messages
    distilled.upscale(picture(32, 32), strength=200)
    assert caplog.messages == [
        "the relay network is distilled to start at 500 or 300: 200 will look worse"
    ]


def test_a_negative_prompt_that_is_not_read_is_named(
    distilled: RelayPipeline, cascade: RelayPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    cascade(PROMPT, negative_prompt="art")
    distilled(PROMPT)
    distilled(PROMPT, negative_prompt="")
    assert not caplog.messages
    distilled(PROMPT, negative_prompt="art")
    assert caplog.messages == [
        "distilled networks have no use for a negative prompt: it is not read"
    ]
