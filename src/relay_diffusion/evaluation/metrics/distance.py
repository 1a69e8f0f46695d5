"""How far one set of pictures is from another: Fréchet and kernel distance of their features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SUBSET_SIZE = 1000
NUM_SUBSETS = 50


@dataclass(frozen=True)
class Distances:
    """Both distances of two sets.

    Attributes:
        frechet: 0 for equal sets; grows as the sets get smaller, so compare equal numbers only.
        kernel, kernel_spread: unbiased, so that small sets do; mean and standard deviation over
            subsets.
        features: the network whose features they are of.
    """

    frechet: float
    kernel: float
    kernel_spread: float
    num_pictures: int
    num_references: int
    features: str


def distances(pictures: Tensor, references: Tensor, features: str) -> Distances:
    """Both distances of two sets of vectors, (N, D) and (M, D)."""
    kernel, spread = kernel_distance(references, pictures)
    return Distances(
        frechet_distance(references, pictures),
        kernel,
        spread,
        len(pictures),
        len(references),
        features,
    )


def frechet_distance(references: Tensor, pictures: Tensor) -> float:
    """Fréchet distance of two sets of vectors, taken for normal distributions.

        |m - n|^2 + tr(S + T - 2 (S T)^(1/2)),  means m and n, covariances S and T

    FID (arXiv:1706.08500, eq. 6) with features of the caller's choice, in float64. Raises:
    ModuleNotFoundError without torchmetrics.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(references.shape[1]))
    metric.update(references.double(), real=True)
    metric.update(pictures.double(), real=False)
    return float(metric.compute())


def kernel_distance(references: Tensor, pictures: Tensor) -> tuple[float, float]:
    """Squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, mean and standard
    deviation over subsets of up to 1000, always the same ones, and of at most half of the smaller
    set, so that they differ.

    KID (arXiv:1801.01401, section 4) with features of the caller's choice. Raises:
    ModuleNotFoundError without torchmetrics.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(SUBSET_SIZE, max(2, min(len(references), len(pictures)) // 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps the features
        metric = KernelInceptionDistance(
            feature=_Given(references.shape[1]), subsets=NUM_SUBSETS, subset_size=size
        )
    metric.update(references.double(), real=True)
    metric.update(pictures.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean, spread = metric.compute()
    return float(mean), float(spread)


class _Given(nn.Module):
    """The feature network of vectors that are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
