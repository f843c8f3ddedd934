"""Witnesses of unrolled, penalised and functional hypergradients: loops, searches, linear solves.

Steps are taken one by one and backpropagated through, maxima are searched for, and the adjoint
solves the linear equation that defines it, with second derivatives by autograd. See
`proposition` for what a witness is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analysis.derivation import Derivation
from analysis.hypergradients import functional as in_outputs
from analysis.hypergradients import penalty as penalties
from analysis.hypergradients import surrogate as surrogates
from analysis.hypergradients import unrolled as unrolling
from analysis.hypergradients import unrolled_gaussian as on_gaussians

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import gaussian_outer, numerics
from .numerics import relative_error, square, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

Reader = Callable[[Tensor], tuple[Tensor, Tensor]]  # of mean and factor, from θ
Objective = Callable[[Tensor, Tensor], Tensor]  # of the inner variable θ and the outer one φ

STEPS, SHARE = 3, 0.2  # in the Gaussian setting, where the step size is a share of 1/(λn)
MOVE = 1e-2  # of φ, in differences of functions that are quadratic in φ
LARGE = 1e3  # a weight σ in units of ν/κ, taken once and twice: extrapolated to 5e-7


def _ascend(J: Objective, start: Tensor, phi: Tensor, eta: float, steps: int) -> Tensor:
    """θ after steps θ + η ∂_θJ(θ, φ), as a function of φ."""
    theta = start.detach().clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(J(theta, phi), theta, create_graph=True)
        theta = theta + eta * slope
    return theta


def _adjoint(J: Objective, F: Objective, theta: Tensor, phi: Tensor) -> Tensor:
    """The h with ∂²_θθJ h + ∂_θF = 0."""
    theta = theta.detach().clone().requires_grad_()
    (pull,) = torch.autograd.grad(F(theta, phi), theta)
    hessian = torch.autograd.functional.hessian(lambda theta: J(theta, phi), theta)
    assert isinstance(hessian, Tensor)
    return -torch.linalg.solve(hessian, pull)


def _implicit(J: Objective, F: Objective, theta: Tensor, phi: Tensor) -> Tensor:
    """∂_φF + ∂²_φθJ h with the adjoint h."""
    h = _adjoint(J, F, theta, phi)
    theta, phi = (x.detach().clone().requires_grad_() for x in (theta, phi))
    (slope,) = torch.autograd.grad(J(theta, phi), theta, create_graph=True)
    return torch.autograd.grad(F(theta, phi) + slope @ h, phi)[0]


# --- scalar quadratics ---


@dataclass(frozen=True)
class Scalar:
    """The numbers of a scalar quadratic problem, as the derivations name them."""

    kappa: float
    gamma: float
    nu: float
    phi: float
    tau: float
    theta_0: float
    d: float
    eta: float
    weight: float

    def J(self, theta: Tensor, phi: Tensor) -> Tensor:
        return (-self.kappa * theta**2 / 2 + self.gamma * phi * theta).sum()

    def F(self, theta: Tensor, phi: Tensor) -> Tensor:
        return (-self.nu * (theta - self.tau) ** 2 / 2 + self.d * phi).sum()

    def best(self, phi: Tensor, weight: float | None = None) -> Tensor:
        """The argmax of J, or of F + σJ, by search."""

        def objective(theta: Tensor) -> Tensor:
            J = self.J(theta, phi)
            return J if weight is None else self.F(theta, phi) + weight * J

        return numerics.maximise(objective, torch.zeros(1, dtype=torch.float64))

    def implicit(self) -> float:
        """∇F by the implicit function theorem."""
        phi = tensor(self.phi)
        return float(_implicit(self.J, self.F, self.best(phi), phi))

    @property
    def size(self) -> float:
        """Size of the terms that may cancel in ∇F."""
        best = abs(float(self.best(tensor(self.phi))))
        return abs(self.d) + abs(self.nu * self.gamma / self.kappa) * (abs(self.tau) + best)

    def error(self, d: Derivation, want: float, scale: float, **counts: int) -> float:
        """The relative error of a derivation's formula."""
        values = vars(self) | counts
        chosen = {name: values[name] for name in d.arguments}
        return relative_error(d.at("stated", **chosen), want, scale)


def _scalar(problem: Problem) -> Scalar:
    """The problem's positive numbers, and the logarithms of those that may have either sign."""
    kappa, nu, P, M = (float(X[0, 0]) for X in (problem.U, problem.Sigma, problem.P, problem.M))
    return Scalar(
        kappa=kappa,
        gamma=float(problem.m[0]),
        nu=nu,
        phi=float(np.log(P)),
        tau=float(problem.mu[0]),
        theta_0=float(np.log(M)),
        d=float(np.log(problem.lam)),
        eta=2 * problem.lam / (1 + problem.lam) / kappa,  # the limit of stability is 2/κ
        weight=P * nu / kappa,
    )


def unrolled(d: Derivation, problem: Problem, earlier: int, last: int, bias: bool = False) -> float:
    """dF(θ)/dφ through the last steps only, detached before; its bias: less the implicit ∇F."""
    q = _scalar(problem)
    start, phi = tensor([q.theta_0]), tensor(q.phi).requires_grad_()
    reached = _ascend(q.J, _ascend(q.J, start, phi, q.eta, earlier), phi, q.eta, last)
    (value,) = torch.autograd.grad(q.F(reached, phi), phi)
    # a path that overshoots is at most as far from θ* as its start
    scale = q.size + abs(q.nu * q.gamma / q.kappa * q.theta_0)
    want = float(value) - (q.implicit() if bias else 0.0)
    return q.error(d, want, scale, steps=last, earlier=earlier, last=last)


def _penalty(q: Scalar, weight: float) -> float:
    """d/dφ of max (F + σJ) - σ max J, by central differences of maxima found by search."""

    def value(phi: Tensor) -> float:
        there, here = q.best(phi, weight), q.best(phi)
        return float(q.F(there, phi) + weight * (q.J(there, phi) - q.J(here, phi)))

    up, down = (value(tensor(q.phi + move)) for move in (MOVE, -MOVE))
    return (up - down) / (2 * MOVE)


def penalty(d: Derivation, problem: Problem, bias: bool = False) -> float:
    """∇F_σ by differences; its bias: less the implicit ∇F."""
    q = _scalar(problem)
    want = _penalty(q, q.weight) - (q.implicit() if bias else 0.0)
    return q.error(d, want, q.size)


def penalty_limit(d: Derivation, problem: Problem) -> float:
    """σ(∇F_σ - ∇F) at two large weights, extrapolated in 1/σ."""
    q = _scalar(problem)
    unit, exact = q.nu / q.kappa, q.implicit()
    weights = (LARGE * unit, 2 * LARGE * unit)
    first, second = (weight * (_penalty(q, weight) - exact) for weight in weights)
    return q.error(d, 2 * second - first, unit * q.size)


def _inner(problem: Problem, read: Reader) -> Objective:
    """J in θ and U."""
    t = problem.tensors()
    return lambda theta, U: witnesses.inner_objective(
        *read(theta), U, t["mu"], t["Sigma"], t["lam"]
    )


def _outer(problem: Problem, read: Reader) -> Objective:
    """F in θ and U, on which it does not depend."""
    t = problem.tensors()
    return lambda theta, _: witnesses.log_likelihood(*read(theta), t["mu"], t["Sigma"])


def _symmetric(G: Tensor) -> np.ndarray:
    return ((G + G.mT) / 2).detach().numpy()


def _terms(problem: Problem) -> float:
    """Size of the terms that cancel in ∇F at the inner solution."""
    pull = np.linalg.norm(problem.Sigma) / problem.lam
    return float(np.linalg.norm(np.linalg.inv(problem.U)) + pull)


def unrolled_gaussian(d: Derivation, problem: Problem) -> float:
    """dF/dU through steps in (m, log s) from an inner solution that was searched for."""
    structure = str(d.key.variant)
    n, lam = problem.n, problem.lam
    read: Reader = lambda x: witnesses.unpack(x, n, structure)  # noqa: E731
    eta, U = SHARE / (lam * n), tensor(problem.U).clone().requires_grad_()
    start = numerics.search(problem, problem.U, structure)
    reached = _ascend(_inner(problem, read), start, U, eta, STEPS)
    (G,) = torch.autograd.grad(_outer(problem, read)(reached, U), U)
    got = d.at("stated", **problem.pick("U", "Sigma", "lam"), eta=eta, steps=STEPS)
    return relative_error(square(got, n), _symmetric(G), _terms(problem))


# --- the functional form: the outputs (m, P) are the variables ---


def _spread(entries: Tensor, n: int, structure: str) -> Tensor:
    """The symmetric matrix of a structure that the trailing entries of θ stand for."""
    if structure != "full":
        return torch.diag(entries.expand(n))
    rows, columns = (torch.as_tensor(index) for index in np.tril_indices(n))
    lower = torch.zeros(n, n, dtype=entries.dtype).index_put((rows, columns), entries)
    return lower + lower.tril(-1).mT


def _functional(
    problem: Problem, m: np.ndarray, P: np.ndarray, structure: str
) -> dict[str, np.ndarray]:
    """The adjoint (a, A) at outputs m and P for one input, and ∇F = ∂_U dJ(a, A)."""
    n = problem.n
    free = {"isotropic": P[:1, 0], "diagonal": np.diag(P), "full": P[np.tril_indices(n)]}
    theta, U = tensor(np.concatenate([m, free[structure]])), tensor(problem.U)

    def read(theta: Tensor) -> tuple[Tensor, Tensor]:
        return theta[:n], torch.linalg.cholesky(_spread(theta[n:], n, structure))

    J, F = _inner(problem, read), _outer(problem, read)
    h = _adjoint(J, F, theta, U)
    G = _symmetric(_implicit(J, F, theta, U))
    return {"a": h[:n].numpy(), "A": _spread(h[n:], n, structure).numpy(), "∇F": G}


def _restricted(problem: Problem, structure: str) -> np.ndarray:
    """The problem's P, restricted to the structure."""
    if structure == "full":
        return problem.P
    diagonal = np.diag(problem.P)
    return np.diag(diagonal if structure == "diagonal" else np.full(problem.n, diagonal.mean()))


def _values(d: Derivation, problem: Problem, P: np.ndarray) -> dict[str, object]:
    """The arguments that a derivation takes, P in the form in which it takes it."""
    factor = np.sqrt(P) if "L" in d.arguments else P  # L only where P is diagonal
    forms = {"P": P, "L": factor} if problem.n > 1 else {"P": P[0, 0], "L": factor[0, 0]}
    values = problem.pick("m", "mu", "Sigma", "U") | {"lam": problem.lam, "s": P[0, 0]} | forms
    return {name: values[name] for name in d.arguments}


def functional(d: Derivation, problem: Problem, part: str) -> float:
    """A part of `_functional` at outputs that miss the inner solution."""
    structure = str(d.key.variant or "full")
    P, e = _restricted(problem, structure), problem.m - problem.mu
    misfit = (np.linalg.norm(problem.Sigma) + np.linalg.norm(P) + e @ e) / problem.lam
    pull = np.linalg.norm(np.linalg.inv(problem.U) @ np.linalg.inv(P)) * (e @ e)
    scale = {"a": 0.0, "A": misfit, "∇F": misfit + pull}  # of the terms that cancel
    want = _functional(problem, problem.m, P, structure)[part]
    got = np.reshape(d.at("stated", **_values(d, problem, P)), want.shape)
    return relative_error(got, want, float(scale[part]))


def functional_at_solution(d: Derivation, problem: Problem) -> float:
    """Its ∇F at an inner solution found by search, and differences of its likelihood."""
    structure = str(d.key.variant)
    m, L = witnesses.unpack(numerics.search(problem, problem.U, structure), problem.n, structure)
    G = _functional(problem, m.numpy(), numerics.product(L), structure)["∇F"]
    got = square(d.at("stated", **problem.pick("U", "Sigma", "lam")), problem.n)
    by_differences = gaussian_outer.hypergradient(d, problem)
    return max(relative_error(got, G, _terms(problem)), by_differences)


def restricted_mean_gap(d: Derivation, problem: Problem) -> float:
    """The functional ∇F minus differences of F, for the mean βv(x) at two inputs.

    v is the first row of M at the first input, of U at the second, where the data are N(m, P).
    """
    n, w = problem.n, problem.lam / (1 + problem.lam)
    other = replace(problem, mu=problem.m, Sigma=problem.P)
    inputs = ((w, problem, problem.tensors()["M"][0]), (1 - w, other, problem.tensors()["U"][0]))

    def read(theta: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return witnesses.unpack(torch.cat([theta[:1] * v, theta[1:]]), n, "full")

    def average(kind: Callable[..., Objective], theta: Tensor, U: Tensor) -> Tensor:
        parts = [p * kind(law, lambda x, v=v: read(x, v))(theta, U) for p, law, v in inputs]
        return parts[0] + parts[1]

    def solve(U: np.ndarray, start: Tensor) -> Tensor:
        return numerics.maximise(lambda theta: average(_inner, theta, tensor(U)), start)

    # the covariance of a free mean, which a restricted one does not change much
    theta = solve(problem.U, torch.cat([torch.zeros(1), numerics.search(problem, problem.U)[n:]]))
    parametric = witnesses.central_difference(
        lambda U: float(average(_outer, solve(U, theta), tensor(U))),
        problem.U,
        1e-4 * float(np.linalg.eigvalsh(problem.U)[0]),
    )
    P = numerics.product(read(theta, inputs[0][2])[1])
    means = [float(theta[0]) * v.numpy() for _, _, v in inputs]
    functional = sum(
        p * _functional(law, m, P, "full")["∇F"]
        for (p, law, _), m in zip(inputs, means, strict=True)
    )
    e_a, e_b = (m - law.mu for (_, law, _), m in zip(inputs, means, strict=True))
    scale = max(_terms(law) for _, law, _ in inputs) + max(e_a @ e_a, e_b @ e_b) / problem.lam
    got = square(d.at("stated", w=w, e_a=e_a, e_b=e_b, lam=problem.lam), n)
    return relative_error(got, functional - parametric, float(scale))


# --- surrogates whose samples are held: quadrature nodes in their place ---


def _held(problem: Problem, theta: Tensor, structure: str, baseline: float = 0.0) -> Objective:
    """The surrogate in θ and U: the nodes of a quadrature at θ, and their weights, are held."""
    t = problem.tensors()
    grid, weights = witnesses.gauss_hermite_grid(problem.n)  # exact to degree 5
    m, L = (x.detach() for x in witnesses.unpack(theta, problem.n, structure))
    generations, y = m + grid @ L.mT, witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))

    def surrogate(theta: Tensor, U: Tensor) -> Tensor:
        m, L = witnesses.unpack(theta, problem.n, structure)
        law = torch.distributions.MultivariateNormal(m, scale_tril=L)
        r = witnesses.reward(generations[:, None], y[None], U).mean(1) - baseline
        return weights @ (r * law.log_prob(generations)) + t["lam"] * law.entropy()

    return surrogate


def _second(f: Objective, theta: Tensor, U: Tensor) -> np.ndarray:
    """The Hessian in θ, by autograd."""
    hessian = torch.autograd.functional.hessian(lambda theta: f(theta, U), theta)
    assert isinstance(hessian, Tensor)
    return hessian.numpy()


def _scalar_values(problem: Problem) -> dict[str, float]:
    """The numbers of a scalar problem, by the names of the derivations."""
    u, P, Sigma = (float(X[0, 0]) for X in (problem.U, problem.P, problem.Sigma))
    delta, s, sigma = float(problem.m[0] - problem.mu[0]), P**0.5, Sigma**0.5
    baseline = -float(problem.M[0, 0])
    return {"u": u, "delta": delta, "s": s, "sigma": sigma, "baseline": baseline}


def _at_policy(problem: Problem) -> Tensor:
    """θ of the problem's own scalar policy."""
    return tensor(np.concatenate([problem.m, np.log(problem.P[0]) / 2]))


def surrogate_hessian(d: Derivation, problem: Problem) -> float:
    """Second derivatives in (m, log s) by autograd; the entropy of a scalar policy has none."""
    values = _scalar_values(problem)
    f = _held(problem, _at_policy(problem), "diagonal", values["baseline"])
    want = _second(f, _at_policy(problem), tensor(problem.U))
    return relative_error(d.at("stated", **values), want)


def right_hessian(d: Derivation, problem: Problem) -> float:
    """The same of the expected reward itself."""
    values = {name: value for name, value in _scalar_values(problem).items() if name in d.arguments}
    J = _inner(problem, lambda x: witnesses.unpack(x, 1, "diagonal"))
    want = _second(J, _at_policy(problem), tensor(problem.U))
    return relative_error(d.at("stated", **values), want)


def surrogate_curvature(d: Derivation, problem: Problem) -> float:
    """Second derivatives in log s at m = μ, for the diagonal or the mean variance of P."""
    structure, n = str(d.key.variant), problem.n
    P = _restricted(problem, structure)
    entries = np.log(np.diag(P)) / 2 if structure == "diagonal" else np.log(P[:1, 0]) / 2
    theta = tensor(np.concatenate([problem.mu, entries]))
    want = _second(_held(problem, theta, structure), theta, tensor(problem.U))[n:, n:]
    got = d.at("stated", **_values(d, problem, P))
    return relative_error(np.reshape(got, want.shape), want)


def surrogate_hypergradient(d: Derivation, problem: Problem) -> float:
    """The implicit ∇F with the surrogate for J, at an inner solution that was searched for."""
    theta = numerics.search(problem, problem.U, "diagonal")
    J = _held(problem, theta, "diagonal")
    F = _outer(problem, lambda x: witnesses.unpack(x, 1, "diagonal"))
    G = _symmetric(_implicit(J, F, theta, tensor(problem.U)))
    values = _scalar_values(problem) | {"lam": problem.lam}
    got = d.at("stated", **{name: values[name] for name in d.arguments})
    return relative_error(got, float(G[0, 0]), _terms(problem))


PROPOSITIONS = (
    Proposition(
        "unrolled",
        "K steps of gradient ascent give ∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K), ρ = 1 - ηκ",
        "new",
        (
            Check(unrolling.hypergradient, partial(unrolled, earlier=0, last=5), EXACT),
            Check(unrolling.bias, partial(unrolled, earlier=0, last=5, bias=True), EXACT),
        ),
        solver="solvers.hypergradients.unrolled:unrolled",
    ),
    Proposition(
        "truncated",
        "only the last K₁ of K₀ + K₁ steps differentiated: d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁)",
        "new",
        (Check(unrolling.truncated, partial(unrolled, earlier=3, last=2), EXACT),),
        solver="solvers.hypergradients.unrolled:unrolled",
    ),
    Proposition(
        "one_step",
        "one step: d + ηνγ(τ - θ₁); from θ* the indirect part is ηκ times the exact one",
        "new",
        (Check(unrolling.one_step, partial(unrolled, earlier=0, last=1), EXACT),),
        solver="solvers.hypergradients.unrolled:one_step",
    ),
    Proposition(
        "unrolled_gaussian",
        "K steps in (m, log s) from the inner optimum: ∇_U F (1 - (1 - 2ηλ)^K), λn if isotropic",
        "new",
        (Check(on_gaussians.hypergradient, unrolled_gaussian, EXACT),),
        solver="solvers.hypergradients.unrolled:unrolled",
    ),
    Proposition(
        "penalty",
        "a penalty of weight ς gives d + ςνγ(τ - θ*)/(ν + ςκ): a bias of order 1/ς",
        "new; the method Kwon et al. (2023)",
        (
            Check(penalties.hypergradient, penalty, DIFFERENCES),
            Check(penalties.bias, partial(penalty, bias=True), DIFFERENCES),
            Check(penalties.bias_limit, penalty_limit, DIFFERENCES),
        ),
        solver="solvers.hypergradients.penalty:penalty",
    ),
    Proposition(
        "functional_adjoint",
        "in outputs (m, P): a = -½ U⁻¹P⁻¹e, A = (Σ + eeᵀ - P)/λ within the structure, e = m - μ",
        "new; the method Petrulionyte, Mairal, Arbel (2024)",
        (
            Check(in_outputs.mean_adjoint, partial(functional, part="a"), EXACT),
            Check(in_outputs.covariance_adjoint, partial(functional, part="A"), EXACT),
        ),
        solver="solvers.hypergradients.functional:functional",
    ),
    Proposition(
        "functional_hypergradient",
        "½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ, which is ∇_U F at the inner solution",
        "new; the method Petrulionyte, Mairal, Arbel (2024)",
        (
            Check(in_outputs.hypergradient, partial(functional, part="∇F"), EXACT),
            Check(in_outputs.at_solution, functional_at_solution, DIFFERENCES),
        ),
        solver="solvers.hypergradients.functional:functional",
    ),
    Proposition(
        "functional_gap",
        "a mean restricted to miss μ(x) by e(x): functional - parametric ∇_U F = (2/λ) E eeᵀ",
        "new",
        (Check(in_outputs.restricted_mean_gap, restricted_mean_gap, DIFFERENCES),),
        solver="solvers.hypergradients.functional:functional",
    ),
    Proposition(
        "surrogate_curvature",
        "score-function samples held under a second derivative: the curvature in log s has the "
        "wrong sign, -(n + 1) times the right one at U*; pathwise and DiCE have the right one",
        "new; DiCE: Foerster et al. (2018)",
        (
            Check(surrogates.hessian, surrogate_hessian, EXACT),
            Check(surrogates.differentiable, right_hessian, EXACT),
            Check(surrogates.curvature, surrogate_curvature, EXACT),
        ),
        solver="solvers.hypergradients.implicit:implicit",
    ),
    Proposition(
        "surrogate_hypergradient",
        "implicit differentiation through it gives -2λ/(3λ + 2uσ²) times ∇F: turned round",
        "figure 3, which negates it; the factor new",
        (Check(surrogates.hypergradient, surrogate_hypergradient, SEARCH),),
        solver="solvers.hypergradients.implicit:implicit",
    ),
)
