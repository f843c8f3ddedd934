"""Witnesses of the estimators: their moments by quadrature over the noise, scores by autograd.

Every moment is of a polynomial in normal noise, for which the quadrature is exact. See
`proposition` for what a witness is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import integrate, optimize, stats
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from analysis.derivation import Derivation
from analysis.estimators import baselines, groups, score_function

from ...conformance import witnesses
from ...conformance.strategies import Problem
from .numerics import relative_error, tensor
from .proposition import EXACT, Check, Proposition

NODES = 8  # exact to degree 15 in every noise; the squares here have degree 8
GENERATIONS = 3
BASELINE = -0.3  # any constant


@dataclass(frozen=True)
class Scalar:
    """The numbers of a scalar policy N(m, s²), reward -u(ŷ - y)², data N(μ, σ²)."""

    u: float
    m: float
    mu: float
    s: float
    sigma: float
    lam: float

    @property
    def delta(self) -> float:
        return self.m - self.mu

    def pick(self, d: Derivation) -> dict[str, float]:
        """The arguments that a derivation takes."""
        values = {**vars(self), "delta": self.delta, "generations": GENERATIONS}
        return {name: values[name] for name in d.arguments if name in values}


def _scalar(problem: Problem) -> Scalar:
    u, s2, sigma2 = (float(X[0, 0]) for X in (problem.U, problem.P, problem.Sigma))
    m, mu = float(problem.m[0]), float(problem.mu[0])
    return Scalar(u, m, mu, s2**0.5, sigma2**0.5, problem.lam)


def _rewards(v: Scalar, y_hat: Tensor, y: Tensor | None) -> Tensor:
    """Rewards against outcomes y, or averaged over the data: by two points with their moments."""
    if y is not None:
        return -v.u * (y_hat - y) ** 2
    return sum((-v.u * (y_hat - v.mu - e * v.sigma) ** 2 / 2 for e in (1, -1)), tensor(0.0))


def _scores(v: Scalar, y_hat: Tensor) -> Tensor:
    """Score of every sample in (m, log s), shape (2, K), by autograd on the density."""
    m = torch.full_like(y_hat, v.m).requires_grad_()
    log_s = torch.full_like(y_hat, np.log(v.s)).requires_grad_()
    total = Normal(m, log_s.exp()).log_prob(y_hat).sum()
    return torch.stack(torch.autograd.grad(total, [m, log_s]))


def _nodes(v: Scalar, data: str) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (2, K), rewards (K,) and weights (K,) of one estimate."""
    noise, weights = witnesses.gauss_hermite_grid(2, NODES)
    y_hat, y = v.m + v.s * noise[:, 0], v.mu + v.sigma * noise[:, 1]
    return _scores(v, y_hat), _rewards(v, y_hat, None if data == "averaged" else y), weights


def _variance(f: Tensor, weights: Tensor) -> Tensor:
    mean = (f * weights).sum(-1, keepdim=True)
    return ((f - mean) ** 2 * weights).sum(-1)


def _best_baseline(r: Tensor, g: Tensor, weights: Tensor) -> Tensor:
    """The b of least variance of (r - b)g: the vertex of a parabola through three points."""
    unit = r.abs().max()
    low, middle, high = (_variance((r - b * unit) * g, weights) for b in (-1.0, 0.0, 1.0))
    return unit * (low - high) / (2 * (low - 2 * middle + high))


def score_gradient(d: Derivation, problem: Problem) -> float:
    """E (r - b)∇log p for some constant b."""
    data = str(d.key.variant)
    v = _scalar(problem)
    g, r, weights = _nodes(v, data)
    want = ((r - BASELINE) * g * weights).sum(-1)
    scale = float(((r - BASELINE) * g).abs().mul(weights).sum(-1).max())
    return relative_error(d.at("stated", **v.pick(d)), want.numpy(), scale)


def optimal_baseline(d: Derivation, problem: Problem) -> float:
    """The baselines at which the variances of (m, log s) are least."""
    data = str(d.key.variant)
    v = _scalar(problem)
    g, r, weights = _nodes(v, data)
    if data == "conditional":  # y is known: the problem's mean μ stands for it
        noise, weights = witnesses.gauss_hermite_grid(1, NODES)
        y_hat = v.m + v.s * noise[:, 0]
        g, r = _scores(v, y_hat), _rewards(v, y_hat, tensor(v.mu))
    want = [float(_best_baseline(r, row, weights)) for row in g]
    values = v.pick(d) | ({"y": v.mu} if data == "conditional" else {})
    return relative_error(d.at("stated", **values), want)


def variance(d: Derivation, problem: Problem) -> float:
    """The variances at some constant baseline."""
    v = _scalar(problem)
    g, r, weights = _nodes(v, str(d.key.variant))
    want = _variance((r - BASELINE) * g, weights)
    got = d.at("stated", **v.pick(d), baseline=BASELINE)
    return relative_error(got, want.numpy())


def minimal_variance(d: Derivation, problem: Problem) -> float:
    """The least variances."""
    data = str(d.key.variant)
    v = _scalar(problem)
    g, r, weights = _nodes(v, data)
    if data == "conditional":  # a baseline for each node of the data's noise
        shape = (NODES, NODES)
        rows = [
            torch.stack(
                [
                    _best_baseline(
                        r.view(shape)[:, k], row.view(shape)[:, k], w[:, k] / w[:, k].sum()
                    )
                    for k in range(NODES)
                ]
            )
            for w in [weights.view(shape)]
            for row in g
        ]
        levels = [row.expand(shape).reshape(-1) for row in rows]
    else:
        levels = [_best_baseline(r, row, weights) for row in g]
    want = [float(_variance((r - b) * row, weights)) for b, row in zip(levels, g, strict=True)]
    return relative_error(d.at("stated", **v.pick(d)), want)


def pathwise_variance(d: Derivation, problem: Problem) -> float:
    """Variances of the slopes of r(m + sε) in (m, log s), by autograd."""
    data = str(d.key.variant)
    v = _scalar(problem)
    noise, weights = witnesses.gauss_hermite_grid(2, NODES)
    m = torch.full_like(noise[:, 0], v.m).requires_grad_()
    log_s = torch.full_like(noise[:, 0], np.log(v.s)).requires_grad_()
    y = None if data == "averaged" else v.mu + v.sigma * noise[:, 1]
    total = _rewards(v, m + log_s.exp() * noise[:, 0], y).sum()
    slopes = torch.stack(torch.autograd.grad(total, [m, log_s]))
    return relative_error(d.at("stated", **v.pick(d)), _variance(slopes, weights).numpy())


def _group(v: Scalar, s: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (2, K, M), rewards (K, M) and weights (K,) of a group, policy N(m, s²)."""
    noise, weights = witnesses.gauss_hermite_grid(GENERATIONS, NODES)
    policy = Scalar(v.u, v.m, v.mu, s, v.sigma, v.lam)
    y_hat = policy.m + s * noise
    g = _scores(policy, y_hat.reshape(-1)).reshape(2, *noise.shape)
    return g, _rewards(policy, y_hat, None), weights


def leave_one_out_variance(d: Derivation, problem: Problem) -> float:
    """Variances of the mean over a group of (r_k - mean of the others)∇log p."""
    v = _scalar(problem)
    g, r, weights = _group(v, v.s)
    others = (r.sum(-1, keepdim=True) - r) / (GENERATIONS - 1)
    want = _variance(((r - others) * g).mean(-1), weights)
    return relative_error(d.at("stated", **v.pick(d)), want.numpy())


def group_mean(d: Derivation, problem: Problem) -> float:
    """The variance at which the expected slope in log s, with the entropy's, vanishes; m = μ."""
    v = _scalar(problem)
    centred = Scalar(v.u, v.mu, v.mu, v.s, v.sigma, v.lam)

    def slope(log_s: float) -> float:
        g, r, weights = _group(centred, float(np.exp(log_s)))
        pull = ((r - r.mean(-1, keepdim=True)) * g[1]).mean(-1)
        return float((pull * weights).sum()) + v.lam * _entropy_slope(log_s)

    log_s = optimize.brentq(slope, -12.0, 12.0, xtol=1e-14)
    return relative_error(d.at("stated", **v.pick(d)), np.exp(2 * log_s))


def _entropy_slope(log_s: float) -> float:
    free = tensor(log_s).requires_grad_()
    (slope,) = torch.autograd.grad(Normal(0.0, free.exp()).entropy(), free)
    return float(slope)


def group_minimum(d: Derivation, problem: Problem) -> float:
    """The same for the group's minimum: its pull by a double integral over χ² laws."""
    n, u, lam = problem.n, float(problem.U[0, 0]), problem.lam
    values = {"u": u, "lam": lam}
    want = _stationary_variance(n, GENERATIONS, u, lam)
    largest = _expected_maximum(n, GENERATIONS, 0.0)
    return relative_error(d.at("stated", **values, generations=GENERATIONS, maximum=largest), want)


def group_minimum_planar(d: Derivation, problem: Problem) -> float:
    """The same for n = 2, where the expected maximum has a closed form."""
    assert isinstance(d.key.variant, int)
    generations = d.key.variant
    u, lam = float(problem.U[0, 0]), problem.lam
    return relative_error(d.at(u=u, lam=lam), _stationary_variance(2, generations, u, lam))


def _expected_maximum(n: int, count: int, floor: float) -> float:
    """E max(floor, Q_1..Q_count), Q_i independent χ²_n."""
    law = stats.chi2(n)
    tail, _ = integrate.quad(lambda q: 1 - law.cdf(q) ** count, floor, np.inf, epsrel=1e-10)
    return floor + tail


def _stationary_variance(n: int, M: int, u: float, lam: float) -> float:
    """v where λn, the entropy's slope in log s, balances uv E[(max_k q_k - q_1)(q_1 - n)].

    At m = μ the rewards are -uv q_k up to a constant, q_k ~ χ²_n, and q_1 - n is the score.
    """
    law = stats.chi2(n)

    def integrand(root: float) -> float:  # q = root², to smooth the density at 0
        q = root**2
        gap = _expected_maximum(n, M - 1, q) - q
        return float(gap * (q - n) * law.pdf(q) * 2 * root)

    pull, _ = integrate.quad(integrand, 0, 12, epsrel=1e-9, limit=100)
    return -lam * n / (u * pull)


def matrix_baseline(d: Derivation, problem: Problem) -> float:
    """Baselines of least variance for the whitened scores of N(m, LLᵀ), by autograd."""
    parameter = str(d.key.variant)
    t, n = problem.tensors(), problem.n
    L = torch.linalg.cholesky(t["P"])
    noise, weights = witnesses.gauss_hermite_grid(n, 5)  # squares of degree 8 in all
    y_hat = t["m"] + noise @ L.mT
    y = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))
    r = witnesses.reward(y_hat[:, None], y[None], t["U"]).mean(-1)
    g = _whitened_scores(t["m"], L, y_hat, parameter)
    best: Callable[[Tensor], float] = lambda row: float(_best_baseline(r, row, weights))  # noqa: E731
    if parameter == "mean":
        want = np.array([best(g[:, j]) for j in range(n)])
    else:  # the factor is lower triangular: the other half follows by symmetry
        want = np.array([[best(g[:, max(i, j), min(i, j)]) for j in range(n)] for i in range(n)])
    values = problem.pick("m", "mu", "U", "Sigma")
    got = d.at("stated", **values, L=L.numpy() if n > 1 else float(L[0, 0]))
    return relative_error(np.reshape(got, want.shape), want)


def _whitened_scores(m: Tensor, L: Tensor, y_hat: Tensor, parameter: str) -> Tensor:
    """Slopes of log N(ŷ; m + La, ·) in a at 0, or of log N(ŷ; m, L(I + B)) in B at 0."""
    count, n = y_hat.shape
    if parameter == "mean":
        a = torch.zeros(count, n, dtype=m.dtype, requires_grad=True)
        total = MultivariateNormal(m + a @ L.mT, scale_tril=L).log_prob(y_hat).sum()
        return torch.autograd.grad(total, a)[0]
    B = torch.zeros(count, n, n, dtype=m.dtype, requires_grad=True)
    factor = L @ (torch.eye(n, dtype=m.dtype) + B.tril())
    total = MultivariateNormal(m.expand(count, n), scale_tril=factor).log_prob(y_hat).sum()
    return torch.autograd.grad(total, B)[0]


PROPOSITIONS = (
    Proposition(
        "estimators.score_function",
        "REINFORCE is unbiased for any constant baseline; best baselines and least variances",
        "new",
        (
            Check(score_function.score_gradient, score_gradient, EXACT),
            Check(score_function.optimal_baseline, optimal_baseline, EXACT),
            Check(score_function.variance, variance, EXACT),
            Check(score_function.minimal_variance, minimal_variance, EXACT),
            Check(baselines.matrix, matrix_baseline, EXACT),
        ),
        solver="solvers.training.estimators:ScoreFunction",
    ),
    Proposition(
        "estimators.pathwise",
        "the pathwise estimator has variances 4u²s², u²(4δ²s² + 8s⁴), more if y is sampled",
        "new",
        (Check(score_function.pathwise_variance, pathwise_variance, EXACT),),
        solver="solvers.training.estimators:Pathwise",
    ),
    Proposition(
        "estimators.leave_one_out",
        "the variances of the leave-one-out estimator, M generations",
        "new",
        (Check(score_function.leave_one_out_variance, leave_one_out_variance, EXACT),),
        solver="solvers.training.estimators:ScoreFunction",
    ),
    Proposition(
        "estimators.group_baseline",
        "group mean and minimum as baseline are biased: v∞ M/(M-1), v∞/(1 - E[max χ²_n]/(nM))",
        "new",
        (
            Check(groups.mean, group_mean, EXACT),
            Check(groups.minimum, group_minimum, EXACT),
            Check(groups.minimum_planar, group_minimum_planar, EXACT),
        ),
        solver="solvers.training.estimators:ScoreFunction",
    ),
)
