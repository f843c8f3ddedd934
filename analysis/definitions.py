"""The definitions every derivation starts from: reward, log-density, entropy, expectations.

Nothing here knows a result. The modules with stated results (stated.py) do not import this one.
All functions take explicit matrices of symbols or matrix expressions of general size n.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .calculus import general_n
from .calculus.expanding import expanded
from .calculus.matrices import cancel_outside_logs, inverse, logdet, lowest_terms, quadratic
from .calculus.slopes import derivative
from .calculus.symbols import DIMENSION, symbol
from .errors import MomentError


def reward(y_hat: Any, y: Any, U: Any) -> Any:
    """r_U(ŷ, y) = -(ŷ - y)ᵀ U (ŷ - y)."""
    return -quadratic(U, y_hat - y)


def log_density(y: Any, m: Any, P: Any) -> Any:
    """log N(y; m, P) = -½ [(y - m)ᵀ P⁻¹ (y - m) + log det P + n log 2π]."""
    n = sp.Integer(y.rows) if isinstance(y, sp.MatrixBase) else DIMENSION
    return -(quadratic(inverse(P), y - m) + logdet(P) + n * sp.log(2 * sp.pi)) / 2


def expectation(f: Any, v: Any, mean: Any, covariance: Any) -> Any:
    """E f(v) = f(mean) + ½ Σ_ij f_ij cov_ij for a quadratic f: two moments are all it uses.

    Raises:
        MomentError: if f is not a polynomial of degree at most 2 in v.
    """
    if not isinstance(v, sp.MatrixBase):
        return _general_expectation(f, v, mean, covariance)
    first = [derivative(f, entry) for entry in v]
    second = sp.ImmutableMatrix(v.rows, v.rows, lambda i, j: derivative(first[i], v[j]))
    if any(entry.has(*v) for entry in second):
        raise MomentError("the expression is not quadratic: it needs more than two moments")
    spread = sum(second[i] * covariance[i] for i in range(len(second)))
    return f.xreplace(dict(zip(v, mean, strict=True))) + spread / 2


def normal_expectation(f: Any, *noise: Any) -> Any:
    """E f(ε) for a polynomial f of independent standard normals: E ε^k = (k-1)!!, 0 for odd k.

    Raises:
        MomentError: if f is not a polynomial in the noise.
    """
    try:
        terms = sp.Poly(f, *noise).terms()
    except sp.PolynomialError as error:
        raise MomentError(f"the expression is not a polynomial in the noise: {error}") from error
    return sp.Add(
        *(
            coefficient * sp.prod([sp.factorial2(k - 1) for k in powers])
            for powers, coefficient in terms
            if all(k % 2 == 0 for k in powers)
        )
    )


def normal_covariance(f: Any, g: Any, *noise: Any) -> Any:
    """Cov(f, g) = E fg - E f E g for polynomials of independent standard normals."""
    product = normal_expectation(f * g, *noise)
    return expanded(product - normal_expectation(f, *noise) * normal_expectation(g, *noise))


def score(m: Any, L: Any, noise: Any, shift: Any, spread: Any) -> Any:
    """d/dt log N(ŷ; m + t shift, SSᵀ), S = L + t spread, at t = 0 and ŷ = m + Lε: a polynomial."""
    t = sp.Dummy("t")
    S = L + t * spread
    value = log_density(m + L * noise, m + t * shift, (S * S.T).applyfunc(expanded).as_immutable())
    return expanded(lowest_terms(derivative(value, t).subs(t, 0)))


def expected_reward(m: Any, P: Any, mu: Any, Sigma: Any, U: Any) -> Any:
    """E_{y~q} E_{ŷ~p} r_U(ŷ, y), from the moments (m, P) of p and (μ, Σ) of q."""
    y_hat, y = _points(m)
    return expectation(expectation(reward(y_hat, y, U), y_hat, m, P), y, mu, Sigma)


def mean_reward(y_hat: Any, mu: Any, Sigma: Any, U: Any) -> Any:
    """r̄(ŷ) = E_{y~q} r_U(ŷ, y)."""
    _, y = _points(y_hat)
    return expectation(reward(y_hat, y, U), y, mu, Sigma)


def entropy(P: Any) -> Any:
    """H(N(m, P)) = -E log N(ŷ; m, P), which does not depend on m (written with m = μ)."""
    mu = symbol("mu", _size(P))
    value = -log_likelihood(mu, P, mu, P)
    if not isinstance(P, sp.MatrixBase):
        return general_n.normal(value)  # Tr(P⁻¹P) = n
    return cancel_outside_logs(value)  # Tr(P⁻¹P) = n


def log_likelihood(m: Any, P: Any, mu: Any, Sigma: Any) -> Any:
    """E_{y~q} log N(y; m, P), from the moments (μ, Σ) of q."""
    _, y = _points(m)
    return expectation(log_density(y, m, P), y, mu, Sigma)


def objective(m: Any, P: Any, mu: Any, Sigma: Any, U: Any, lam: Any) -> Any:
    """J(m, P; U) = E_y E_ŷ r_U(ŷ, y) + λ H(N(m, P))."""
    return expected_reward(m, P, mu, Sigma, U) + lam * entropy(P)


def _size(X: Any) -> int | None:
    return X.rows if isinstance(X, sp.MatrixBase) else None


def _points(like: Any) -> tuple[Any, Any]:
    n = _size(like)
    return symbol("y_hat", n), symbol("y", n)


def _general_expectation(f: Any, v: Any, mean: Any, covariance: Any) -> Any:
    """General n: put v = mean + ξ in every trace; E ξ = 0, E ξξᵀ = covariance."""
    for node in f.atoms(sp.Trace):
        total: list[Any] = []
        for word, value in general_n.words_of(node.args[0]).items():
            total.append(value * _expected_word(word, v, mean, covariance))
        f = f.xreplace({node: sum(total)})
    return f


def _expected_word(word: general_n.Word, v: Any, mean: Any, covariance: Any) -> Any:
    at = [i for i, letter in enumerate(word) if letter[0] == v.name]
    if len(at) > 2:
        raise MomentError("the expression is not quadratic: it needs more than two moments")
    shape = (DIMENSION, DIMENSION)
    at_mean = sp.Trace(general_n.matrix_from({word: 1}, shape).xreplace({v: mean}))
    if len(at) < 2:
        return at_mean
    # A word is A ξ ξᵀ up to rotation and transposition, because its trace is a number.
    start = next(i for i in at if not word[i][2])
    rotated = word[start:] + word[:start]
    if rotated[1] != (v.name, 1, True):
        raise MomentError(f"{v} vᵀ does not occur as one factor")
    rest = general_n.matrix_from({rotated[2:]: 1}, shape)
    return at_mean + sp.Trace(rest * covariance)
