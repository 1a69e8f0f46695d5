"""Distances against what they are for normal distributions, and the features they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.judge.network import NO_TINT, Answers, JudgeNetwork
from relay_diffusion.evaluation.metrics.distance import (
    distances,
    frechet_distance,
    kernel_distance,
)
from relay_diffusion.evaluation.metrics.features import (
    InceptionFeatures,
    JudgeFeatures,
    as_bytes,
    features_of,
    in_batches,
)

pytest.importorskip("torchmetrics")
CPU = torch.device("cpu")
D = 4


def normal(num: int, mean: Tensor, spread: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + spread * torch.randn(num, D, generator=generator, dtype=torch.float64)


A, B = torch.tensor([1.0, 0.0, -1.0, 0.5]).double(), torch.tensor([0.0, 2.0, -1.0, 0.0]).double()
S, T = 1.0, 1.5


def test_frechet_distance_is_that_of_two_normals() -> None:
    """|a - b|^2 + D (s - t)^2 for N(a, s^2 I) and N(b, t^2 I)."""
    expected = float((A - B).square().sum() + D * (S - T) ** 2)
    measured = frechet_distance(normal(40_000, A, S, 1), normal(40_000, B, T, 2))
    assert measured == pytest.approx(expected, rel=0.02)


def kernel_mean(a: Tensor, b: Tensor, s: float, t: float) -> float:
    """E (x.y / D + 1)^3 for independent x of N(a, s^2 I) and y of N(b, t^2 I)."""
    ab, aa, bb = float(a @ b), float(a @ a), float(b @ b)
    second = D * s**2 * t**2 + s**2 * bb + t**2 * aa + ab**2
    third = ab**3 + 3 * ab * t**2 * aa + 3 * s**2 * ab * (bb + (D + 2) * t**2)
    return 1 + 3 * ab / D + 3 * second / D**2 + third / D**3


def test_kernel_distance_is_that_of_two_normals() -> None:
    expected = kernel_mean(A, A, S, S) + kernel_mean(B, B, T, T) - 2 * kernel_mean(A, B, S, T)
    mean, spread = kernel_distance(normal(6000, A, S, 1), normal(6000, B, T, 2))
    assert mean == pytest.approx(expected, rel=0.1)
    assert 0 < spread < mean


def test_equal_sets_are_at_no_distance_and_the_subsets_are_always_the_same() -> None:
    x, y = normal(1500, A, S, 1), normal(1200, A, S, 2)
    state = torch.get_rng_state()
    found = distances(x, y, "given")
    assert found == distances(x, y, "given")
    assert torch.equal(state, torch.get_rng_state())
    assert abs(found.frechet) < 0.05 and abs(found.kernel) < 0.05
    assert (found.num_pictures, found.num_references, found.features) == (1500, 1200, "given")


def judge_network() -> JudgeNetwork:
    return JudgeNetwork(Answers(("fox",), (NO_TINT,), ("white",), ("flat",)), width=8)


def test_the_judge_sees_8_bit_pictures_brought_to_its_size() -> None:
    features = JudgeFeatures(judge_network())
    small = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    expected = features.network.features(small.float() / 127.5 - 1)
    assert torch.equal(features(small), expected)
    assert features(large).shape == (2, 48)


def test_pictures_of_several_sizes_are_taken_in_order() -> None:
    pictures = [Image.new("RGB", (side, side), (side, 0, 0)) for side in (16, 16, 32, 16, 16)]
    batches = list(in_batches(pictures, 2))
    assert [[p.size[0] for p in batch] for batch in batches] == [[16, 16], [32], [16, 16]]
    assert as_bytes(pictures[:2])[0, 0, 0, 0] == 16
    assert features_of(JudgeFeatures(judge_network()), pictures, CPU).shape == (5, 48)


class Mean(torch.nn.Module):
    def forward(self, x: Tensor, return_features: bool) -> Tensor:
        assert return_features
        return x.float().mean((2, 3))


def test_inception_is_read_from_torchscript_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "inception.pt"
    torch.jit.script(Mean()).save(str(file))
    network = InceptionFeatures.from_file(file)
    assert network(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8)).tolist() == [[7, 7, 7]]
    file.write_bytes(b"no network")
    with pytest.raises(RelayError, match="no TorchScript"):
        InceptionFeatures.from_file(file)
