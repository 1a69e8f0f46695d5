from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from released import Shape, random_unet
from torch import Tensor

from relay_diffusion.diffusion import NoiseSchedule, eps_to_denoised, v_to_denoised
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser

SCHEDULE = NoiseSchedule.scaled_linear()
# 64 wide: at 32, one channel per group, group norm takes out whatever the time embedding adds.
PLAIN = Shape((64,), (1,), (1,), 1)
DISTILLED = Shape((64,), (1,), (1,), 1, guidance=16)
SIGMA = SCHEDULE.sigmas[[3, 700]]
SIZE = torch.tensor([[64.0, 96, 0, 8, 64, 96], [1344, 32, 4, 0, 1344, 32]])


@torch.no_grad()
@pytest.mark.parametrize(
    ("prediction_type", "to_denoised"),
    [("epsilon", eps_to_denoised), ("v_prediction", v_to_denoised)],
)
def test_it_scales_the_input_and_names_the_nearest_index(
    prediction_type: str, to_denoised: Callable[..., Tensor]
) -> None:
    unet, z, context = random_unet(PLAIN), torch.randn(2, 4, 4, 4), torch.randn(2, 5, 24)
    denoise = Denoiser(unet, SCHEDULE, prediction_type)(context, SIZE)
    prediction = unet(
        z / (SIGMA**2 + 1).sqrt()[:, None, None, None],
        torch.tensor([3, 700]),
        encoder_hidden_states=context,
        added_cond_kwargs={"text_embeds": torch.zeros(2, 0), "time_ids": SIZE},
    ).sample
    found = denoise(z, SIGMA * 1.0001)
    torch.testing.assert_close(found, to_denoised(z, prediction, SIGMA), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_casts_to_the_network_and_back_leave_sizes_exact() -> None:
    unet, seen = random_unet(PLAIN).bfloat16(), []
    unet.add_time_proj.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    denoise = Denoiser(unet, SCHEDULE)(torch.randn(2, 5, 24), SIZE)
    assert denoise(torch.randn(2, 4, 4, 4), SIGMA).dtype == torch.float32
    assert torch.equal(seen[0], SIZE.flatten())  # bfloat16 has no 1344


@torch.no_grad()
def test_a_network_with_room_for_the_text_as_a_whole_reads_its_mean() -> None:
    unet, z = random_unet(replace(PLAIN, whole_text=True)), torch.randn(2, 4, 4, 4)
    context, seen = torch.randn(2, 5, 24), []
    unet.add_embedding.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    Denoiser(unet, SCHEDULE)(context, SIZE)(z, SIGMA)
    torch.testing.assert_close(seen[0][:, :24], context.mean(1))
    with pytest.raises(RelayError, match="24 more than six sizes take; that must be 0, or 12"):
        Denoiser(unet, SCHEDULE)(context[..., :12], SIZE)


@torch.no_grad()
def test_embedded_guidance_changes_the_estimate_per_sample() -> None:
    unet, z, context = random_unet(DISTILLED), torch.randn(2, 4, 4, 4), torch.randn(2, 5, 24)
    denoiser = Denoiser(unet, SCHEDULE)
    seven = denoiser(context, SIZE, guidance=7.0)(z, SIGMA)
    mixed = denoiser(context, SIZE, guidance=torch.tensor([7.0, 3.0]))(z, SIGMA)
    three = denoiser(context, SIZE, guidance=3.0)(z, SIGMA)
    assert float((seven - three)[1].norm() / three[1].norm()) > 0.01
    torch.testing.assert_close(mixed, torch.stack([seven[0], three[1]]))


@pytest.mark.parametrize(("shape", "guidance"), [(PLAIN, 7.5), (DISTILLED, None)])
def test_guidance_that_would_be_ignored_or_is_missing_is_an_error(
    shape: Shape, guidance: Any
) -> None:
    with pytest.raises(RelayError, match="guidance"):
        Denoiser(random_unet(shape), SCHEDULE)(torch.zeros(1, 5, 24), SIZE[:1], guidance)


def test_gradients_reach_the_network_and_the_text() -> None:
    unet, context = random_unet(PLAIN), torch.randn(2, 5, 24, requires_grad=True)
    Denoiser(unet, SCHEDULE)(context, SIZE)(
        torch.randn(2, 4, 4, 4), SIGMA
    ).square().sum().backward()
    assert context.grad is not None and context.grad.abs().sum() > 0
    without = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("learns", [False, True])
def test_under_autocast_the_text_is_cast_once_and_nothing_changes(learns: bool) -> None:
    unet, seen = random_unet(PLAIN), []
    context, z = torch.randn(2, 5, 24, requires_grad=learns), torch.randn(2, 4, 4, 4)
    for name, part in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            part.register_forward_hook(lambda _, given, __: seen.append(given[0].dtype))
    added = {"text_embeds": torch.zeros(2, 0), "time_ids": SIZE}
    c_in = (SIGMA**2 + 1).rsqrt()[:, None, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = Denoiser(unet, SCHEDULE)(context, SIZE)(z, SIGMA)
        dtypes = set(seen)
        prediction = unet(c_in * z, SCHEDULE.nearest(SIGMA), context, added_cond_kwargs=added)
    assert dtypes == {torch.float32 if learns else torch.bfloat16}
    assert torch.equal(found, eps_to_denoised(z, prediction.sample.float(), SIGMA))


def test_unknown_prediction_type_is_named() -> None:
    with pytest.raises(RelayError, match=r"'sample'.*epsilon"):
        Denoiser(random_unet(PLAIN), SCHEDULE, "sample")
