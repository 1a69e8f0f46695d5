from __future__ import annotations

from typing import Any

import pytest
import torch

from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import generators

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
