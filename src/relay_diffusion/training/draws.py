"""Random numbers that are functions: of (seed, purpose, step, sample, name), and of nothing else.

There is no generator whose state has to be saved, and a sample gets the same numbers however a
batch is split over micro-batches or processes. The hash is the SplitMix64 finaliser over a counter
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014); normals by
Box-Muller.
"""

from __future__ import annotations

import copy
import math
import zlib

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64


class Draws:
    """The random numbers of samples ``rows`` of the batch at ``step``.

    Args:
        seed: of the run.
        purpose: keeps training, preparation and validation apart.
        step: which batch.
        rows: (B,) int64, positions within the global batch; its device is where numbers are made.
        batch_size: of the global batch; only :meth:`stratified` depends on it.
    """

    def __init__(self, seed: int, purpose: str, step: int, rows: Tensor, batch_size: int) -> None:
        key = torch.zeros((), dtype=torch.int64)
        for part in (seed, zlib.crc32(purpose.encode()), step):
            key = _combine(key, part)
        self.rows = rows
        self.batch_size = batch_size
        self._batch_key = key  # stays on the CPU: to hand a GPU a number is to wait for it
        self._keys = _combine(key, rows)

    @classmethod
    def of_batch(
        cls, seed: int, purpose: str, step: int, batch_size: int, device: torch.device | str = "cpu"
    ) -> Draws:
        """For the whole batch."""
        return cls(seed, purpose, step, torch.arange(batch_size, device=device), batch_size)

    def of_rows(self, rows: Tensor) -> Draws:
        """The same numbers, of some of the samples; ``rows`` (B',) are positions among them."""
        some = copy.copy(self)
        some.rows, some._keys = self.rows[rows], self._keys[rows]
        return some

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        bits = _bits(self._keys, name, math.prod(shape))
        return (_shift(bits, 40).float() * 2**-24).view(-1, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal."""
        num = math.prod(shape)
        bits = _bits(self._keys, name, (num + 1) // 2)
        radius = (-2 * ((_shift(bits, 32).float() + 1) * 2**-32).log()).clamp_(min=0).sqrt_()
        angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2**-32)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :num].view(-1, *shape)

    def stratified(self, name: str) -> Tensor:
        """(B,) float32 in [0, 1), each uniform: of the n samples of a batch one lies in each of
        [i/n, (i+1)/n), so that every batch covers the interval evenly. Which sample gets which
        changes from batch to batch: where it stands may tell something of it, such as its shape.
        """
        device = self.rows.device
        whole = _combine(self._batch_key, torch.arange(self.batch_size, device=device))
        order = _bits(whole, f"strata of {name}", 1)[:, 0].argsort()
        u = (order[self.rows] + self.uniform(name).double()) / self.batch_size
        return u.float().clamp_(max=1 - 2**-24)


def permutation(seed: int, purpose: str, step: int, num: int) -> Tensor:
    """A random order of 0 .. num-1, (num,) int64."""
    return Draws.of_batch(seed, purpose, step, num).uniform("order").argsort(stable=True)


def _bits(keys: Tensor, name: str, num: int) -> Tensor:
    """(B, num) int64 of 64 random bits, of the samples with these keys (B,)."""
    keys = _combine(keys, zlib.crc32(name.encode()))
    return _mix(keys[:, None] + torch.arange(1, num + 1, device=keys.device) * GOLDEN)


def _combine(key: Tensor, value: Tensor | int) -> Tensor:
    step = (value + 1) * GOLDEN
    if isinstance(step, int):  # tensors wrap around by themselves
        step = (step + 2**63) % 2**64 - 2**63
    return _mix(key + step)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, num: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> num) & ((1 << (64 - num)) - 1)
