"""The samplers on denoisers whose answer is known; their order is in test_solver_order.py."""

from __future__ import annotations

import math

import pytest
import torch

from relay_diffusion.diffusion import NoiseSchedule, relay_mean, sample_base, sample_relay

SCHEDULE = NoiseSchedule.scaled_linear()
SOLVERS = ["euler", "multistep"]


def draw(count: int, *shape: int, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def curved(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A denoiser that depends on z and sigma in a way no solver integrates exactly."""
    sigma = sigma.to(z.dtype).view(-1, *(1 for _ in z.shape[1:]))
    return torch.tanh(z / (1 + sigma**2)) + 0.3 * torch.cos(z + sigma)


@pytest.mark.parametrize("solver", SOLVERS)
def test_base_with_an_oracle_stays_on_the_path_and_ends_at_the_truth(solver):
    z_0, eps = draw(2, 2, 4, 3, 3)
    sigmas = SCHEDULE.sample_sigmas(10).double()
    seen = []

    def on_path(step, sigma, z, denoised):
        assert sigma == sigmas[step].item()
        torch.testing.assert_close(z, z_0 + sigmas[step + 1] * eps)
        seen.append(step)

    z = sample_base(
        lambda z, sigma: z_0, z_0 + sigmas[0] * eps, sigmas, solver=solver, callback=on_path
    )
    assert torch.equal(z, z_0) and seen == list(range(10))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_relay_with_an_oracle_stays_on_the_path_and_ends_at_the_truth(solver, num_steps):
    z_0, z_lr, eps = draw(3, 2, 4, 3, 3)
    sigmas = SCHEDULE.relay_sigmas(num_steps).double()

    def on_path(step, sigma, z, denoised):
        tau = 1 - (step + 1) / num_steps
        torch.testing.assert_close(z, relay_mean(z_0, z_lr, tau) + sigmas[step + 1] * eps)

    z = sample_relay(lambda z, sigma: z_0, z_lr, eps, sigmas, solver=solver, callback=on_path)
    assert torch.equal(z, z_0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_lemma_relay_is_plain_diffusion_of_y(solver, eta):
    """y = (z - tau z_lr) / (1 - tau) at s = sigma / (1 - tau), both sampled to the end."""
    z_lr, eps = draw(2, 2, 4, 3, 3)
    taus = torch.linspace(0.95, 0, 9, dtype=torch.float64)
    sigmas = torch.linspace(1.5, 0, 9, dtype=torch.float64)
    z = sample_relay(
        curved, z_lr, eps, sigmas, taus, solver=solver, eta=eta, generator=generators(1, 2)
    )
    levels = sigmas / (1 - taus)

    def denoise_y(y, s):
        i = int((levels - s[0]).abs().argmin())
        return curved((1 - taus[i]) * y + taus[i] * z_lr, sigmas[i].expand(2))

    # z = z_lr + sigma eps at the first tau is y = z_lr + s eps.
    y = sample_base(
        denoise_y, z_lr + levels[0] * eps, levels, solver=solver, eta=eta,
        generator=generators(1, 2),
    )  # fmt: skip
    torch.testing.assert_close(z, y, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_lemma_holds_in_the_limit_of_a_start_at_tau_one(solver):
    """tau = 1 is y at infinite noise; the w form after it is that of a tau just below 1."""
    z_lr, eps = draw(2, 2, 4, 3, 3)
    sigmas = SCHEDULE.relay_sigmas(6).double()
    taus = torch.linspace(1, 0, 7, dtype=torch.float64)
    at_one = sample_relay(curved, z_lr, eps, sigmas, taus, solver=solver)
    w = (1 - taus[:-1]) / sigmas[:-1]
    y, estimates = None, []  # written out in y, from the first step on
    for i in range(6):
        z = z_lr + sigmas[0] * eps if i == 0 else (1 - taus[i]) * y + taus[i] * z_lr
        estimates.append(curved(z, sigmas[i].expand(2)))
        ahead = estimates[i]
        if solver == "multistep" and i == 1:
            ahead = ahead + (w[2] - w[1]) / (2 * w[1]) * (estimates[1] - estimates[0])
        elif solver == "multistep" and 1 < i < 5:
            last, now, after = w[i - 1 : i + 2].log()
            ahead = ahead + (after - now) / (2 * (now - last)) * (estimates[i] - estimates[i - 1])
        if i == 0:  # z / sigma - tau z_lr / sigma = w y is finite at w = 0: it is eps
            y = (eps + w[1] * ahead) / w[1]
        else:
            w_after = w[i + 1] if i < 5 else torch.tensor(math.inf, dtype=torch.float64)
            y = (w[i] / w_after) * y + (1 - w[i] / w_after) * ahead
    torch.testing.assert_close(at_one, y, rtol=0, atol=1e-6)


def test_relay_at_tau_zero_is_the_base_stage():
    z_lr, eps = draw(2, 2, 4, 3, 3)
    sigmas = SCHEDULE.sample_sigmas(8).double()
    relay = sample_relay(curved, z_lr, eps, sigmas, [0.0] * 9, solver="multistep")
    base = sample_base(curved, z_lr + sigmas[0] * eps, sigmas, solver="multistep")
    torch.testing.assert_close(relay, base)


def test_multistep_is_dpm_solver_2m_on_the_base_stage():
    (z,) = draw(1, 2, 4, 3, 3)
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.0], dtype=torch.float64)
    expected, before = z, None
    for i in range(3):  # arXiv:2211.01095, algorithm 2, in variance-exploding form
        denoised = curved(expected, sigmas[i].expand(2))
        h = (sigmas[i] / sigmas[i + 1]).log()
        ahead = denoised
        if before is not None:
            q = (sigmas[i - 1] / sigmas[i]).log() / h
            ahead = (1 + 1 / (2 * q)) * denoised - 1 / (2 * q) * before
        expected = (-h).exp() * expected - torch.expm1(-h) * ahead
        before = denoised
    torch.testing.assert_close(sample_base(curved, z, sigmas, solver="multistep"), expected)


def test_multistep_with_eta_extrapolates_to_the_next_level():
    (z,) = draw(1, 2, 4, 3, 3)
    s0, s1, s2, eta = 4.0, 2.0, 1.0, 0.6
    noise = [torch.randn(z.shape, generator=g, dtype=z.dtype) for g in generators(7) * 2]
    delta = [eta * b * math.sqrt(1 - (b / a) ** 2) for a, b in ((s0, s1), (s1, s2))]
    down = [math.sqrt(s**2 - d**2) for s, d in zip((s1, s2), delta, strict=True)]
    first = curved(z, torch.full((2,), s0))
    middle = down[0] / s0 * z + (1 - down[0] / s0) * first + delta[0] * noise[0]
    second = curved(middle, torch.full((2,), s1))
    ahead = second + math.log(s1 / s2) / (2 * math.log(s0 / s1)) * (second - first)
    expected = down[1] / s1 * middle + (1 - down[1] / s1) * ahead + delta[1] * noise[1]
    stepped = sample_base(
        curved, z, [s0, s1, s2], solver="multistep", eta=eta, generator=generators(7)[0]
    )
    torch.testing.assert_close(stepped, expected)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_with_fresh_noise_multistep_keeps_the_variance_as_without(eta):
    """Of z_0 standard normal, whose denoiser is known; Euler loses 6 to 12% of it."""
    levels = SCHEDULE.sample_sigmas(25).double()
    levels = levels[levels > SCHEDULE.sigmas[100]]
    [g] = generators(7)
    start = (1 + levels[0] ** 2).sqrt()
    z = start * torch.randn(200_000, 1, 1, 1, generator=g, dtype=torch.float64)

    def denoise(z, sigma):
        return z / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    kept = {
        solver: sample_base(denoise, z, levels, solver, eta, g).var() / (1 + levels[-1] ** 2)
        for solver in ("euler", "multistep")
    }
    assert kept["multistep"] == pytest.approx(1, abs=0.015)
    assert kept["euler"] < 0.95


def test_a_denoiser_may_reuse_its_memory():
    (z,) = draw(1, 2, 4, 3, 3)
    memory = torch.empty_like(z)

    def static(z, sigma):
        return memory.copy_(curved(z, sigma))

    levels = [4.0, 2.0, 1.0, 0.0]
    torch.testing.assert_close(
        sample_base(static, z, levels, "multistep"), sample_base(curved, z, levels, "multistep")
    )


def test_a_callback_cannot_change_the_shape():
    (z,) = draw(1, 2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"callback returned has shape \(1, .* \(2, "):
        sample_base(curved, z, [1.0, 0.0], callback=lambda i, sigma, z, denoised: z[:1])


def test_base_with_eta_one_is_the_ddpm_posterior_step():
    """Against the variance-preserving formula of DDPM (arXiv:2006.11239, equations 6 and 7)."""
    (z,) = draw(1, 2, 4, 3, 3)
    sigma, sigma_next = 3.0, 1.2
    [g] = generators(7)
    stepped = sample_base(curved, z, [sigma, sigma_next], eta=1.0, generator=g)
    alpha_bar, alpha_bar_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    alpha = alpha_bar / alpha_bar_next
    z_0 = curved(z, torch.full((2,), sigma))
    mean = (
        math.sqrt(alpha_bar_next) * (1 - alpha) / (1 - alpha_bar) * z_0
        + math.sqrt(alpha) * (1 - alpha_bar_next) / (1 - alpha_bar) * math.sqrt(alpha_bar) * z
    )
    variance = (1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha)
    [g] = generators(7)
    noise = torch.randn(z.shape, generator=g, dtype=z.dtype)
    expected = (mean + math.sqrt(variance) * noise) / math.sqrt(alpha_bar_next)
    torch.testing.assert_close(stepped, expected)


def test_relay_with_eta_one_is_the_ddpm_posterior_step_of_y():
    z_lr, eps = draw(2, 2, 4, 3, 3)
    sigma, sigma_next, tau, tau_next = 1.4, 0.9, 0.7, 0.4
    [g] = generators(7)
    stepped = sample_relay(
        curved, z_lr, eps, [sigma, sigma_next], [tau, tau_next], eta=1.0, generator=g
    )
    z = z_lr + sigma * eps
    y, s, s_next = (z - tau * z_lr) / (1 - tau), sigma / (1 - tau), sigma_next / (1 - tau_next)
    kept = s_next**2 / s**2
    [g] = generators(7)
    noise = torch.randn(z.shape, generator=g, dtype=z.dtype)
    y_0 = curved(z, torch.full((2,), sigma))
    y = kept * y + (1 - kept) * y_0 + s_next * math.sqrt(1 - kept) * noise
    torch.testing.assert_close((stepped - tau_next * z_lr) / (1 - tau_next), y)


def test_eta_one_from_tau_one_replaces_all_noise():
    z_0, z_lr, eps = draw(3, 2, 4, 3, 3)
    [g] = generators(7)
    z = sample_relay(lambda z, sigma: z_0, z_lr, eps, [1.6, 1.0], [1, 0.5], eta=1.0, generator=g)
    [g] = generators(7)
    noise = torch.randn(z.shape, generator=g, dtype=z.dtype)
    torch.testing.assert_close(z, (z_0 + z_lr) / 2 + noise)


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_eta_keeps_the_noise_level(eta):
    """With an oracle, z - mean is pure noise: its size must be sigma whatever share is fresh."""
    z_0 = torch.zeros(1, 1, 200, 200)
    z_lr, eps = torch.ones_like(z_0), torch.randn(z_0.shape, generator=generators(0)[0])
    sigmas = SCHEDULE.relay_sigmas(5)

    def callback(step, sigma, z, denoised):
        if step < 4:
            mean = 1 - (step + 1) / 5
            assert (z - mean).std().item() == pytest.approx(sigmas[step + 1].item(), rel=0.02)

    sample_relay(
        lambda z, sigma: z_0, z_lr, eps, sigmas, eta=eta, generator=generators(5)[0],
        solver="multistep", callback=callback,
    )  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_picture_does_not_depend_on_what_else_is_in_the_batch(solver):
    z_lr, eps = draw(2, 3, 4, 3, 3, dtype=torch.float32)
    sigmas = SCHEDULE.relay_sigmas(6)
    together = sample_relay(
        curved, z_lr, eps, sigmas, eta=0.5, solver=solver, generator=generators(10, 11, 12)
    )
    alone = sample_relay(
        curved, z_lr[1:2], eps[1:2], sigmas, eta=0.5, solver=solver, generator=generators(11)
    )
    torch.testing.assert_close(together[1:2], alone, rtol=1e-6, atol=1e-6)


def test_a_shorter_list_of_levels_starts_part_way():
    (z,) = draw(1, 2, 4, 3, 3)
    sigmas = SCHEDULE.sample_sigmas(10).double()
    kept = {}
    whole = sample_base(curved, z, sigmas, callback=lambda i, s, z, d: kept.update({i: z}))
    assert torch.equal(sample_base(curved, kept[3], sigmas[4:]), whole)


def test_callback_replaces_the_latents():
    (z,) = draw(1, 1, 4, 3, 3)
    seen = []

    def denoise(z, sigma):
        seen.append(z)
        return curved(z, sigma)

    sample_base(denoise, z, [2.0, 1.0, 0.5], callback=lambda *_: torch.full_like(z, 9.0))
    assert torch.equal(seen[1], torch.full_like(z, 9.0))


def test_denoise_gets_sigma_per_sample_and_latents_stay_in_float32():
    z_lr, eps = draw(2, 3, 4, 2, 2, dtype=torch.bfloat16)
    sigmas = SCHEDULE.relay_sigmas(4)
    seen = []

    def denoise(z, sigma):
        assert z.dtype == sigma.dtype == torch.float32 and sigma.shape == (3,)
        seen.append(sigma[0].item())
        return curved(z, sigma).bfloat16()

    z = sample_relay(denoise, z_lr, eps, sigmas, solver="multistep")
    assert z.dtype == torch.float32 and seen == sigmas[:-1].tolist()


@pytest.mark.parametrize("solver", SOLVERS)
def test_inputs_are_untouched(solver):
    z_lr, eps = draw(2, 2, 4, 3, 3)
    sigmas, taus = SCHEDULE.relay_sigmas(4), torch.linspace(1, 0, 5)
    inputs = [z_lr, eps, sigmas, taus]
    copies = [value.clone() for value in inputs]
    sample_relay(curved, z_lr, eps, sigmas, taus, solver=solver, eta=0.5)
    sample_base(curved, z_lr, sigmas, solver=solver, eta=0.5)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_the_same_seed_gives_the_same_noise():
    (z,) = draw(1, 2, 4, 3, 3)
    runs = [
        sample_base(curved, z, [3.0, 1.0, 0.0], eta=1.0, generator=generators(seed)[0])
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


Z = torch.zeros(2, 4, 3, 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sample_base(curved, Z, [2.0, 1.0], solver="heun"), "euler or multistep"),
        (lambda: sample_base(curved, Z, [2.0, 1.0], eta=1.5), "eta 1.5"),
        (lambda: sample_base(curved, Z, [1.0, 2.0]), "strictly descending"),
        (lambda: sample_base(curved, Z, [1.0]), "two or more"),
        (lambda: sample_base(curved, Z, [1.0, math.nan]), "strictly descending"),
        (lambda: sample_base(curved, Z, [1.0, -1.0]), "0 or above"),
        (lambda: sample_base(curved, Z, [2.0, 1.0], generator=generators(1)), "1 generators for 2"),
        (lambda: sample_base(lambda z, s: z[:1], Z, [2.0, 1.0]), "denoise gave"),
        (lambda: sample_relay(curved, Z, Z[:1], [2.0, 1.0]), "eps has shape"),
        (lambda: sample_relay(curved, Z, Z, [2.0, 1.0], [1.0, 0.5, 0.0]), "3 taus for 2 sigmas"),
        (lambda: sample_relay(curved, Z, Z, [2.0, 1.0, 0], [1.0, 1.0, 0]), "below 1 from"),
        (lambda: sample_relay(curved, Z, Z, [2.0, 1.0], [0.2, 0.5]), "taus must fall"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
