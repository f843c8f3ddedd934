"""Witnesses of what is forgotten: Fisher matrices by autograd, flows, searches.

The base is the policy `N(m, P)` of a problem, its data have `(μ, Σ)`. Classes have probabilities
by softmax of these vectors. See `proposition` for what a witness is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from analysis.derivation import Derivation
from analysis.forgetting import avoidable, modes, paths, razors, ties

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import product, relative_error, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

STEP = 1e-5  # of central differences in ζ, of which paths are polynomials
FAR = 24.0  # distance of modes without overlap in double precision
NODES = 40
SMALL = 1e-9  # odds at which a limit is reached to EXACT


def _zeta(problem: Problem) -> float:
    return problem.lam / (1 + problem.lam)


def _values(d: Derivation, problem: Problem, **others: object) -> dict[str, Any]:
    """The problem's base, data and ζ by the names of the formula."""
    values: dict[str, Any] = {
        "m0": problem.m,
        "P0": problem.P,
        "mu": problem.mu,
        "Sigma": problem.Sigma,
        "M": problem.M,
        "H": problem.U - problem.M,
        "r": problem.mu,
        "p0": _softmax(problem.m),
        "pi": _softmax(problem.mu),
        "p": _softmax(problem.m),
        "lam": problem.lam,
        "zeta": _zeta(problem),
    } | others
    chosen = {name: values[name] for name in d.arguments}
    scalar = problem.n == 1
    return {k: float(np.reshape(v, ())) if scalar else v for k, v in chosen.items()}


def _softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp((x - x.max()) / 4)
    return weights / weights.sum()


def _jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(f, x)
    assert isinstance(found, Tensor)
    return found


def _hessian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    found = torch.autograd.functional.hessian(f, x)
    assert isinstance(found, Tensor)
    return found


def _split(theta: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of free entries."""
    P = torch.zeros(n, n, dtype=theta.dtype)
    rows, columns = np.tril_indices(n)
    lower = P.index_put((torch.as_tensor(rows), torch.as_tensor(columns)), theta[n:])
    return theta[:n], lower + lower.tril(-1).mT


def _point(method: paths.Method, problem: Problem, zeta: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (likelihood) or P⁻¹m (policy gradient), and P or P⁻¹, by the formulas."""
    found: list[np.ndarray] = []
    for result in (paths.mean, paths.covariance):
        d = result(method, problem.n)
        found.append(np.asarray(d.at(**_values(d, problem, zeta=zeta))))
    return found[0].reshape(problem.n), found[1].reshape(problem.n, problem.n)


@cache
def _flows(method: paths.Method, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The velocities in ζ at ζ by `F(θ)⁻¹ ∇f(θ)`, F = -∇² E_θ log p."""
    n, t, zeta = problem.n, problem.tensors(), _zeta(problem)
    first, second = _point(method, problem, zeta)
    m, P = (first, second) if method == "NLL" else _inverted(first, second)
    best = problem.lam / 2 * torch.linalg.inv(t["Sigma"])
    here = tensor(np.concatenate([m, P[np.tril_indices(n)]]))
    at = tensor(m), tensor(P)

    def f(theta: Tensor) -> Tensor:
        m, P = _split(theta, n)
        L = torch.linalg.cholesky(P)
        if method == "NLL":
            return witnesses.log_likelihood(m, L, t["mu"], t["Sigma"])
        return witnesses.inner_objective(m, L, best, t["mu"], t["Sigma"], t["lam"]) / t["lam"]

    def own(theta: Tensor) -> Tensor:
        m, P = _split(theta, n)
        return witnesses.log_likelihood(m, torch.linalg.cholesky(P), *at)

    slope = _jacobian(f, here)
    F = -_hessian(own, here)
    # dζ = (1-ζ) dt
    speed = torch.linalg.solve(F, slope) / (1 - zeta)
    v, V = (x.numpy() for x in _split(speed, n))
    if method == "PG":
        v, V = second @ v - second @ V @ first, -second @ V @ second
    return v, V


def _inverted(pull: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.solve(precision, pull), np.linalg.inv(precision)


def metric(d: Derivation, problem: Problem) -> float:
    """The second derivative of KL(N(0, K⁻¹) ‖ N(0, (K + tH)⁻¹)) in t."""
    K, H = tensor(problem.M), tensor(problem.U - problem.M)
    zero = torch.zeros(problem.n, dtype=torch.float64)
    law = MultivariateNormal(zero, precision_matrix=K)

    def divergence(t: Tensor) -> Tensor:
        return kl_divergence(law, MultivariateNormal(zero, precision_matrix=K + t * H))

    want = _hessian(divergence, tensor(0.0))
    return relative_error(d.at(**_values(d, problem)), float(want))


def path_covariance(d: Derivation, problem: Problem) -> float:
    """The velocity of P, or P⁻¹, in ζ."""
    return _slope_error(d, problem, _flows("PG" if d.key.variant == "PG" else "NLL", problem)[1])


def path_mean(d: Derivation, problem: Problem) -> float:
    """The velocity of m, or P⁻¹m, in ζ."""
    return _slope_error(d, problem, _flows("PG" if d.key.variant == "PG" else "NLL", problem)[0])


def _slope_error(d: Derivation, problem: Problem, want: np.ndarray) -> float:
    """How far the formula's slope in ζ, by central differences, is from a velocity."""
    zeta = _zeta(problem)
    before, after = (
        np.reshape(d.at(**_values(d, problem, zeta=zeta + step)), want.shape)
        for step in (-STEP, STEP)
    )
    scale = float(np.abs(after).max())  # by whose rounding differences are off
    return relative_error((after - before) / (2 * STEP), want, scale)


def razor_covariance(d: Derivation, problem: Problem) -> float:
    """The minimum of the sum of both divergences, by search."""
    t, n, zeta, method = problem.tensors(), problem.n, _zeta(problem), str(d.key.variant)
    base = MultivariateNormal(t["m"], t["P"])
    data = MultivariateNormal(t["mu"], t["Sigma"])

    def f(theta: Tensor) -> Tensor:
        m, L = witnesses.unpack(theta, n, "full")
        law = MultivariateNormal(m, scale_tril=L)
        pairs = [(base, law), (data, law)] if method == "NLL" else [(law, base), (law, data)]
        parts = [kl_divergence(*pair) for pair in pairs]
        return -((1 - zeta) * parts[0] + zeta * parts[1])

    P = product(witnesses.unpack(numerics.climb(f, n), n, "full")[1])
    want = P if method == "NLL" else np.linalg.inv(P)
    return relative_error(numerics.square(d.at(**_values(d, problem)), n), want)


def _law(free: Tensor) -> Tensor:
    """Log-probabilities of logits whose last is 0."""
    return torch.cat([free, free.new_zeros(1)]).log_softmax(-1)


def razor_classes(d: Derivation, problem: Problem) -> float:
    """The minimum of the sum of both divergences over all classes, by search."""
    p0, pi = (tensor(_softmax(x)).log() for x in (problem.m, problem.mu))
    zeta, method = _zeta(problem), str(d.key.variant)

    def f(free: Tensor) -> Tensor:
        log_p = _law(free)
        pairs = [(x, log_p) if method == "NLL" else (log_p, x) for x in (p0, pi)]
        parts = [(a.exp() * (a - b)).sum() for a, b in pairs]
        return -((1 - zeta) * parts[0] + zeta * parts[1])

    found = witnesses.maximise(f, torch.zeros(problem.n - 1, dtype=torch.float64))
    want = _law(found).exp() if method == "NLL" else found
    return relative_error(np.ravel(d.at(**_values(d, problem))), want.numpy(), 1.0)


def _flow(z: Tensor, r: Tensor) -> Tensor:
    """`∇_z E_p r` by autograd."""
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(z.softmax(-1) @ r, z)
    return slope


def conserved(d: Derivation, problem: Problem) -> float:
    """The rates of e^{-z}, times Σe^z, by autograd through the softmax."""
    z = tensor(_softmax(problem.m)).log() + 0.3
    rates = -(-z).exp() * _flow(z, tensor(problem.mu)) * z.exp().sum()
    return relative_error(d.at(**_values(d, problem)), rates.numpy(), 1.0)


def natural(d: Derivation, problem: Problem) -> float:
    """Differences of F⁺ ∇_z E_p r, F the mean square of scores by autograd."""
    z = tensor(problem.m) / 4
    scores = _jacobian(lambda x: x.log_softmax(-1), z)
    F = scores.mT @ torch.diag(z.softmax(-1)) @ scores
    speed = torch.linalg.pinv(F, hermitian=True) @ _flow(z, tensor(problem.mu))
    return relative_error(np.ravel(d.at(**_values(d, problem))), (speed[:-1] - speed[-1]).numpy())


def decay(d: Derivation, problem: Problem) -> float:
    """The rate at small odds by autograd; rewards are shifted so that nothing cancels."""
    k, n = problem.lam, 3
    inverse = np.array([k * SMALL / (1 - SMALL), k / (1 - SMALL)])
    z = tensor([*-np.log(inverse), *[np.log(inverse).sum() / n] * n])
    speed = _flow(z, tensor([0.0, 0.0, *[-1.0] * n]))
    want = float(speed[1] - speed[0]) * SMALL / SMALL ** (2 + 1 / n)
    return relative_error(d.at(tie=k, n=n), want)


def projection(d: Derivation, problem: Problem) -> float:
    """The argmax of E_p r - λ KL(p‖p₀), by search."""
    log_p0, lam = tensor(_softmax(problem.m)).log(), 1 + problem.lam

    def f(free: Tensor) -> Tensor:
        log_p = _law(free)
        return (log_p.exp() * (tensor(problem.mu) / 4 - lam * (log_p - log_p0))).sum()

    found = witnesses.maximise(f, torch.zeros(problem.n - 1, dtype=torch.float64))
    values = _values(d, problem, r=problem.mu / 4, lam=lam)
    return relative_error(np.ravel(d.at(**values)), found.numpy(), 1.0)


def chain(d: Derivation, problem: Problem) -> float:
    """The mean under q of the logarithms of the conditional densities, joint less marginal."""
    t = problem.tensors()
    y = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))

    def conditional(m: Tensor, P: Tensor) -> Tensor:
        joint = MultivariateNormal(m, P).log_prob(y)
        return joint - Normal(m[0], P[0, 0].sqrt()).log_prob(y[:, 0])

    want = (conditional(t["mu"], t["Sigma"]) - conditional(t["m"], t["P"])).mean()
    return relative_error(d.at(**_values(d, problem)), float(want))


def kept(d: Derivation, problem: Problem) -> float:
    """The law of y_2 given y_1 under the argmax of E r_U - λ KL(p‖p₀), by search."""
    t = problem.tensors()
    base = MultivariateNormal(t["m"], t["P"])

    def f(theta: Tensor) -> Tensor:
        m, L = witnesses.unpack(theta, 2, "full")
        generations = witnesses.cubature(m, L)
        reward = -t["U"][0, 0] * (generations[:, 0] - t["mu"][0]).square().mean()
        return reward - t["lam"] * kl_divergence(MultivariateNormal(m, scale_tril=L), base)

    P = product(witnesses.unpack(numerics.climb(f, 2), 2, "full")[1])
    want = [P[0, 1] / P[0, 0], 1 / np.linalg.inv(P)[1, 1]]
    return relative_error(d.at(**_values(d, problem)), want)


def classes(d: Derivation, problem: Problem) -> float:
    """The divergence from its definition in torch."""
    p0, pi = tensor(_softmax(problem.m)), tensor(_softmax(problem.mu))
    q = torch.cat([pi[:-1] / pi[:-1].sum(), pi.new_zeros(1)])
    want = kl_divergence(Categorical(q), Categorical(p0))
    return relative_error(d.at(**_values(d, problem)), float(want), 1.0)


def _modes(problem: Problem) -> tuple[float, float]:
    """A weight of the old mode and its distance."""
    return float(1 / (1 + np.exp(-problem.m[0] / 4))), FAR + abs(float(problem.mu[0]))


def _log_mixture(y: Tensor, logit: Tensor, delta: float) -> Tensor:
    parts = torch.stack([Normal(-delta, 1.0).log_prob(y), Normal(0.0, 1.0).log_prob(y)])
    weights = torch.stack([logit, torch.zeros_like(logit)]).log_softmax(0)
    return (parts + weights[:, None]).logsumexp(0)


def _nodes() -> tuple[Tensor, Tensor]:
    noise, weights = witnesses.gauss_hermite_grid(1, NODES)
    return noise[:, 0], weights


def mode_likelihood(d: Derivation, problem: Problem) -> float:
    """The slope in the logit of the mean log-density on new data, by quadrature."""
    w, delta = _modes(problem)
    logit = torch.logit(tensor(w)).requires_grad_()
    y, weights = _nodes()
    (want,) = torch.autograd.grad((weights * _log_mixture(y, logit, delta)).sum(), logit)
    return relative_error(d.at(old=w), float(want))


def mode_reward(d: Derivation, problem: Problem) -> float:
    """The slope in the logit of E r + λH, by quadrature around each mode."""
    w, delta = _modes(problem)
    lam, logit = problem.lam, torch.logit(tensor(w)).requires_grad_()
    noise, nodes = _nodes()
    y = torch.cat([noise - delta, noise])
    share = torch.stack([logit.sigmoid(), (-logit).sigmoid()])
    weights = (share[:, None] * nodes).flatten()
    # the reward against data of mean 0 and variance 1 with weight λ/2
    values = -lam / 2 * (y.square() + 1) - lam * _log_mixture(y, logit, delta)
    (want,) = torch.autograd.grad((weights * values).sum(), logit)
    return relative_error(d.at(old=w, lam=lam, delta=delta), float(want))


PROPOSITIONS = (
    Proposition(
        "forgetting.paths",
        "natural gradient moves η straight on the likelihood, θ straight on the reward U*",
        "new",
        (
            Check(paths.metric, metric, SEARCH),
            Check(paths.covariance, path_covariance, DIFFERENCES),
            Check(paths.mean, path_mean, DIFFERENCES),
        ),
        solver="solvers.training.objectives:PolicyGradient",
    ),
    Proposition(
        "forgetting.razors",
        "each path minimises (1-ζ) KL to the base + ζ KL to the data, in its own direction of KL",
        "new",
        (
            Check(razors.covariance, razor_covariance, DIFFERENCES),
            Check(razors.classes, razor_classes, SEARCH),
        ),
    ),
    Proposition(
        "forgetting.ties",
        "softmax policy gradient conserves e^{-z_c} - e^{-z_d} of equal rewards: one takes all; "
        "natural gradient, or KL to the base, keeps the base's ratio",
        "new",
        (
            Check(ties.conserved, conserved, EXACT),
            Check(ties.decay, decay, SEARCH),
            Check(ties.natural, natural, EXACT),
            Check(ties.projection, projection, SEARCH),
        ),
        solver="solvers.training.objectives:PolicyGradient",
    ),
    Proposition(
        "forgetting.avoidable",
        "where a part matters, KL to the base pays for that part only, likelihood for the rest too",
        "new",
        (
            Check(avoidable.chain, chain, EXACT),
            Check(avoidable.kept, kept, DIFFERENCES),
            Check(avoidable.classes, classes, EXACT),
        ),
    ),
    Proposition(
        "forgetting.modes",
        "a reward of new data does not retain an old mode: ℓ' = -w, and -λw(1-w)(δ²/2 + ℓ)",
        "new",
        (
            Check(modes.likelihood, mode_likelihood, EXACT),
            Check(modes.reward, mode_reward, EXACT),
        ),
        solver="solvers.families.module:policy",
    ),
)
