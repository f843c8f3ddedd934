"""Rewards between embeddings, -(φ(ŷ) - φ(y))ᵀ U (φ(ŷ) - φ(y)): they see E[φ(y)|x] only."""

from __future__ import annotations

import sympy as sp

from .. import definitions as entropic
from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import inverse
from ..calculus.normal_form import normal
from ..calculus.symbols import symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import stated


@result(ANY)
def ranking(n: int | None) -> Derivation:
    """r̄(φ̂) - r̄(φ̂') = (φ̂' - φ̂)ᵀU(φ̂ + φ̂' - 2 E φ(y)): no covariance of φ(y) ranks generations.

    So two laws of data with one E[φ(y)|x] teach the same policy, whatever else they differ in.

    Args:
        n: dimension of the embedding, or None for general size.
    Returns:
        Scalar derivation in y_hat, y (two generations' embeddings), mu (E φ(y)), U.
    Source: new.
    """
    y_hat, y, mu, Sigma, U = symbols("y_hat y mu Sigma U", n)
    reward = entropic.mean_reward(y_hat, mu, Sigma, U)
    other = reward.xreplace(dict(zip(y_hat, y, strict=True)) if n else {y_hat: y})
    derived = reward - other
    return Derivation(
        symbol="r̄(φ̂) - r̄(φ̂')",
        arguments={"y_hat": y_hat, "y": y, "mu": mu, "U": U},
        stated=stated.embedded_ranking(y_hat, y, mu, U),
        derived=normal(derived) if n is None else sp.expand(derived),
        assumptions=("y_hat, y, mu stand for φ(ŷ), φ(ŷ'), E φ(y); Σ for the covariance of φ(y)",),
        steps=(Step("r̄ = E_y r", reward),),
    )


@result(n=1)
def variance() -> Derivation:
    """s = σ²/√3, not σ²: the variance learned with φ(y) = (y, y²) and U = (λ/2) Cov(φ(y))⁻¹.

    A scalar Gaussian policy N(m, s) with entropy, data N(0, σ²): the reward that is optimal for a
    Gaussian law of φ(y) is not for one of y, whose embedding is no Gaussian.

    Returns:
        Scalar derivation in sigma. Conditions: J has its maximum there, in m and in s.
    Source: new.
    """
    sigma, lam, s = symbols("sigma lam s")
    e, m = sp.symbols("epsilon m", real=True)

    def embedded(at: sp.Expr) -> sp.ImmutableMatrix:
        return sp.ImmutableMatrix([at, at**2])

    def mean(f: sp.Expr) -> sp.Expr:
        return entropic.normal_expectation(sp.expand(f), e)

    data = embedded(sigma * e)
    centre = data.applyfunc(mean)
    spread = (data * data.T).applyfunc(mean) - centre * centre.T
    weight = lam / 2 * inverse(spread)
    J = mean(entropic.reward(embedded(m + sp.sqrt(s) * e), centre, weight))
    J += lam * entropic.entropy(sp.ImmutableMatrix([s]))
    slope = factored(sp.diff(J, s).subs(m, 0))
    (derived,) = sp.solve(sp.fraction(slope)[0], s)
    return Derivation(
        symbol="s*",
        arguments={"sigma": sigma},
        stated=stated.embedded_variance(sigma),
        derived=derived,
        assumptions=("policy N(m, s), data N(0, σ²), φ(y) = (y, y²)", "J = E r + λH"),
        steps=(Step("Cov φ(y)", spread), Step("J", J), Step("∂J/∂s at m = 0", slope)),
        conditions=(
            zero("∂J/∂m = 0 at m = 0", sp.diff(J, m).subs(m, 0)),
            positive("-∂²J/∂m² > 0", sp.expand(-sp.diff(J, m, 2).subs(m, 0))),
            positive("-∂²J/∂s² > 0", sp.expand(-sp.diff(J, s, 2).subs(m, 0))),
        ),
    )
