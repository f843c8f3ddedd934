"""What `analysis.derive` finds of a reward that is no quadratic, judged by quadrature.

The witness maximises J = E r + λH over policies by a search; its expectations are sums over
Gauss-Hermite nodes of the policy and over atoms of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from scipy import optimize

from analysis import Entropy, Gaussian, Moments, derive, outcome
from analysis.calculus.symbols import symbol

from ...statistics import farthest
from ..claim import Claim, Judgement, Verdict, seeds

NODES = 16  # exact for polynomials of degree < 32
PROBLEMS = 4
TOLERANCE = 1e-6  # of a search whose slope is a difference


def claims() -> tuple[Claim, ...]:
    """Return the claim on the quartic reward."""
    return (
        Claim(
            "derive.quartic",
            "r = -a(ŷ-y)⁴ with symmetric data: P* = ½(√(Σ² + λ/3a) - Σ), and a* = λ/(24Σ²) gives "
            "the data's variance at no cost",
            "new",
            Verdict.proved,
            judge,
        ),
    )


def judge(seed: int) -> Judgement:
    """Return `proved` if what is derived is as stated and the searches find the same."""
    a = sp.Symbol("a", positive=True)
    y_hat, y = outcome(1)
    data = Moments(symmetric=True)
    found = derive(-a * (y_hat - y) ** 4, Gaussian(1), Entropy(), data).verify()
    if found.solution is None or found.optimum is None:
        return Judgement(Verdict.failed, "no closed form was derived")
    Sigma, lam = symbol("Sigma", 1)[0], symbol("lam")
    stated = (sp.sqrt(Sigma**2 + lam / (3 * a)) - Sigma) / 2, lam / (24 * Sigma**2)
    gaps = found.solution["P"] - stated[0], found.optimum["a"] - stated[1], found.cost
    if any(sp.simplify(gap) != 0 for gap in gaps):
        return Judgement(Verdict.failed, f"derived - stated = {[sp.simplify(gap) for gap in gaps]}")
    errors = [
        error for state in seeds(seed, "quartic", PROBLEMS) for error in _errors(found, state)
    ]
    worst = farthest(errors)
    holds = worst <= TOLERANCE
    return Judgement(
        Verdict.proved if holds else Verdict.failed,
        f"derived as stated (residual 0); {len(errors)} searches "
        f"{'agree' if holds else 'DISAGREE'}: relative error {worst:.0e}, at most {TOLERANCE:.0e} "
        "allowed",
        ours=worst,
    )


def _errors(found: Any, seed: int) -> list[float]:
    """Relative errors of P* at a random reward, and at the best one, where it is Σ."""
    rng = np.random.default_rng(seed)
    away = rng.uniform(0.2, 1.5, 3)
    atoms = np.array([*away, *-away])
    Sigma, lam = float(np.mean(atoms**2)), float(rng.uniform(0.2, 2.0))
    best = found.at("optimum", Sigma=Sigma, lam=lam)["a"]
    errors: list[float] = []
    for a in (float(rng.uniform(0.1, 2.0)), best):
        policy = found.at("solution", a=a, Sigma=Sigma, lam=lam, mu=0.0)
        searched = _search(a, lam, atoms)
        errors.append(abs(policy["P"] / searched - 1))
    return [*errors, abs(searched / Sigma - 1)]


def _search(a: float, lam: float, atoms: np.ndarray) -> float:
    """The variance that maximises J, by a search over mean and log standard deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def loss(x: np.ndarray) -> float:
        generated = x[0] + np.exp(x[1]) * nodes
        reward = -a * (generated[:, None] - atoms) ** 4
        return -float(weights @ reward.mean(-1) + lam * x[1])

    start = optimize.minimize(loss, np.array([0.3, 0.0]), method="Nelder-Mead").x
    found = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-8}, jac="3-point")
    return float(np.exp(2 * found.x[1]))
