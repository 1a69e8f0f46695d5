"""Buckets keep the area, and a picture goes to the one that cuts least of it."""

from __future__ import annotations

import numpy as np
import pytest

from relay_diffusion.data.buckets import Bucket, buckets, default_multiple, nearest, view_buckets
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError


@pytest.mark.parametrize(("size", "within"), [(128, 0.07), (256, 0.07), (512, 0.07), (1024, 0.05)])
def test_the_area_is_kept_and_sides_are_multiples(size: int, within: float) -> None:
    shapes = buckets(size)
    assert len(shapes) >= 7
    for shape in shapes:
        assert shape.height % default_multiple(size) == shape.width % default_multiple(size) == 0
        assert shape.height * shape.width == pytest.approx(size**2, rel=within)
        assert max(shape.height, shape.width) <= 2 * min(shape.height, shape.width)
        assert Bucket(shape.width, shape.height) in shapes
    aspects = [shape.log_aspect for shape in shapes]
    assert aspects == sorted(aspects)


def test_the_shapes_at_512() -> None:
    shapes = {(shape.height, shape.width) for shape in buckets(512, 64)}
    tall = {(704, 384), (640, 384), (576, 448)}
    assert shapes == tall | {(width, height) for height, width in tall} | {(512, 512)}
    assert (832, 320) in {(shape.height, shape.width) for shape in buckets(512, 64, 3.0)}


def test_the_multiple_is_64_at_full_size_and_finer_below() -> None:
    sizes = (32, 96, 128, 256, 512, 1024, 2048)
    assert [default_multiple(size) for size in sizes] == [16, 16, 16, 32, 64, 64, 64]


def test_one_aspect_is_one_square() -> None:
    assert buckets(256, max_aspect=1) == (Bucket(256, 256),)
    assert view_buckets(View(512, crop=256)) == (Bucket(256, 256, size=512),)


@pytest.mark.parametrize("multiple", [0, 64])
def test_a_size_that_is_no_multiple_is_an_error(multiple: int) -> None:
    with pytest.raises(RelayError, match=r"size is 100, must be a multiple of"):
        buckets(100, multiple)


def test_pictures_go_to_the_nearest_log_aspect() -> None:
    shapes = buckets(512, 64)
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(100, 2000, (2, 500))
    found = nearest(shapes, heights, widths)
    for height, width, index in zip(heights, widths, found, strict=True):
        aspect = np.log(width / height)
        distances = [abs(shape.log_aspect - aspect) for shape in shapes]
        assert distances[index] == min(distances)


@pytest.mark.parametrize(
    ("bucket", "picture", "resized"),
    [
        (Bucket(512, 512), (1000, 1500), (512, 768)),
        (Bucket(384, 704), (1000, 1500), (469, 704)),
        (Bucket(512, 512), (100, 80), (640, 512)),
        (Bucket(256, 256, size=512), (1000, 1000), (512, 512)),
        (Bucket(256, 256, size=512), (500, 2000), (256, 1024)),
        (Bucket(256, 256, size=512), (100, 2500), (256, 6400)),  # the area would not cover it
    ],
)
def test_a_picture_just_covers_its_bucket(
    bucket: Bucket, picture: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert bucket.resized(*picture) == resized
