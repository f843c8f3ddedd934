"""Gaussian divergences: forward and reverse KL, and what they say about the two objectives."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS
from ..calculus.normal_form import normal
from ..calculus.symbols import dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import stated
from .outer import optimal_reward

DOMAIN = "P, Σ symmetric positive definite"


@result(ANY)
def kl(n: int | None) -> Derivation:
    """KL(N(m,P) ‖ N(μ,Σ)) = ½ [Tr(Σ⁻¹P) + (m-μ)ᵀΣ⁻¹(m-μ) - n + log det Σ - log det P].

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma.
    Source: new.
    """
    m, P, mu, Sigma = symbols("m P mu Sigma", n)
    own = definitions.log_likelihood(m, P, m, P)
    other = definitions.log_likelihood(mu, Sigma, m, P)
    return Derivation(
        symbol="KL",
        arguments={"m": m, "P": P, "mu": mu, "Sigma": Sigma},
        stated=stated.kl(m, P, mu, Sigma, dimension(n)),
        derived=_plain(own - other),
        assumptions=(DOMAIN,),
        steps=(Step("E_p log p", own), Step("E_p log q", other)),
    )


@result(ANY)
def gaussian_cost(n: int | None) -> Derivation:
    """E_y log N(y; μ,Σ) - E_y log N(y; m,P) = KL(N(μ,Σ) ‖ N(m,P)): MLE minimises the forward KL.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma: the nats lost by N(m, P) against the best Gaussian.
    Source: paper.
    """
    m, P, mu, Sigma = symbols("m P mu Sigma", n)
    best = definitions.log_likelihood(mu, Sigma, mu, Sigma)
    here = definitions.log_likelihood(m, P, mu, Sigma)
    return Derivation(
        symbol="ΔF",
        arguments={"m": m, "P": P, "mu": mu, "Sigma": Sigma},
        stated=stated.kl(mu, Sigma, m, P, dimension(n)),
        derived=_plain(best - here),
        assumptions=(DOMAIN, MOMENTS),
        steps=(Step("E_y log N(y; μ,Σ)", best), Step("E_y log N(y; m,P)", here)),
        source="paper",
    )


@result(ANY)
def reverse_kl(n: int | None) -> Derivation:
    """J(m,P;U*) = -λ KL(N(m,P) ‖ N(μ,Σ)) + (λ/2)(log det 2πΣ - n).

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma, lam. For data that are not Gaussian the divergence is
        to the Gaussian with their moments.
    Source: paper.
    """
    m, P, mu, Sigma = symbols("m P mu Sigma", n)
    lam = symbol("lam")
    reward = optimal_reward("full", n).derived
    J = definitions.objective(m, P, mu, Sigma, reward, lam)
    return Derivation(
        symbol="J(m,P;U*)",
        arguments={"m": m, "P": P, "mu": mu, "Sigma": Sigma, "lam": lam},
        stated=stated.reverse_kl(m, P, mu, Sigma, lam, dimension(n)),
        derived=_plain(J),
        assumptions=(DOMAIN, "λ > 0", MOMENTS),
        steps=(Step("U*", reward), Step("J at U*", J)),
        source="paper",
    )


def _plain(f: Any) -> Any:
    """General n: the normal form, free of Tr I. Explicit n: as it is."""
    return normal(f) if f.has(sp.MatrixExpr) else f
