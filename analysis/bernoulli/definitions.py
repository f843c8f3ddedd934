"""What both levels are for independent bits: every expectation is a sum over the 2ⁿ outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import sympy as sp

from .. import definitions


def outcomes(psi: Any) -> Iterator[tuple[Any, Any]]:
    """Each outcome in {0, 1}ⁿ, and its probability Π ψ_i^{y_i} (1-ψ_i)^{1-y_i}."""
    for bits in product((0, 1), repeat=psi.rows):
        chosen = (x if bit else 1 - x for bit, x in zip(bits, psi, strict=True))
        yield sp.ImmutableMatrix(bits), sp.prod(chosen)


def log_probability(y: Any, psi: Any) -> Any:
    """log p(y) = Σ_i [y_i log ψ_i + (1-y_i) log(1-ψ_i)]."""
    return sum(bit * sp.log(x) + (1 - bit) * sp.log(1 - x) for bit, x in zip(y, psi, strict=True))


def objective(psi: Any, rho: Any, Sigma: Any, U: Any, lam: Any) -> Any:
    """J = E_ŷ [r̄(ŷ) - λ log p(ŷ)], r̄ averaged over data of mean ρ and covariance Σ."""
    return sp.expand(
        sum(
            p * (definitions.mean_reward(y, rho, Sigma, U) - lam * log_probability(y, psi))
            for y, p in outcomes(psi)
        )
    )


def log_likelihood(psi: Any, rho: Any) -> Any:
    """E_y log p(y), linear in the mean ρ of the data."""
    return log_probability(rho, psi)
