"""Order of convergence where E[z_0 | z_t] is known: benchmarks/solver_order.py, made small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "solver_order.py"
NAMES = ["one Gaussian, stretched", "4, std 0.25", "3 uneven, std 0.1 to 0.8"]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("solver_order", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("stage", ["base", "relay"])
@pytest.mark.parametrize("name", NAMES)
def test_euler_is_first_and_multistep_second_order(bench, stage, name):
    run = bench.runner(bench.mixtures()[name], stage, end=0.1)
    found = bench.errors(run, [64, 128], reference_steps=1024)
    orders = {solver: bench.orders(squared)[0] for solver, squared in found.items()}
    assert orders["euler"] == pytest.approx(1, abs=0.1)
    assert orders["multistep"] > 1.6
    assert (found["multistep"].median(1).values < 0.2 * found["euler"].median(1).values).all()


def test_the_closed_form_denoiser_is_the_posterior_mean(bench):
    """E[z_0 | z_t] minimises the squared error: by Monte Carlo it is orthogonal to any f(z_t)."""
    mixture = bench.mixtures()["3 uneven, std 0.1 to 0.8"]
    generator = torch.Generator().manual_seed(0)
    z_0, z_lr = mixture.draw(100_000, generator)
    sigma, tau = torch.tensor([0.7, 0.6], dtype=torch.float64)
    z = (1 - tau) * z_0 + tau * z_lr + sigma * bench.normal(z_0.shape, generator)
    error = mixture.denoise(z, sigma, tau) - z_0
    for probe in (torch.ones_like(z), z, torch.sin(3 * z)):
        correlation = (error.mT @ probe) / len(z)
        assert correlation.abs().max() < 5 * error.std() * probe.std().clamp(min=1) / len(z) ** 0.5


def test_fraction_and_sigma_are_inverse_and_follow_the_real_schedule(bench):
    x = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(bench.fraction_at(bench.sigma_at(x)), x)
    real = bench.sigma_at(torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(
        real, torch.tensor([0.5693, 1.6129, 14.61], dtype=torch.float64), rtol=0.03, atol=0
    )
