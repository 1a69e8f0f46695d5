"""Adapters in a cascade can be weighed, switched, made part of the weights, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.errors import RelayError

from .test_lora import add_adapters
from .tiny import tiny_cascade


def test_a_cascade_is_not_saved_with_adapters_in_it(tmp_path: Path) -> None:
    pipe = tiny_cascade()
    add_adapters(pipe, False, 0.2, "relay_unet")
    with pytest.raises(RelayError, match=r"relay_unet has adapters.*unload_lora_weights\(\) only"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
