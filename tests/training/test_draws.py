"""Random numbers are functions of their key, and good ones."""

from __future__ import annotations

import math
import zlib

import pytest
import torch

from relay_diffusion.training.draws import Draws, permutation


def test_a_sample_draws_the_same_however_the_batch_is_split() -> None:
    whole = Draws.of_batch(7, "train", 3, 8)
    part = Draws(7, "train", 3, torch.tensor([5, 2]), 8)
    assert torch.equal(part.normal("eps", 4, 3), whole.normal("eps", 4, 3)[[5, 2]])
    assert torch.equal(part.uniform("t"), whole.uniform("t")[[5, 2]])
    assert torch.equal(part.stratified("t"), whole.stratified("t")[[5, 2]])


def test_every_part_of_the_key_counts() -> None:
    keys = [(7, "train", 3), (8, "train", 3), (7, "validation", 3), (7, "train", 4)]
    values = [Draws.of_batch(*key, 4).uniform("t") for key in keys]
    values.append(Draws.of_batch(7, "train", 3, 4).uniform("eps"))
    numbers = torch.cat(values)
    assert len(numbers.unique()) == len(numbers)


def test_the_order_of_drawing_does_not_count() -> None:
    a, b = Draws.of_batch(0, "train", 0, 2), Draws.of_batch(0, "train", 0, 2)
    first = a.normal("eps", 3)
    b.normal("offset", 1)
    b.uniform("t")
    assert torch.equal(b.normal("eps", 3), first)


def test_normals_are_normal() -> None:
    values = Draws.of_batch(1, "train", 0, 1000).normal("eps", 501)
    n = values.numel()
    assert abs(float(values.mean())) < 4 / math.sqrt(n)
    assert float(values.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    assert float((values**4).mean()) == pytest.approx(3, abs=4 * math.sqrt(96 / n))
    assert float(values.abs().max()) < 6.7
    # Kolmogorov-Smirnov at about the 1e-4 level.
    ordered = values.flatten().double().sort().values
    cdf = torch.special.ndtr(ordered)
    ranks = torch.arange(1, n + 1).double() / n
    assert float((cdf - ranks).abs().max()) < 2.2 / math.sqrt(n)


def test_samples_and_neighbouring_steps_are_unrelated() -> None:
    steps = [Draws.of_batch(0, "train", step, 20).normal("eps", 4000) for step in range(3)]
    rows = torch.cat(steps)
    correlation = rows @ rows.T / 4000 - torch.eye(60)
    # Off the diagonal, standard deviation 1/sqrt(4000) = 0.016.
    assert float((correlation - correlation.diag().diag()).abs().max()) < 0.08


def test_stratified_numbers_cover_the_interval_evenly() -> None:
    u = Draws.of_batch(0, "train", 5, 16).stratified("t")
    assert torch.equal((u * 16).long().sort().values, torch.arange(16))
    assert float(u.max()) < 1


def test_the_stratum_of_a_sample_is_any() -> None:
    steps = [Draws.of_batch(0, "train", step, 4).stratified("t") for step in range(2000)]
    strata = (torch.stack(steps) * 4).long()
    for sample in range(4):
        share = torch.bincount(strata[:, sample], minlength=4) / 2000
        assert float((share - 0.25).abs().max()) < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_numbers_are_those_of_splitmix64() -> None:
    """In Python's own integers, so that no device's arithmetic has a say."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    key = 0
    for part in (2**40 + 3, zlib.crc32(b"train"), 9, 5, zlib.crc32(b"t")):
        key = mix((key + (part + 1) * golden) & mask)
    bits = [mix((key + i * golden) & mask) for i in (1, 2)]
    u = Draws(2**40 + 3, "train", 9, torch.tensor([5]), 8).uniform("t", 2)
    assert u.tolist() == [[(one >> 40) * 2**-24 for one in bits]]


def test_a_permutation_is_one_and_changes_with_its_key() -> None:
    order = permutation(0, "visit", 1, 100)
    assert torch.equal(order.sort().values, torch.arange(100))
    assert not torch.equal(order, permutation(0, "visit", 2, 100))
