"""The precision of a run that names none: what its device computes in."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.devices import dtypes_of_parts, pick_dtype

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda:0", "mps"))


@pytest.fixture(params=[True, False], ids=["Ampere", "Turing"])
def computes_bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine with one GPU, which emulates bfloat16 if it does not compute in it."""
    own = bool(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or own
    )
    return own


def test_a_gpu_that_only_emulates_bfloat16_runs_in_float16(computes_bfloat16: bool) -> None:
    on_gpu = torch.bfloat16 if computes_bfloat16 else torch.float16
    assert [pick_dtype("auto", device) for device in (CPU, CUDA, MPS)] == [
        torch.float32, on_gpu, torch.bfloat16,
    ]  # fmt: skip
    assert pick_dtype("bf16", CUDA) == torch.bfloat16


def test_a_pipeline_is_opened_for_where_it_is_put(computes_bfloat16: bool) -> None:
    on_gpu = torch.bfloat16 if computes_bfloat16 else torch.float16
    assert dtypes_of_parts(None) == {"default": torch.float32, "vae": torch.float32}
    for device_map in ("cuda", "balanced"):
        assert dtypes_of_parts(None, device_map) == {"default": on_gpu, "vae": torch.float32}
    assert dtypes_of_parts(torch.float16, "cuda")["default"] == torch.float16


def test_a_dtype_may_be_named() -> None:
    half = {"default": torch.bfloat16, "vae": torch.float32}
    assert dtypes_of_parts("bfloat16") == half
    assert dtypes_of_parts({"default": "bfloat16"}) == half
    assert dtypes_of_parts("float16")["default"] == torch.float16
    assert dtypes_of_parts("auto") == dtypes_of_parts(None)
    for wrong in ("int4", 7):
        with pytest.raises(RelayError, match=f"dtype '{wrong}'; allowed is auto, float32, bfl"):
            dtypes_of_parts(wrong)  # type: ignore[arg-type]
