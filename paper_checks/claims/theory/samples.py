"""Witnesses of what finite samples cost: rows are drawn, fitted, and their fits held to the truth.

Where rows are drawn, an error is in standard errors of the mean over draws. The likelihood of a fit
is the density of `torch` at cubature points of the data; see `proposition` for the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from scipy import optimize, stats
from torch.distributions import MultivariateNormal

from analysis.derivation import Derivation
from analysis.samples import choice, excess, linear, wishart

from ...conformance import witnesses
from ...conformance.strategies import Problem
from .numerics import relative_error, tensor
from .proposition import EXACT, SAMPLED, SEARCH, Check, Proposition

DRAWS = 10_000
SPARE = 10  # degrees of freedom beyond n: moments of S⁻¹ that standard errors need are finite
FEATURES, HELD = 2, 5  # coefficients of a linear mean, rows held out beyond `SPARE`


def _generator(problem: Problem) -> np.random.Generator:
    """A generator that the numbers of the problem seed."""
    return np.random.default_rng(np.frombuffer(problem.Sigma.tobytes(), np.uint32))


def _standard_errors(got: object, draws: np.ndarray) -> float:
    """How many standard errors the mean over draws (first axis) is from a value, at most."""
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    value = np.asarray(got, float).reshape(draws.shape[1:])
    return float(np.max(np.abs(draws.mean(0) - value) / error))


def _rows(problem: Problem, rng: np.random.Generator, N: int) -> np.ndarray:
    """Gaussian rows of covariance Σ and mean 0, `(DRAWS, N, n)`."""
    return rng.standard_normal((DRAWS, N, problem.n)) @ np.linalg.cholesky(problem.Sigma).T


def _second_moment(rows: np.ndarray, divisor: int) -> np.ndarray:
    return rows.swapaxes(-1, -2) @ rows / divisor


def _sample(problem: Problem, nu: int) -> np.ndarray:
    """Covariances of ν rows about a known mean."""
    return _second_moment(_rows(problem, _generator(problem), nu), nu)


def _lost(problem: Problem, S: np.ndarray, means: np.ndarray | None = None) -> np.ndarray:
    """Nats lost by policies of covariance S, and of a mean that is off, against N(0, Σ)."""
    zero = torch.zeros(problem.n, dtype=torch.float64)
    Sigma = tensor(problem.Sigma)
    points = witnesses.cubature(zero, torch.linalg.cholesky(Sigma))[:, None]
    centres = zero if means is None else tensor(means)
    best = MultivariateNormal(zero, Sigma).log_prob(points).mean()
    return (best - MultivariateNormal(centres, tensor(S)).log_prob(points).mean(0)).numpy()


def _restricted(S: np.ndarray, structure: object) -> np.ndarray:
    """The covariance that a policy of the structure learns from S."""
    if structure == "full":
        return S
    variances = np.diagonal(S, axis1=-2, axis2=-1)
    if structure == "isotropic":
        variances = np.broadcast_to(variances.mean(-1, keepdims=True), variances.shape)
    return variances[..., None] * np.eye(S.shape[-1])


def _round(problem: Problem) -> Problem:
    """The problem with Σ ∝ I."""
    return replace(problem, Sigma=problem.Sigma[0, 0] * np.eye(problem.n))


def log_determinant(d: Derivation, problem: Problem) -> float:
    """log det of drawn covariances."""
    nu = problem.n + SPARE
    got = d.at("stated", freedom=nu, **problem.pick("Sigma"))
    return _standard_errors(got, np.linalg.slogdet(_sample(problem, nu)).logabsdet)


def inverse_covariance(d: Derivation, problem: Problem) -> float:
    """Inverses of drawn covariances."""
    nu = problem.n + SPARE
    got = d.at("stated", freedom=nu, **problem.pick("Sigma"))
    return _standard_errors(got, np.linalg.inv(_sample(problem, nu)))


def trace_transform(d: Derivation, problem: Problem) -> float:
    """E exp(-t eᵀe) of one row: in its own basis a product of one-dimensional quadratures."""
    variances, nu = np.linalg.eigvalsh(problem.Sigma), problem.n + 0.5
    t = 1 / variances.sum()
    z = np.linspace(-12, 12, 2001)  # the trapezoidal rule, which is exact for such integrands
    rows = np.exp(-t * variances[:, None] * z**2 - z**2 / 2) / np.sqrt(2 * np.pi)
    want = nu * np.log(rows.sum(1) * (z[1] - z[0])).sum()
    return relative_error(d.at("stated", freedom=nu, t=float(t), **problem.pick("Sigma")), want)


def expected(d: Derivation, problem: Problem) -> float:
    """Nats lost by the covariance of drawn rows against the best of the structure."""
    structure, nu = d.key.variant, problem.n + SPARE
    problem = _round(problem) if structure == "isotropic" else problem
    best = _lost(problem, _restricted(problem.Sigma[None], structure))
    learned = _lost(problem, _restricted(_sample(problem, nu), structure))
    return _standard_errors(d.at(freedom=nu), learned - best)


def second_order(d: Derivation, problem: Problem) -> float:
    """Curvature of the cost by autograd along eeᵀ - Σ, averaged over a law of some atoms e."""
    n, structure = problem.n, d.key.variant
    drawn = _generator(problem).standard_normal((n + 4, n))
    drawn -= drawn.mean(0)
    root = np.linalg.cholesky(problem.Sigma)
    z = drawn @ np.linalg.inv(np.linalg.cholesky(_second_moment(drawn, len(drawn)))).T
    atoms = z @ root.T  # mean 0, covariance Σ
    zero = torch.zeros(n, dtype=torch.float64)
    Sigma = tensor(problem.Sigma)

    def cost(t: torch.Tensor) -> torch.Tensor:
        e = tensor(atoms)
        moved = Sigma + t[:, None, None] * (e[:, :, None] * e[:, None, :] - Sigma)
        if structure != "full":
            variances = moved.diagonal(dim1=-2, dim2=-1)
            if structure == "isotropic":
                variances = variances.mean(-1, keepdim=True).expand_as(variances)
            moved = torch.diag_embed(variances)
        points = witnesses.cubature(zero, torch.linalg.cholesky(Sigma))[:, None]
        return -MultivariateNormal(zero, moved).log_prob(points).mean(0)

    t = torch.zeros(len(atoms), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cost(t).sum(), t, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), t)
    variances = np.diag(problem.Sigma)
    kappa = {
        "full": (z**2).sum(1) ** 2,
        "diagonal": (atoms**4 / variances**2).sum(1),
        "isotropic": n * (atoms**2).sum(1) ** 2 / variances.sum() ** 2,
    }[str(structure)].mean()
    nu = float(len(atoms))
    size = {"n": n} if "n" in d.arguments else {}
    got = d.at("stated", kurtosis=float(kappa), freedom=nu, **size)
    return relative_error(got, float(curve.mean()) / (2 * nu))


def best_scale(d: Derivation, problem: Problem) -> float:
    """The slope of the loss in log k vanishes at k Û on average."""
    nu, step = problem.n + SPARE, 1e-4
    S, k = _sample(problem, nu), d.at(freedom=nu)
    above, below = (_lost(problem, S / (k * np.exp(move))) for move in (step, -step))
    return _standard_errors(0.0, (above - below) / (2 * step))


def gain_of_scaling(d: Derivation, problem: Problem) -> float:
    """What the scale that a search finds best gains on drawn covariances."""
    nu = problem.n + SPARE
    S = _sample(problem, nu)
    log_k = optimize.minimize_scalar(
        lambda log_k: float(_lost(problem, S * np.exp(-log_k)).mean()), bounds=(-2, 1)
    ).x
    return _standard_errors(
        d.at(freedom=nu), _lost(problem, S) - _lost(problem, S * np.exp(-log_k))
    )


def _about_mean(problem: Problem, divisor: int) -> tuple[int, np.ndarray, np.ndarray]:
    """N, and the means and covariances of N drawn rows."""
    N = problem.n + 1 + SPARE
    rows = _rows(problem, _generator(problem), N)
    means = rows.mean(1)
    return N, means, _second_moment(rows - means[:, None], N - divisor)


def estimated_mean(d: Derivation, problem: Problem) -> float:
    """Nats that the mean of the drawn rows loses beside the true one."""
    N, means, S = _about_mean(problem, 1)
    return _standard_errors(d.at(rows=N), _lost(problem, S, means) - _lost(problem, S))


def plug_in(d: Derivation, problem: Problem) -> float:
    """Nats lost by the mean and the covariance of the drawn rows."""
    N, means, S = _about_mean(problem, 0)
    return _standard_errors(d.at(rows=N), _lost(problem, S, means))


def _fits(
    problem: Problem, N: int, rng: np.random.Generator, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares on N rows of mean 0: errors of the coefficients, and residuals."""
    noise = _rows(problem, rng, N)
    error = np.linalg.solve(x.swapaxes(-1, -2) @ x, x.swapaxes(-1, -2) @ noise)
    return error, noise - x @ error


def residual_covariance(d: Derivation, problem: Problem) -> float:
    """Second moments of residuals on one design."""
    rng, N = _generator(problem), FEATURES + 5
    x = rng.standard_normal((1, N, FEATURES))
    _, residuals = _fits(problem, N, rng, x)
    got = d.at("stated", features=FEATURES, rows=N, **problem.pick("Sigma"))
    return _standard_errors(got, _second_moment(residuals, N))


def error_covariance(d: Derivation, problem: Problem) -> float:
    """Second moments of errors on one new row."""
    rng, N = _generator(problem), FEATURES + 5
    x, new = rng.standard_normal((1, N, FEATURES)), rng.standard_normal((1, FEATURES))
    error, _ = _fits(problem, N, rng, x)
    h = float((new @ np.linalg.solve(x[0].T @ x[0], new.T))[0, 0])
    errors = _rows(problem, rng, 1) - new @ error
    return _standard_errors(
        d.at("stated", leverage=h, **problem.pick("Sigma")), _second_moment(errors, 1)
    )


def leverage(d: Derivation, problem: Problem) -> float:
    """Leverages of Gaussian rows in Gaussian designs."""
    rng, N = _generator(problem), problem.n + 1 + SPARE
    x, new = rng.standard_normal((2, DRAWS, N, problem.n))
    new = new[:, :1]
    weights = np.linalg.solve(x.swapaxes(1, 2) @ x, new.swapaxes(1, 2))
    return _standard_errors(d.at(rows=N), (new @ weights)[:, 0, 0])


def overconfidence(d: Derivation, problem: Problem) -> float:
    """The likelihood of errors under their own covariance and under the in-sample one."""
    h, N = problem.lam / (1 + problem.lam), FEATURES + 5
    errors = replace(problem, Sigma=(1 + h) * problem.Sigma)
    want = _lost(errors, (1 - FEATURES / N) * problem.Sigma[None])[0]
    return relative_error(d.at(features=FEATURES, rows=N, leverage=h), want)


def optimism(d: Derivation, problem: Problem) -> float:
    """Loss of learned policies on data of covariance ρΣ less that on data of what they learned."""
    structure, nu, rho = d.key.variant, problem.n + SPARE, 1 + problem.lam
    problem = _round(problem) if structure == "isotropic" else problem
    S = _sample(problem, nu)
    P = _restricted(S, structure)
    roots = np.linalg.cholesky(np.stack([S, np.broadcast_to(rho * problem.Sigma, S.shape)]))
    points = np.sqrt(problem.n) * roots.swapaxes(-1, -2)  # half of a cubature, about the mean
    law = MultivariateNormal(torch.zeros(problem.n, dtype=torch.float64), tensor(P))
    own, new = (-law.log_prob(tensor(p).movedim(1, 0)).mean(0) for p in points)
    return _standard_errors(d.at("stated", freedom=nu, ratio=rho), (new - own).numpy())


def rescaled(d: Derivation, problem: Problem) -> float:
    """Fits on the same drawn rows, the reward scaled as a search finds best."""
    rng, N = _generator(problem), FEATURES + problem.n + SPARE
    x = rng.standard_normal((DRAWS, N, FEATURES))
    error, residuals = _fits(problem, N, rng, x)
    S = _second_moment(residuals, N)
    log_c = optimize.minimize_scalar(
        lambda log_c: float(_on_new_rows(problem, error, S * np.exp(log_c)).mean()), bounds=(-1, 2)
    ).x
    lost = _on_new_rows(problem, error, S * np.exp(log_c))
    return _standard_errors(d.at(features=FEATURES, rows=N), lost)


def _on_new_rows(problem: Problem, error: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Nats lost at inputs N(0, I): a mean error eᵀx is data of covariance Σ + e'e'ᵀ."""
    plain = _lost(problem, S)
    spread = _second_moment(error, 1)
    return plain + np.trace(np.linalg.solve(S, spread), axis1=1, axis2=2) / 2


def in_sample(d: Derivation, problem: Problem) -> float:
    """Fits of mean and covariance on the same drawn rows, on new ones."""
    rng, N = _generator(problem), FEATURES + problem.n + SPARE
    x = rng.standard_normal((DRAWS, N, FEATURES))
    error, residuals = _fits(problem, N, rng, x)
    lost = _on_new_rows(problem, error, _second_moment(residuals, N))
    return _standard_errors(d.at(features=FEATURES, rows=N), lost)


def held_out(d: Derivation, problem: Problem) -> float:
    """Fits of the mean on drawn rows, of the covariance on errors of others."""
    rng, N, K = _generator(problem), FEATURES + HELD, problem.n + SPARE
    x, others = (rng.standard_normal((DRAWS, rows, FEATURES)) for rows in (N, K))
    error, _ = _fits(problem, N, rng, x)
    errors = _rows(problem, rng, K) - others @ error
    lost = _on_new_rows(problem, error, _second_moment(errors, K))
    return _standard_errors(d.at(features=FEATURES, rows=N, held=K), lost)


def _satterthwaite(problem: Problem, nu: float) -> float:
    """2 mean²/variance of ν times the squared norm of a row, by quadrature."""
    z, weights = witnesses.gauss_hermite_grid(problem.n)
    squares = (z @ torch.linalg.cholesky(tensor(problem.Sigma)).mT).square().sum(1)
    mean = float((weights * squares).sum())
    return nu * 2 * mean**2 / float((weights * (squares - mean) ** 2).sum())


def effective_freedom(d: Derivation, problem: Problem) -> float:
    """Mean and variance of ‖e‖² by quadrature."""
    nu = problem.n + 0.5
    got = d.at("stated", freedom=nu, **problem.pick("Sigma"))
    return relative_error(got, _satterthwaite(problem, nu))


def total(d: Derivation, problem: Problem) -> float:
    """Nats lost against the full Σ: drawn covariances; isotropic: quadrature over χ²_f."""
    structure, nu = d.key.variant, problem.n + SPARE
    got = d.at("stated", freedom=nu, **problem.pick("Sigma"))
    if structure != "isotropic":
        return _standard_errors(got, _lost(problem, _restricted(_sample(problem, nu), structure)))
    f, right = _satterthwaite(problem, nu), _restricted(problem.Sigma, structure)
    nodes, weights = np.polynomial.legendre.leggauss(400)  # in log w, over twenty times its range
    log_w = np.log(f) + 20 * np.sqrt(2 / f) * nodes
    mass = weights * np.exp(stats.chi2.logpdf(np.exp(log_w), f) + log_w)
    lost = _lost(problem, np.exp(log_w)[:, None, None] / f * right)
    return relative_error(got, mass @ lost / mass.sum())


def crossing(d: Derivation, problem: Problem) -> float:
    """Where (κ - n)/(4ν) of both differ by the gap, κ by quadrature over Gaussian rows."""
    n, gap = problem.n, problem.lam
    z, weights = witnesses.gauss_hermite_grid(n)
    e = z @ torch.linalg.cholesky(tensor(problem.Sigma)).mT
    variances = tensor(problem.Sigma).diagonal()
    kappa = {
        "full": z.square().sum(1).square(),
        "diagonal": (e**4 / variances**2).sum(1),
        "isotropic": n * e.square().sum(1).square() / variances.sum() ** 2,
    }
    pair = choice.PAIRS[cast(choice.Pair, d.key.variant)]
    less, more = (float((weights * kappa[s]).sum()) for s in pair)
    values = {"gap": gap} | (problem.pick("Sigma") if "Sigma" in d.arguments else {})
    return relative_error(d.at("stated", **values), (more - less) / (4 * gap))


PROPOSITIONS = (
    Proposition(
        "samples.wishart",
        "of ν Gaussian rows E log det S and E S⁻¹ = ν/(ν-n-1) Σ⁻¹ are known",
        "new",
        (
            Check(wishart.log_determinant, log_determinant, SAMPLED),
            Check(wishart.inverse_covariance, inverse_covariance, SAMPLED),
            Check(wishart.trace_transform, trace_transform, EXACT),
        ),
    ),
    Proposition(
        "samples.excess",
        "a reward learned from ν rows loses a known number of nats, about half its parameters / ν",
        "new",
        (
            Check(excess.expected, expected, SAMPLED),
            Check(excess.second_order, second_order, EXACT),
            Check(excess.estimated_mean, estimated_mean, SAMPLED),
            Check(excess.plug_in, plug_in, SAMPLED),
        ),
        solver="solvers.rewards.mahalanobis:optimal_reward",
    ),
    Proposition(
        "samples.scale",
        "a learned full reward is best scaled by (ν-n-1)/ν",
        "new",
        (
            Check(excess.best_scale, best_scale, SAMPLED),
            Check(excess.gain_of_scaling, gain_of_scaling, SAMPLED),
        ),
    ),
    Proposition(
        "samples.held_out",
        "residuals show Σ(1-d/N), new rows Σ(1+h): held-out rows gain what the difference costs",
        "new",
        (
            Check(linear.residual_covariance, residual_covariance, SAMPLED),
            Check(linear.error_covariance, error_covariance, SAMPLED),
            Check(linear.leverage, leverage, SAMPLED),
            Check(linear.overconfidence, overconfidence, EXACT),
            Check(linear.optimism, optimism, SAMPLED),
            Check(linear.in_sample, in_sample, SAMPLED),
            Check(linear.rescaled, rescaled, SAMPLED),
            Check(linear.held_out, held_out, SAMPLED),
        ),
        solver="solvers.bilevel.maximum_likelihood:maximum_likelihood",
    ),
    Proposition(
        "samples.choice",
        "cost of a structure plus excess: the full reward is worth learning from a known N on",
        "new",
        (
            Check(choice.effective_freedom, effective_freedom, EXACT),
            Check(choice.total, total, SEARCH, "isotropic"),
            Check(choice.total, total, SAMPLED, "diagonal"),
            Check(choice.total, total, SAMPLED, "full"),
            Check(choice.crossing, crossing, EXACT),
        ),
        solver="solvers.rewards.mahalanobis:optimal_reward",
    ),
)
