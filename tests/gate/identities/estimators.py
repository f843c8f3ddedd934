"""Identities of the estimators: unbiasedness, optimal baselines, variances, bounded reward."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from analysis import bounded as theory
from analysis import estimators
from paper_checks.conformance import identities, witnesses
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import Dataset
from solvers.families.baselines import OptimalBaseline
from solvers.families.gaussian import Gaussian
from solvers.rewards import bounded
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.estimators import Estimator, Pathwise, ScoreFunction
from tests.gate.identities.common import data_with_moments
from tests.gate.identities.policy_gradients import (
    derived_policy_gradient,
    one_outcome,
    solver_gradient,
)

NODES = 5  # per coordinate: exact to degree 9, and squared estimates have degree 8 at most


def expected_gradient(problem: Problem, estimator: Estimator, M: int) -> None:
    """Exact expectation of an unbiased estimator, by quadrature over the noise."""

    def estimates(epsilon: np.ndarray) -> Any:
        noise = torch.as_tensor(epsilon).mT[..., None, None]
        source = witnesses.FixedNoise(noise)
        return solver_gradient(problem, estimator, one_outcome(problem), source)

    got, want = identities.expectation(estimates, problem.n, M), derived_policy_gradient(problem)
    for part in ("m", "L"):
        name = f"E ∂J/∂{part}, {estimator}"
        identities.agree_on_policy_gradient(name, part, got, want, problem, problem)


def optimal_baseline(problem: Problem) -> None:
    """The constant baselines are the derived ones, and of least variance among all constants.

    All outcomes share their noise, so that the estimate is that of the reward averaged over the
    data. In whitened coordinates every entry is `(r̄ - b) g` with `g = ε_j` or `(εεᵀ - I)_ij`; the
    least variance over `b` needs the moments `E r̄²g²`, `E r̄g²`, `E g²` only.
    """
    data, n = data_with_moments(problem), problem.n
    nodes, weights = witnesses.gauss_hermite_grid(n, NODES)
    shared = nodes[:, :, None, None, None].expand(-1, n, 1, data.y.shape[-2], 1)
    g, h = whitened_estimates(problem, data, shared)
    plain = torch.einsum("ki,kj->kij", nodes, nodes) - torch.eye(n, dtype=torch.float64)
    values = problem.tensors()
    r = witnesses.reward(
        (values["m"] + nodes @ torch.linalg.cholesky(values["P"]).T)[:, None],
        data.y[0],
        values["U"],
    ).mean(1)
    pairs = [(f"ε_{j}", g[:, j], nodes[:, j]) for j in range(n)]
    pairs += [(f"(εεᵀ-I)_{i}{j}", h[:, i, j], plain[:, i, j]) for i in range(n) for j in range(n)]
    for name, estimate, score in pairs:
        mean = (weights * r * score).sum()
        least = (weights * (r * score) ** 2).sum() - mean**2
        least = least - (weights * r * score**2).sum() ** 2 / (weights * score**2).sum()
        variance = (weights * estimate**2).sum() - (weights * estimate).sum() ** 2
        size = float((weights * (r * score) ** 2).sum())
        claim = f"least variance for {name}"
        agree(claim, variance, least, rtol=1e-9, scale=size, inputs=problem)
    L = np.linalg.cholesky(problem.P)
    at = problem.pick("m", "mu", "U", "Sigma") | {"L": L if n > 1 else float(L[0, 0])}
    b = np.atleast_1d(estimators.baselines.matrix("mean", n).at(side="derived", **at))
    B = np.reshape(estimators.baselines.matrix("scale", n).at(side="derived", **at), (n, n))
    rtol, scale = closed_form(problem.P), float(r.abs().max())
    want = (r.numpy()[:, None] - b) * nodes.numpy()
    agree("(r - b)ε, b derived", g, want, rtol=rtol, scale=scale, inputs=problem)
    want = (r.numpy()[:, None, None] - B) * plain.numpy()
    agree("(r - B)(εεᵀ-I), B derived", h, want, rtol=rtol, scale=scale, inputs=problem)


def whitened_estimates(
    problem: Problem,
    data: Dataset,
    noise: torch.Tensor,
    baseline: OptimalBaseline = "optimal",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `Lᵀ∇_m` and `Lᵀ∇_L` of the score function for noise `(K, n, 1, S, 1)`."""
    t, K, n = problem.tensors(), len(noise), problem.n
    L = torch.linalg.cholesky(t["P"])
    mean = t["m"].expand(K, 1, n).clone().requires_grad_()
    scale = L.expand(K, 1, n, n).clone().requires_grad_()
    source = witnesses.FixedNoise(noise)
    reward = MahalanobisReward.full(t["U"])
    surrogate = ScoreFunction(1, baseline)(Gaussian(mean, scale), data, reward, source)
    slopes = torch.autograd.grad(surrogate.sum(), [mean, scale])
    return slopes[0][:, 0] @ L, L.T @ slopes[1][:, 0]


def per_outcome_is_optimal_for_each(problem: Problem) -> None:
    """The baseline that knows the outcome is the optimal constant one of each outcome alone."""
    data = data_with_moments(problem)
    S = data.y.shape[1]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, problem.n, 1, S, 1, generator=generator, dtype=torch.float64)
    got = whitened_estimates(problem, data, noise, "optimal-per-outcome")
    alone = [
        whitened_estimates(problem, Dataset.of(data.x, data.y[:, [s]]), noise[:, :, :, [s]])
        for s in range(S)
    ]
    for k, name in enumerate(("m", "L")):
        want = torch.stack([one[k] for one in alone]).mean(0)
        scale = float(torch.stack([one[k] for one in alone]).abs().max())
        rtol = closed_form(problem.P)
        agree(f"∂/∂{name}, outcome by outcome", got[k], want, rtol=rtol, scale=scale,
              inputs=problem)  # fmt: skip


def variances(problem: Problem, M: int) -> None:
    """Variances in `(m, log s)` for n = 1, the reward averaged over data: derived, by quadrature.

    `(m, log s)` is `(ε/s, ε²-1)` in the whitened score, so `∂/∂log s = s ∂/∂s`.
    """
    lam, delta = problem.lam, float(problem.m[0] - problem.mu[0])
    u, s, sigma = float(problem.U[0, 0]), problem.P[0, 0] ** 0.5, problem.Sigma[0, 0] ** 0.5
    at = {"u": u, "delta": delta, "s": s}
    want = {
        "optimal": (
            1,
            estimators.score_function.minimal_variance("averaged").at(side="derived", **at),
        ),
        "leave-one-out": (
            M,
            estimators.score_function.leave_one_out_variance().at(
                side="derived", **at, generations=M
            ),
        ),
        "pathwise": (
            1,
            estimators.score_function.pathwise_variance("averaged").at(side="derived", **at),
        ),
    }
    data = data_with_moments(problem)
    S = data.y.shape[-2]
    for name, (count, variance) in want.items():
        estimator = Pathwise(count) if name == "pathwise" else ScoreFunction(count, name)  # pyright: ignore[reportArgumentType]
        nodes, weights = witnesses.gauss_hermite_grid(count, NODES)
        noise = nodes[:, None, :, None, None].expand(-1, 1, count, S, 1)
        slopes = solver_gradient(problem, estimator, data, witnesses.FixedNoise(noise))
        # without the entropy's slope, which is the same at every node
        g = torch.stack([slopes[0][:, 0], s * slopes[1][:, 0, 0] - lam], 1)
        mean = (weights[:, None] * g).sum(0)
        got = (weights[:, None] * (g - mean) ** 2).sum(0)
        size = u**2 * (delta**2 + s**2 + sigma**2) ** 2 * max(1.0, 1 / s**2)
        agree(f"Var, {name}, M = {count}", got, variance, rtol=1e-9, scale=size, inputs=problem)


def bounded_inner_solution(n: int, omega: float, beta: float, share: float) -> None:
    """`s*` is a root of the derived slope of `J`, below the derived `s̄`; `λ_c` is the derived."""
    variance, width = (torch.tensor(v, dtype=torch.float64) for v in (beta**2, omega))
    inputs = {"n": n, "omega": omega, "beta": beta, "share": share}
    limit = float(bounded.critical_lam(width, variance, n))
    at = {"omega": omega, "beta": beta}
    want = theory.inner.critical_weight(None).at(side="derived", n=n, **at)
    agree("λ_c", limit, want, rtol=1e-12, inputs=inputs)
    lam = torch.tensor(share * limit, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bounded.NoGlobalMaximumWarning)
        found = bounded.inner_solution(
            bounded.BoundedReward(width), lam, torch.zeros(n).double(), variance
        )
    s = float(found.value.scale[0] ** 2)
    slope = theory.inner.slope(None).at(side="derived", n=n, lam=float(lam), s=s, **at)
    scale = n / (2 * s) * float(lam)  # of the two terms that cancel
    agree("dJ/ds = 0 at s*", slope, 0.0, rtol=1e-9, scale=scale, inputs=inputs)
    top = theory.inner.peak_variance(None).at(side="derived", n=n, **at)
    if not s < top:
        raise AssertionError(f"s* = {s} fails to lie below s̄ = {top}\n  inputs   {inputs}")


def bounded_expected_reward(problem: Problem) -> None:
    """`E exp(-‖ŷ-y‖²/ω)`: solver against the derived kernel, n <= 2."""
    t, n, omega = problem.tensors(), problem.n, problem.lam
    law = Gaussian(t["m"], torch.linalg.cholesky(t["P"]))
    reward = bounded.BoundedReward(t["lam"])
    got = reward.expected(law, Gaussian(t["mu"], torch.linalg.cholesky(t["Sigma"])))
    spread, weight = problem.P + problem.Sigma, np.eye(n) / omega
    at = problem.pick("m", "mu") | {
        "S": spread if n > 1 else float(spread[0, 0]),
        "W": weight if n > 1 else 1 / omega,
    }
    want = np.exp(theory.inner.log_expected_kernel(n).at(side="derived", **at))
    # the exponent loses digits where it is large
    exponent = 1 + float(np.sum((problem.m - problem.mu) ** 2)) / omega
    rtol = closed_form(spread) * exponent
    agree("E exp(-‖ŷ-y‖²/ω)", got, want, rtol=rtol, inputs=problem)
