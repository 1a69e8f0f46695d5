from __future__ import annotations

import re

import pytest

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.sizes import parse_size, stages_for


@pytest.mark.parametrize(
    ("height", "width", "base_size", "stages"),
    [
        (512, 512, 512, [(512, 512)]),
        (256, 256, 512, [(256, 256)]),
        (1024, 1024, 512, [(512, 512), (1024, 1024)]),
        (2048, 2048, 512, [(512, 512), (1024, 1024), (2048, 2048)]),
        (1024, 1536, 512, [(256, 384), (512, 768), (1024, 1536)]),
        (768, 384, 512, [(384, 192), (768, 384)]),
    ],
)
def test_a_picture_is_halved_while_its_area_is_above_that_of_the_base(
    height: int, width: int, base_size: int, stages: list[tuple[int, int]]
) -> None:
    assert stages_for(height, width, base_size, 32) == stages


@pytest.mark.parametrize(("height", "width"), [(1000, 1000), (300, 200), (10, 900), (513, 512)])
def test_an_impossible_size_is_refused_with_the_nearest_possible_ones(
    height: int, width: int
) -> None:
    with pytest.raises(RelayError, match=f"size {width}x{height} cannot be made") as refusal:
        stages_for(height, width, 128, 16)
    nearest = re.findall(r"(\d+)x(\d+)", str(refusal.value).split(";")[1])
    assert nearest
    for near_width, near_height in nearest:
        stages = stages_for(int(near_height), int(near_width), 128, 16)
        assert all(side % 16 == 0 for side in stages[0])


def test_the_nearest_size_is_nearest() -> None:
    with pytest.raises(RelayError, match="256x256"):
        stages_for(250, 260, 128, 16)


@pytest.mark.parametrize(("height", "width"), [(0, 64), (64, -64)])
def test_a_size_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(RelayError, match="1 or more"):
        stages_for(height, width, 128, 16)


def test_sizes_are_width_by_height() -> None:
    assert parse_size("256") == (256, 256)
    assert parse_size("1536x1024") == (1536, 1024)
    for wrong in ("", "x", "256x", "1x2x3", "-5", "2.5"):
        with pytest.raises(RelayError, match="WIDTHxHEIGHT"):
            parse_size(wrong)
