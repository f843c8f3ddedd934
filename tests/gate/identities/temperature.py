"""Identities of a temperature per input: β-NLL, faithful regression and policy gradient are one.

The data have three inputs, the last two alike, so that the first has probability w = 1/3. Data,
rewards and features are those of the problem, as in `claims.theory.gaussian_temperature`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.gaussian import temperature
from paper_checks.conformance import witnesses
from paper_checks.conformance.derived import EXPLICIT, square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import FINITE_DIFFERENCE, agree, closed_form
from solvers.bilevel.likelihood import problem as likelihood
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.hypergradients.methods import Implicit
from solvers.rewards.learnable import InputReward
from solvers.rewards.mahalanobis import DiagonalReward, MahalanobisReward
from solvers.rewards.tempered import Tempered, TemperedReward
from solvers.training import inner
from solvers.training.objectives import MSE, NLL, BetaNLL, Faithful, PolicyGradient
from tests.draws import F64

ROWS = [0, 1, 1]  # which of the two inputs each row is
HELD = [0, 0, 0, 1, 1]  # and each row of the outer level, where that meets others
LEARNED = TemperedReward(InputReward(2, 1, MLP(), "diagonal"))  # of inputs (1, 0) and (0, 1)


def pair(problem: Problem, *names: str) -> Tensor:
    """Return two fields of the problem, one for each row."""
    t = problem.tensors()
    return torch.stack([t[name] for name in names])[ROWS]


def features(problem: Problem) -> Tensor:
    """Return a(x), `(3, n)`."""
    return pair(problem, "M", "U")[:, 0]


def data(problem: Problem) -> Dataset:
    """Return data with the moments of both inputs."""
    means, factors = pair(problem, "mu", "m"), torch.linalg.cholesky(pair(problem, "Sigma", "P"))
    y = torch.stack([witnesses.cubature(*each) for each in zip(means, factors, strict=True)])
    return Dataset.of(torch.zeros(len(ROWS), 1, dtype=F64), y)


def values(problem: Problem, **given: Any) -> dict[str, Any]:
    """Return arguments of a derivation: w, and what is given, floats where n = 1."""
    given = {name: np.asarray(value, float) for name, value in given.items()}
    if problem.n == 1:
        given = {name: float(value.reshape(())) for name, value in given.items()}
    return {"w": 1 / len(ROWS)} | given


def located(problem: Problem) -> dict[str, Any]:
    """Return the means of the data and the features, as arguments of a derivation."""
    return values(problem, mu_a=problem.mu, mu_b=problem.m, a=problem.M[0], b=problem.U[0])


def inner_solution(problem: Problem) -> None:
    """`(λ(x)/2) U(x)⁻¹` and weighted least squares: Newton's step of `J` from there is 0."""
    n, free, t = problem.n, problem.n * (problem.n + 1) // 2, problem.tensors()
    lams = torch.stack([t["lam"], 1 / (1 + t["lam"])])
    size = n if n <= EXPLICIT else None
    weights = values(problem, U_a=problem.U, U_b=problem.M)
    centre = temperature.mean(size).at("derived", **(located(problem) | weights))
    solved = temperature.covariance(size)
    factors = [
        torch.linalg.cholesky(torch.as_tensor(square(P, n)))
        for P in (
            solved.at("derived", U_a=weights[U], lam_a=float(lam))
            for U, lam in zip(("U_a", "U_b"), lams, strict=True)
        )
    ]
    reward = MahalanobisReward(torch.linalg.cholesky(pair(problem, "U", "M")))
    objective = PolicyGradient(reward, t["lam"], temperature=lams[ROWS] / t["lam"])
    a, known = features(problem), data(problem)

    def J(step: Tensor) -> Tensor:
        """Of steps away from the solution: θ relative to its size, factors to theirs."""
        moved = [
            L @ witnesses.unpack(torch.cat([torch.zeros(n), raw]), n, "full")[1]
            for L, raw in zip(factors, step[1:].split(free), strict=True)
        ]
        law = Gaussian(centre * (1 + step[0]) * a, torch.stack(moved)[ROWS])
        return -objective(law, known)

    zero = torch.zeros(1 + 2 * free, dtype=F64)
    slope = torch.autograd.functional.jacobian(J, zero)
    hessian = torch.autograd.functional.hessian(J, zero)
    cancels = float(known.mean.norm() / (abs(centre) * a.norm()))  # in θ
    rtol = closed_form(problem.U, problem.M) * (1 + cancels)
    step = torch.linalg.solve(hessian, slope)
    agree("∂J = 0 at P*(x), θ*", step, torch.zeros_like(step), rtol=rtol, scale=1.0, inputs=problem)


def root(objective: Any, problem: Problem, variances: Tensor) -> float:
    """Return θ where the slope of an objective, linear in θ, is 0."""
    theta = torch.zeros((), dtype=F64, requires_grad=True)
    law = Gaussian(theta * features(problem), variances.sqrt())
    (slope,) = torch.autograd.grad(objective(law, data(problem)), theta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, theta)
    return -float(slope.detach() / curvature)


def family(problem: Problem, power: float) -> None:
    """The means of β-NLL, faithful regression, NLL, MSE and policy gradient are the derived ones.

    Args:
        problem: of n = 1, 2, 3.
        power: β, in (0, 1].
    """
    n, variances = problem.n, pair(problem, "Sigma", "P").diagonal(dim1=-2, dim2=-1)
    lam, tau = problem.tensors()["lam"], variances**power
    tempered = PolicyGradient(DiagonalReward(lam * tau / (2 * variances)), lam, temperature=tau)
    outer = Tempered(lam / (2 * variances), power)
    carried = PolicyGradient(outer, lam, temperature=outer.temperature)
    at, given = located(problem), values(problem, P_a=problem.Sigma, P_b=problem.P)

    def of_power(beta: float) -> float:
        return temperature.beta_nll(n).at("derived", **(at | given), power=beta)

    precisions = [np.diag(1 / np.diag(P)) for P in (problem.Sigma, problem.P)]
    inverse = values(problem, U_a=precisions[0], U_b=precisions[1])
    likely = temperature.mean(n).at("derived", **(at | inverse))
    cases: list[tuple[str, Any, float]] = [
        ("β-NLL", BetaNLL(power), of_power(power)),
        ("λ(x) = λ P^β, U = ½ λ(x) P⁻¹", tempered, of_power(power)),
        ("a reward with its temperature", carried, of_power(power)),
        ("β-NLL, β = 0", BetaNLL(0.0), likely),
        ("likelihood", NLL(), likely),
        ("β-NLL, β = 1", BetaNLL(1.0), of_power(1.0)),
        ("squared error", MSE(), of_power(1.0)),
        ("faithful", Faithful(), temperature.faithful(n).at("derived", **at)),
    ]
    a, centre = features(problem), data(problem).mean
    size = float(centre.norm() / a.norm())
    rtol = closed_form(problem.Sigma, problem.P)
    for name, objective, want in cases:
        got = root(objective, problem, variances)
        agree(f"θ of {name}", got, want, rtol=rtol, scale=size, inputs=problem)
    spread = variances + (likely * a - centre).square()
    for name, objective, at_variances in (
        ("β-NLL", BetaNLL(power), spread),
        ("faithful", Faithful(), spread),
        ("λ(x) = λ P^β, U = ½ λ(x) P⁻¹", tempered, variances),
        ("a reward with its temperature", carried, variances),
    ):
        stationary(f"P of {name}", objective, problem, likely * a, at_variances)


def stationary(
    name: str, objective: Any, problem: Problem, mean: Tensor, variances: Tensor
) -> None:
    """Assert that a secant's step in `log s` from these variances to a slope of 0 is 0."""
    known = data(problem)
    log_s = (variances.log() / 2).requires_grad_()
    (slope,) = torch.autograd.grad(objective(Gaussian(mean, log_s.exp()), known), log_s)
    other = log_s.detach() + 1e-3
    (moved,) = torch.autograd.grad(
        objective(Gaussian(mean, other.requires_grad_().exp()), known), other
    )
    step = 1e-3 * slope / (moved - slope)
    agree(name, step, torch.zeros_like(step), rtol=1e-9, scale=1.0, inputs=problem)


def power_slope(problem: Problem, power: float) -> None:
    """`implicit` through `λ(x) = λ P^β` finds the derived slopes of likelihood and mean error.

    Args:
        problem: scalar.
        power: β.
    """
    lam, known = problem.tensors()["lam"], data(problem)
    variances = pair(problem, "Sigma", "P")[..., 0]

    def law(theta: dict[str, Tensor]) -> Gaussian:
        return Gaussian(theta["m"].expand(len(ROWS), 1), theta["log_s"][ROWS].exp())

    def J(theta: dict[str, Tensor], phi: Tensor) -> Tensor:
        tau = variances**phi
        reward = DiagonalReward(lam * tau / (2 * variances))
        return -PolicyGradient(reward, lam, temperature=tau)(law(theta), known)

    outer: dict[temperature.Level, Callable[[dict[str, Tensor], Tensor], Tensor]] = {
        "likelihood": lambda theta, phi: -NLL()(law(theta), known),
        "error": lambda theta, phi: (law(theta).mean - known.mean).square().mean(),
    }
    arguments = values(problem, mu_a=problem.mu, mu_b=problem.m, P_a=problem.Sigma, P_b=problem.P)
    centre = temperature.beta_nll(1).at("derived", **arguments, a=1.0, b=1.0, power=power)
    theta = {"m": torch.tensor([centre], dtype=F64), "log_s": variances[:2].log() / 2}
    for of, F in outer.items():
        found = Implicit()(J, F, theta, torch.tensor(power, dtype=F64))
        want = temperature.power_slope(of).at("derived", **arguments, power=power)
        gap = float(problem.mu[0] - problem.m[0]) ** 2
        scale = gap / float(variances.min()) if of == "likelihood" else gap
        agree(f"slope of {of} in β", found.value, want, rtol=1e-9, scale=scale, inputs=problem)


def shared_mean(params: Params, x: Tensor) -> Gaussian:
    """A policy with one mean for both inputs, and a variance for each."""
    return Gaussian(params["m"].expand(len(x), 1), (x @ params["log_s"]).exp().unsqueeze(-1))


def at_inputs(problem: Problem, rows: list[int]) -> Dataset:
    """Return data with the moments of a scalar problem, at inputs (1, 0) and (0, 1)."""
    moments = data(problem)
    return Dataset.of(torch.eye(2, dtype=F64)[rows], moments.y[rows])


def learned_power(problem: Problem, power: float) -> None:
    """`maximum_likelihood`'s hypergradient in β of a `TemperedReward`, and its zero, are derived.

    Beside the derived slope stand differences of the outer value at inner solutions found anew.

    Args:
        problem: scalar.
        power: β.
    """
    lam, variances = problem.lam, torch.tensor([problem.Sigma.item(), problem.P.item()], dtype=F64)
    given = {"weight0": (lam / (2 * variances)).log().unsqueeze(-1) / 2}
    given["bias0"] = torch.zeros(1, dtype=F64)
    gap, size = float(problem.mu[0] - problem.m[0]), float(variances.log().diff().abs())
    scale = gap**2 / float(variances.min())
    ratio = temperature.density_ratio().at("derived", w=1 / 3, w_held=3 / 5)
    best = math.log(ratio) / float(variances[0].log() - variances[1].log())
    arguments = values(problem, mu_a=problem.mu, mu_b=problem.m, P_a=problem.Sigma, P_b=problem.P)

    for name, rows, beta in (("the same inputs", ROWS, power), ("others", HELD, power),
                             ("others, at the ratio of densities", HELD, best)):  # fmt: skip
        levels = likelihood(
            shared_mean, LEARNED, lam, at_inputs(problem, ROWS), held_out=at_inputs(problem, rows)
        )

        def phi(beta: float | Tensor) -> dict[str, Tensor]:
            return {"power": torch.as_tensor(beta, dtype=F64), **given}

        def solved(beta: float, levels: Any = levels) -> dict[str, Tensor]:
            start = {"m": torch.zeros(1, dtype=F64), "log_s": variances.log() / 2}
            J = levels.J
            return inner.minimum(start, lambda theta: -J(theta, phi(beta)), tolerance=1e-13).value

        at = {**given, "power": torch.tensor(beta, dtype=F64, requires_grad=True)}
        got = float(Implicit()(levels.J, levels.F, solved(beta), at).value["power"])
        if rows is ROWS:
            want = temperature.power_slope("likelihood").at("derived", **arguments, power=beta)
            agree(f"dF/dβ, {name}", got, want, rtol=1e-9, scale=scale, inputs=problem)
        elif beta is best:
            agree(f"dF/dβ, {name}", got, 0.0, rtol=1e-9, scale=scale, inputs=problem)
            continue
        step = 1e-3 / (1 + size)
        values_at = [float(levels.F(solved(b), phi(b))) for b in (beta - step, beta + step)]
        want = (values_at[1] - values_at[0]) / (2 * step)
        agree(f"dF/dβ by differences, {name}", got, want, rtol=FINITE_DIFFERENCE,
              scale=scale * (1 + size), inputs=problem)  # fmt: skip
