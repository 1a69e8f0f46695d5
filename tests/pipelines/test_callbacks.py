from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, ClassVar

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback, SDCFGCutoffCallback

from relay_diffusion.errors import RelayError
from relay_diffusion.models.guidance import guidance_embedding
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import generators, record_calls, tiny_cascade

PROMPT = "a red fox"


def test_the_callback_sees_every_step_of_every_stage(cascade: RelayPipeline) -> None:
    seen = []

    def look(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        assert pipe is cascade and set(kwargs) == {"stage", "latents", "denoised"}
        seen.append((kwargs["stage"], step, t, tuple(kwargs["latents"].shape[2:])))
        return kwargs

    cascade(
        PROMPT,
        callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=["latents", "denoised"],
    )
    assert seen == [
        (0, 0, 999, (4, 4)),
        (0, 1, 666, (4, 4)),
        (0, 2, 333, (4, 4)),
        (1, 0, 499, (8, 8)),
        (1, 1, 249, (8, 8)),
    ]


def test_the_callback_can_replace_the_latents(cascade: RelayPipeline) -> None:
    wanted = torch.randn(1, 4, 4, 4)

    def put(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {"latents": wanted} if kwargs["stage"] == 0 and step == 2 else {}

    out = cascade(PROMPT, callback_on_step_end=put, output_type="latent")
    assert torch.equal(out.stages[0], wanted)


class Unguided(PipelineCallback):
    """Diffusers' way to write one: it says which tensors it wants, and from which step on."""

    tensor_inputs: ClassVar = ["latents"]

    def callback_fn(
        self, pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        assert set(kwargs) == {"stage", "latents", "denoised"}
        if step == int(pipe.num_timesteps * self.config.cutoff_step_ratio):
            pipe._guidance_scale = 0.0
        return kwargs


class Denoised(Unguided):
    tensor_inputs: ClassVar = ["denoised"]


def test_callbacks_of_diffusers_can_end_the_guidance_of_each_stage(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = record_calls(monkeypatch, cascade.base_unet)
    relay = record_calls(monkeypatch, cascade.relay_unet)
    cutoff = MultiPipelineCallbacks([Unguided(0.5), Denoised(0.5)])
    cascade(PROMPT, num_inference_steps=4, num_relay_steps=3, callback_on_step_end=cutoff)
    assert [len(call["sample"]) for call in base] == [2, 2, 2, 1]
    assert [len(call["sample"]) for call in relay] == [2, 2, 1]


def test_embedded_guidance_follows_a_change_of_scale(
    distilled: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, distilled.base_unet)

    def lower(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        assert pipe.guidance_scale == (3.0 if kwargs["stage"] == 0 and step else 7.5)
        if kwargs["stage"] == 0:
            pipe.guidance_scale = 3.0
        return {}

    distilled(PROMPT, callback_on_step_end=lower)
    scales = [call["timestep_cond"] for call in calls]
    expected = [guidance_embedding(torch.tensor([scale]), 16) for scale in (7.5, 3, 3, 3)]
    assert all(map(torch.equal, scales, expected))


@pytest.mark.parametrize(
    ("scale", "said"),
    [(30.0, "guidance 30 is outside the range"), ([3.0], "guidance of type list; give one number")],
)
def test_a_callback_is_held_to_the_guidance_of_a_call(
    distilled: RelayPipeline, scale: Any, said: str
) -> None:
    distilled.register_to_config(guidance_range=[1.0, 8.0])

    def change(pipe: RelayPipeline, *_: Any) -> dict[str, Any]:
        pipe.guidance_scale = scale
        return {}

    with pytest.raises(RelayError, match=said):
        distilled(PROMPT, callback_on_step_end=change)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"prompt_embeds": torch.zeros(1)}, "returned prompt_embeds; latents are all"),
        ({"denoised": torch.zeros(1)}, "returned denoised; latents are all"),
        ({"latents": [1]}, r"returned latents of list; .* a tensor of shape \(1, 4, 4, 4\)"),
        ({"latents": None}, "returned latents of NoneType; they must be a tensor"),
        (torch.zeros(1), "returned a Tensor; it returns None, or a table"),
    ],
)
def test_what_a_callback_cannot_change_is_refused(
    cascade: RelayPipeline, returned: dict[str, Any], said: str
) -> None:
    with pytest.raises(RelayError, match=said):
        cascade(PROMPT, callback_on_step_end=lambda *_: returned)


@pytest.mark.parametrize(("stage", "step", "side"), [(0, 0, 4), (0, 2, 4), (1, 0, 8), (1, 1, 8)])
def test_latents_of_fewer_pictures_are_refused(
    cascade: RelayPipeline, stage: int, step: int, side: int
) -> None:
    def cut(pipe: RelayPipeline, now: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        here = (kwargs["stage"], now) == (stage, step)
        return {"latents": kwargs["latents"][:1]} if here else {}

    shapes = rf"shape \(1, 4, {side}, {side}\); .* shape \(2, 4, {side}, {side}\)"
    with pytest.raises(RelayError, match=f"callback_on_step_end returned latents of {shapes}"):
        cascade([PROMPT, "a blue fox"], callback_on_step_end=cut)


def test_a_callback_that_is_no_function_is_refused(cascade: RelayPipeline) -> None:
    with pytest.raises(RelayError, match="callback_on_step_end of type int; give a function"):
        cascade(PROMPT, callback_on_step_end=3)  # type: ignore[arg-type]


def test_runs_in_two_threads_have_each_the_scale_and_the_steps_of_its_own_stage() -> None:
    pipe = tiny_cascade(guidance_scale=4.5, relay_guidance_scale=1.0)

    def picture(watch: Any = None) -> torch.Tensor:
        made = pipe(
            PROMPT, generator=generators(0), callback_on_step_end=watch, output_type="latent"
        )
        return made.images

    in_base, in_relay = Event(), Event()
    seen = []

    def wait(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs["stage"] == 0:
            in_base.set()
            assert in_relay.wait(60)
            seen.append((pipe.guidance_scale, pipe.num_timesteps))
        return {}

    def tell(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs["stage"] == 1:
            in_relay.set()
        return {}

    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(picture, wait)
        assert in_base.wait(60)
        passing = picture(tell)
    alone = picture()
    assert seen == [(4.5, 3)] * 3
    assert torch.equal(passing, alone) and torch.equal(waiting.result(), alone)


def test_a_callback_may_make_a_picture_of_its_own() -> None:
    pipe = tiny_cascade(guidance_scale=4.5, relay_guidance_scale=1.0)

    def preview(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe.upscale(torch.zeros(1, 3, 32, 32))
        assert pipe.guidance_scale == (1.0 if kwargs["stage"] else 4.5)
        return {}

    ours, alone = (
        pipe(PROMPT, generator=generators(0), callback_on_step_end=watch, output_type="latent")
        for watch in (preview, None)
    )
    assert torch.equal(ours.images, alone.images)


def test_outside_a_run_there_is_no_scale_to_set(cascade: RelayPipeline) -> None:
    assert (cascade.guidance_scale, cascade.num_timesteps) == (1.0, 0)
    with pytest.raises(RelayError, match="is set in callback_on_step_end"):
        cascade.guidance_scale = 3.0


def test_a_callback_for_the_text_of_another_pipeline_is_refused(cascade: RelayPipeline) -> None:
    with pytest.raises(RelayError, match="has prompt_embeds; allowed is latents, denoised; guid"):
        cascade(PROMPT, callback_on_step_end=SDCFGCutoffCallback(0.5))


def test_an_interrupt_ends_the_run_with_the_estimate_at_hand(cascade: RelayPipeline) -> None:
    seen = []

    def stop(pipe: RelayPipeline, step: int, t: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        seen.append(kwargs["denoised"])
        pipe._interrupt = step == 1  # as diffusers' documentation does it
        return {}

    out = cascade(
        PROMPT,
        callback_on_step_end=stop,
        callback_on_step_end_tensor_inputs=["denoised"],
        output_type="latent",
    )
    assert len(seen) == 2 and len(out.stages) == 1
    assert torch.equal(out.images, seen[-1])
    assert len(cascade(PROMPT).stages) == 2  # the next call is not interrupted


def test_an_interrupt_while_prompts_are_encoded_counts(
    cascade: RelayPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set by another thread; encoding may take long, and expanding before it longer."""
    encode = cascade.encode_prompt

    def slowly(*args: Any) -> Any:
        cascade.interrupt = True
        return encode(*args)

    monkeypatch.setattr(cascade, "encode_prompt", slowly)
    seen: list[int] = []
    out = cascade(PROMPT, callback_on_step_end=lambda pipe, step, t, kwargs: seen.append(step))
    assert seen == [0] and len(out.stages) == 1


def test_every_stage_has_its_progress_bar(cascade: RelayPipeline, capsys: Any) -> None:
    cascade.set_progress_bar_config(disable=False)
    try:
        cascade(PROMPT, generator=generators(0))
    finally:
        cascade.set_progress_bar_config(disable=True)
    shown = capsys.readouterr().err
    assert "base 32x32: 100%" in shown and "3/3" in shown
    assert "relay 64x64: 100%" in shown and "2/2" in shown
