"""The law of the covariance S of a sample: νS = L W Lᵀ, Σ = LLᵀ, W = AAᵀ of ν standard normal rows.

Everything starts from the density of the normal: a sum of k squares is χ²_k, and A is lower
triangular (Bartlett) with A_ii² ~ χ²_{ν+1-i} and standard normals below, all independent. Both are
proved by Laplace transforms, see `of_squares` and `of_rows`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions
from ..bounded.definitions import log_integral
from ..calculus.conditions import Condition, zero
from ..calculus.general_n import LogDet
from ..calculus.general_n import normal as in_words
from ..calculus.matrices import logdet, quadratic, replace
from ..calculus.symbols import DIMENSION, EXPLICIT, symbol, symbols
from ..gaussian import inner

_X, _K, _T = sp.symbols("x k t", positive=True)


def _density() -> Any:
    """The density of χ²_k at x."""
    return _X ** (_K / 2 - 1) * sp.exp(-_X / 2) / (2 ** (_K / 2) * sp.gamma(_K / 2))


@cache
def _power(s: Any) -> Any:
    """E (χ²_k)^s by integration of the density."""
    return sp.integrate(_density() * _X**s, (_X, 0, sp.oo), conds="none")


@cache
def _log() -> Any:
    """E log χ²_k, the slope of E (χ²_k)^s at s = 0."""
    s = sp.Symbol("s", real=True)
    return sp.simplify(sp.diff(_power(s), s).subs(s, 0))


def mean_of_power(s: Any, k: Any) -> Any:
    """E (χ²_k)^s = 2^s Γ(k/2 + s)/Γ(k/2)."""
    return sp.gammasimp(_power(s)).xreplace({_K: k})


def mean_of_log(k: Any) -> Any:
    """E log χ²_k = ψ(k/2) + log 2."""
    return _log().xreplace({_K: k})


@cache
def of_squares() -> Condition:
    """E exp(-t χ²_k) is E exp(-t z²) to the power k: χ²_k is the law of a sum of k squares."""
    z = sp.Symbol("z", real=True)
    normal = sp.exp(definitions.log_density(*(sp.ImmutableMatrix([x]) for x in (z, 0, 1))))
    square = sp.integrate(sp.exp(-_T * z**2) * normal, (z, -sp.oo, sp.oo))
    total = sp.integrate(_density() * sp.exp(-_T * _X), (_X, 0, sp.oo), conds="none")
    logs = (sp.expand_log(sp.log(sp.simplify(f)), force=True) for f in (total, square))
    return zero("a sum of k squares is χ²_k", next(logs) - _K * next(logs))


def bartlett(n: int) -> Any:
    """A, lower triangular with a positive diagonal."""
    return sp.ImmutableMatrix(
        n,
        n,
        lambda i, j: (
            sp.Symbol(f"a_{i + 1}{j + 1}", positive=True)
            if i == j
            else sp.Symbol(f"a_{i + 1}{j + 1}", real=True)
            if i > j
            else sp.S.Zero
        ),
    )


def expectation(f: Any, A: Any, nu: Any) -> Any:
    """E f over A: f a sum of products of powers of its entries and of one log of the diagonal."""
    degrees = {A[i, i]: nu - i for i in range(A.rows)}
    return sp.Add(*(_mean(term, degrees, A) for term in sp.Add.make_args(sp.expand(f))))


def _mean(term: Any, degrees: dict[Any, Any], A: Any) -> Any:
    found = sp.S.One
    for base, power in term.as_powers_dict().items():
        if base in degrees:
            found *= mean_of_power(power / 2, degrees[base])
        elif isinstance(base, sp.log) and base.args[0] in degrees:
            found *= mean_of_log(degrees[base.args[0]]) / 2
        elif base in A:
            found *= definitions.normal_expectation(base**power, base)
        else:
            found *= base**power
    return found


def log_transform(T: Any, Sigma: Any) -> tuple[Any, Any]:
    """log E exp(-eᵀTe) of one row e ~ N(0, Σ), and the gap in the completed square (0)."""
    e, zero = symbol("y", T.rows), sp.zeros(T.rows, 1).as_immutable()
    return log_integral(definitions.log_density(e, zero, Sigma) - quadratic(T, e), e)


@cache
def of_rows(n: int) -> tuple[Condition, ...]:
    """E exp(-Tr TAAᵀ) is det(I + 2T)^{-ν/2}, as of ν independent standard normal rows.

    The columns of A are independent. Over the normals of column j its transform is
    |M|^{-½} exp(-A_jj² s), M the block of I + 2T below j and 1 + 2s the ratio of |I + 2T| from j
    on to |M|; over A_jj² ~ χ²_{ν+1-j} that is (|M|/|from j|)^{(ν+1-j)/2} |M|^{-½}.
    """
    nu = symbol("freedom")
    size = min(n, EXPLICIT)
    T, one = symbol("W", size), sp.ImmutableMatrix.eye(size)
    M = one + 2 * T
    row, gap = log_transform(T, one)
    minors = [sp.expand(M[j:, j:].det()) for j in range(size)] + [sp.S.One]
    logs = sp.symbols(f"l_1:{size + 2}", real=True)  # of the minors
    ratios: list[Any] = []
    total = sp.S.Zero
    for j in range(size):
        below, coupling = M[j + 1 :, j + 1 :], T[j + 1 :, j]
        s = T[j, j] - 2 * (coupling.T * below.inv() * coupling)[0, 0] if j + 1 < size else T[j, j]
        ratios.append(sp.cancel((1 + 2 * s) * minors[j + 1] - minors[j]))
        total += -(nu - j) / 2 * (logs[j] - logs[j + 1]) - logs[j + 1] / 2
    last = logs[size]  # the empty minor is 1
    return (
        of_squares(),
        zero("the square in the integral over a row is complete", gap),
        zero("E exp(-zᵀTz) = det(I + 2T)^{-½} of a row z", row + logdet(M) / 2),
        zero("1 + 2s is a ratio of minors", sp.Matrix(ratios)),
        zero("E exp(-Tr TAAᵀ) = det(I + 2T)^{-ν/2}", (total + nu / 2 * logs[0]).subs(last, 0)),
    )


@cache
def lost(scale: Any, spread: Any = 0) -> Any:
    """Nats lost by U = (λ/2) S⁻¹, S = c L W Lᵀ, with a mean that errs by spread · Σ; general n.

    In W alone: Σ = K², K symmetric, and L = K drops out.
    """
    m, S, mu, Sigma, U, W = symbols("m S mu Sigma U W", None)
    K, lam = sp.MatrixSymbol("K", *W.shape), symbol("lam")
    reward = lam / 2 * sp.Inverse(S)
    P = replace(inner.solution("full", None).derived, U, reward)
    here = definitions.log_likelihood(m, P, mu, Sigma)
    here = definitions.expectation(in_words(here), m, mu, spread * Sigma)
    best = definitions.log_likelihood(mu, Sigma, mu, Sigma)
    return in_words(in_words(best - here).xreplace({S: scale * K * W * K, Sigma: K * K}))


def expected(f: Any, n: int, nu: Any) -> Any:
    """E over W of a multiple of log det W and Tr W⁻¹, for one n.

    Tr W⁻¹ is n times (W⁻¹)_nn = 1/A_nn², as the law of W is that of QWQᵀ for a rotation Q.
    """
    W, A = symbol("W", None), bartlett(n)
    logs = sum((2 * sp.log(a) for a in A.diagonal()), sp.S.Zero)
    values = {LogDet(W): logs, sp.Trace(sp.Inverse(W)): n / A[n - 1, n - 1] ** 2}
    return expectation(f.xreplace(values).xreplace({DIMENSION: sp.Integer(n)}), A, nu)
