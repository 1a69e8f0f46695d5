"""How fast the solvers converge, on data whose ideal denoiser is known in closed form.

    PYTHONPATH=src python benchmarks/solver_order.py

z_0 is a Gaussian mixture in 8 dimensions, z_lr = A z_0 + noise with A averaging pairs (all that a
half-size picture keeps). Then z_t = (1 - tau) z_0 + tau z_lr + sigma eps is a mixture too and
E[z_0 | z_t] has a closed form: no network, hence no error but the solver's. 100 trajectories a
mixture, in float64, each against the same start followed in very many steps. The guided runs ask
for the first half of a mixture's components with classifier-free guidance at CogView3's scale.

Steps are equal in the training index, on the schedule's continuous limit (the 1000 indices of the
real one would stop the refinement). Results: docs/math.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from relay_diffusion.diffusion import Solver, guide, sample_base, sample_relay

DIM = 8
LR_NOISE = 0.05
RELAY_START = 0.5  # of the schedule: T_r = 500 of 1000
ROOT_START, ROOT_END, TRAIN_STEPS = math.sqrt(0.00085), math.sqrt(0.012), 1000
SLOPE = ROOT_END - ROOT_START


def sigma_at(x: Tensor) -> Tensor:
    """Noise level at the fraction x of the schedule: -log alpha_bar is the integral of beta."""
    integral = TRAIN_STEPS * ((ROOT_START + SLOPE * x) ** 3 - ROOT_START**3) / (3 * SLOPE)
    return integral.expm1().sqrt()


def fraction_at(sigma: Tensor) -> Tensor:
    """Inverse of ``sigma_at``."""
    integral = (sigma**2).log1p()
    cubed = 3 * SLOPE * integral / TRAIN_STEPS + ROOT_START**3
    return (cubed ** (1 / 3) - ROOT_START) / SLOPE


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture for z_0 and the linear-Gaussian z_lr that goes with it.

    Shapes: weights (K,), means (K, d), covariances (K, d, d). Latents are (B, d).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def averaging(self) -> Tensor:
        """A (d, d): each pair of numbers is replaced by its mean."""
        pair = torch.full((2, 2), 0.5, dtype=torch.float64)
        return torch.block_diag(*[pair] * (self.means.shape[1] // 2))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` pairs (z_0, z_lr), each (count, d)."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        unit = normal((count, self.means.shape[1]), generator)
        factors = torch.linalg.cholesky(self.covariances)[which]
        z_0 = self.means[which] + (factors @ unit.unsqueeze(-1)).squeeze(-1)
        return z_0, z_0 @ self.averaging.T + LR_NOISE * normal(z_0.shape, generator)

    def first_half(self) -> Mixture:
        """What guidance asks for."""
        half = (len(self.weights) + 1) // 2
        return Mixture(self.weights[:half], self.means[:half], self.covariances[:half])

    def denoise(self, z: Tensor, sigma: Tensor, tau: Tensor) -> Tensor:
        """E[z_0 | z_t = z] at noise level sigma and relay fraction tau, both 0-dimensional."""
        identity = torch.eye(z.shape[1], dtype=z.dtype)
        mixing = (1 - tau) * identity + tau * self.averaging
        cross = self.covariances @ mixing.T
        noise = sigma**2 + (tau * LR_NOISE) ** 2
        factors = torch.linalg.cholesky(mixing @ cross + noise * identity)
        offsets = (z.unsqueeze(0) - (self.means @ mixing.T).unsqueeze(1)).mT  # (K, d, B)
        solved = torch.cholesky_solve(offsets, factors)
        log_density = (
            self.weights.log().unsqueeze(1)
            - factors.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
            - (offsets * solved).sum(1) / 2
        )
        posterior = self.means.unsqueeze(2) + cross @ solved
        return torch.einsum("kb,kdb->bd", log_density.softmax(0), posterior)


def mixtures() -> dict[str, Mixture]:
    """From one Gaussian, where everything is smooth, to near-points, where nothing is."""
    generator = torch.Generator().manual_seed(0)

    def isotropic(weights: list[float], means: Tensor, stds: list[float]) -> Mixture:
        variances = torch.tensor(stds, dtype=torch.float64) ** 2
        covariances = variances.view(-1, 1, 1) * torch.eye(DIM, dtype=torch.float64)
        share = torch.tensor(weights, dtype=torch.float64)
        return Mixture(share / share.sum(), means, covariances)

    def random_means(count: int) -> Tensor:
        return normal((count, DIM), generator)

    rotation = torch.linalg.qr(normal((DIM, DIM), generator)).Q
    spectrum = torch.linspace(0.2, 1.2, DIM, dtype=torch.float64) ** 2
    one = torch.ones(1, dtype=torch.float64)
    stretched = (rotation * spectrum @ rotation.T).unsqueeze(0)
    opposite = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, DIM)
    # Two variants of each coarse picture that pairwise averaging cannot tell apart.
    coarse = random_means(4).view(4, DIM // 2, 2).mean(2).repeat_interleave(2, dim=1)
    detail = torch.tensor([0.6, -0.6] * (DIM // 2), dtype=torch.float64)
    return {
        "one Gaussian, stretched": Mixture(one, torch.zeros_like(opposite[:1]), stretched),
        "2 apart, std 0.3": isotropic([1, 1], opposite, [0.3] * 2),
        "4, std 0.25": isotropic([1] * 4, random_means(4), [0.25] * 4),
        "16, std 0.1": isotropic([1] * 16, random_means(16), [0.1] * 16),
        "3 uneven, std 0.1 to 0.8": isotropic([7, 2, 1], random_means(3), [0.1, 0.4, 0.8]),
        "4 x 2 differing in detail, std 0.15": isotropic(
            [1] * 8, torch.cat([coarse + detail, coarse - detail]), [0.15] * 8
        ),
        "8 near-points, std 0.03": isotropic([1] * 8, random_means(8), [0.03] * 8),
    }


def runner(
    mixture: Mixture, stage: str, end: float, guidance: float | None = None, count: int = 100
) -> Callable[[int, Solver], Tensor]:
    """``run(num_steps, solver) -> z`` for ``count`` fixed starts, over the fractions 1 to ``end``.

    The fraction is of the stage's own part of the schedule; it is tau in the relay stage.
    """
    wanted = mixture.first_half()
    generator = torch.Generator().manual_seed(1)
    z_0, z_lr = mixture.draw(count, generator)
    eps = normal(z_0.shape, generator)
    relay = stage == "relay"
    top = RELAY_START if relay else 1.0

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        fraction = fraction_at(sigma[0]) / top
        tau = fraction if relay else torch.zeros_like(fraction)
        denoised = mixture.denoise(z, sigma[0], tau)
        if guidance is None:
            return denoised
        return guide(denoised, wanted.denoise(z, sigma[0], tau), guidance)

    def run(num_steps: int, solver: Solver) -> Tensor:
        fractions = torch.linspace(1, end, num_steps + 1, dtype=torch.float64)
        sigmas = sigma_at(fractions * top)
        if relay:
            return sample_relay(denoise, z_lr, eps, sigmas, fractions, solver=solver)
        return sample_base(denoise, z_0 + sigmas[0] * eps, sigmas, solver=solver)

    return run


def errors(
    run: Callable[[int, Solver], Tensor], counts: list[int], reference_steps: int
) -> dict[Solver, Tensor]:
    """Squared error of each trajectory, (len(counts), trajectories), for each solver."""
    reference = run(reference_steps, "multistep")
    return {
        solver: torch.stack([(run(n, solver) - reference).square().mean(1) for n in counts])
        for solver in get_args(Solver)
    }


def orders(squared: Tensor) -> tuple[float, float]:
    """Order seen between two step counts, the second twice the first: of the median, of the RMS."""
    median, mean = squared.median(1).values, squared.mean(1)
    return (
        math.log2(float(median[0] / median[1])) / 2,
        math.log2(float(mean[0] / mean[1])) / 2,
    )


def normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def print_orders(stage: str, reference_steps: int, end: float = 0.1) -> None:
    print(f"\n{stage}: order between 128 and 256 steps down to fraction {end}, median (RMS)\n")
    print("| mixture | Euler | multistep |\n|---|---|---|")
    for name, mixture in mixtures().items():
        found = errors(runner(mixture, stage, end), [128, 256], reference_steps)
        columns = ["{:.2f} ({:.2f})".format(*orders(squared)) for squared in found.values()]
        print(f"| {name} | {' | '.join(columns)} |")


def print_errors(
    stage: str, counts: list[int], guidance: float | None, reference_steps: int
) -> None:
    how = "no guidance" if guidance is None else f"guidance {guidance}"
    print(f"\n{stage}, {how}: RMS error down to sigma 0, Euler / multistep\n")
    print("| mixture | " + " | ".join(f"{n} steps" for n in counts) + " |")
    print("|---" * (len(counts) + 1) + "|")
    for name, mixture in mixtures().items():
        if guidance is not None and len(mixture.weights) == 1:
            continue  # nothing to choose between
        found = errors(runner(mixture, stage, 0.0, guidance), counts, reference_steps)
        pairs = zip(*(squared.mean(1).sqrt().tolist() for squared in found.values()), strict=True)
        cells = [f"{a:.3f} / {b:.3f}{' (Euler)' if a < b else ''}" for a, b in pairs]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference-steps", type=int, default=8192)
    reference_steps = parser.parse_args().reference_steps
    for stage, counts in (("relay", [3, 5, 10, 20, 40]), ("base", [5, 10, 25, 50, 100])):
        print_orders(stage, reference_steps)
        for guidance in (None, 7.5):
            print_errors(stage, counts, guidance, reference_steps)


if __name__ == "__main__":
    main()
