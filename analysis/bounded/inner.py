"""The bounded reward exp(-‖ŷ - y‖²/ω): expected reward, and where the inner problem has a maximum.

Isotropic policy N(m, sI) and Gaussian data N(μ, β²I), A = ω + 2s + 2β². From `slope` on m = μ, and
J(s) = E r + λH has slope (n/2s)(λ - h(s)): h is the pull of the reward against the entropy.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions as gaussian
from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms
from ..calculus.normal_form import normal
from ..calculus.stationary import solve_linear
from ..calculus.symbols import dimension, named, symbols
from ..derivation import Derivation, Step
from ..result import ANY, SAME, SIZES, result
from . import definitions, stated

ISOTROPIC = ("policy N(m, sI), data N(μ, β²I)", "reward exp(-‖ŷ - y‖²/ω), ω > 0")
CENTRED = (*ISOTROPIC, "m = μ")
_BASIS = "a common basis makes W and S diagonal, so that the formula for n = 2 holds for every n"
_LOOSE = sp.Symbol("k", positive=True)  # a positive distance or ratio in the conditions


@result((1, 2), only=_BASIS)
def log_expected_kernel(n: int) -> Derivation:
    """log E exp(-zᵀWz) = -½ log det(I+2SW) - δᵀ(W⁻¹+2S)⁻¹δ, z = ŷ - y ~ N(δ, S), δ = m - μ.

    Args:
        n: dimension; a common basis makes W and S diagonal, so that n > 2 adds no new case.
    Returns:
        Scalar derivation in m, mu, S, W. Condition: the square in the integral is complete.
    Source: new.
    """
    m, mu, S, W, y_hat, z = symbols("m mu S W y_hat y", n)  # y's symbols stand for z
    exponent = sp.log(definitions.bounded_reward(y_hat, y_hat - z, W))
    exponent += gaussian.log_density(z, m - mu, S)
    derived, gap = definitions.log_integral(exponent, z)
    return Derivation(
        symbol="log E r",
        arguments={"m": m, "mu": mu, "S": S, "W": W},
        stated=stated.log_expected_kernel(m - mu, S, W),
        derived=derived,
        assumptions=("W, S symmetric positive definite, δ = m - μ",),
        steps=(Step("log of the integrand", exponent), Step("log of the integral", derived)),
        conditions=(zero("the square is complete", gap),),
    )


@result(SIZES, quick=(300, "All coordinates are alike: derive one"))
def expected_reward(n: int) -> Derivation:
    """E r = (ω/A)^{n/2} exp(-‖m - μ‖²/A), A = ω + 2s + 2β².

    Args:
        n: dimension; the coordinates are independent, one double integral over ŷ_i, y_i each.
    Returns:
        Scalar derivation in m, mu, omega, s, beta. Condition: the square is complete.
    Source: new.
    """
    m, mu, omega, s, beta = *symbols("m mu", n), *symbols("omega s beta")
    one = symbols("m mu", 1)
    law, gap = definitions.log_expected_bounded_reward(one[0][0], one[1][0], omega, s, beta)
    law = normal(law)
    coordinates = zip(m, mu, strict=True)
    total = sum(
        law.xreplace(dict(zip((one[0][0], one[1][0]), at, strict=True))) for at in coordinates
    )
    return Derivation(
        symbol="E r",
        arguments={"m": m, "mu": mu, "omega": omega, "s": s, "beta": beta},
        stated=stated.expected_bounded_reward(m - mu, omega, s, beta),
        derived=sp.exp(total),
        assumptions=ISOTROPIC,
        steps=(Step("log E r", total),),
        conditions=(zero("the square is complete", gap),),
    )


@cache
def _centred(n: int | None) -> tuple[Any, Any, Any]:
    """E r, dJ/ds and h at m = μ: h(s) is the λ at which dJ/ds = 0."""
    size, omega, s, beta, lam = dimension(n), *symbols("omega s beta lam")
    value, _ = definitions.log_expected_bounded_reward(sp.S.Zero, sp.S.Zero, omega, s, beta)
    reward = _exp(sp.expand(size * normal(value), deep=False))
    entropy = size * gaussian.entropy(sp.ImmutableMatrix([s]))
    pull, push = sp.diff(reward, s), sp.diff(entropy, s)
    return reward, pull + lam * push, -pull / push


def _log(f: Any) -> Any:
    """log of a product of positive factors, as a sum."""
    return sp.expand_log(sp.log(factored(f)))


def _exp(f: Any) -> Any:
    """exp of a sum of multiples of logs, as a product of powers."""
    flat = sp.Add(*(sp.expand_mul(term, deep=False) for term in sp.Add.make_args(f)))
    pairs = [term.as_independent(sp.log, as_Add=False) for term in sp.Add.make_args(flat)]
    return sp.Mul(*(sp.exp(log) ** multiple for multiple, log in pairs))


def _at(logs: Any, x: Any, value: Any) -> Any:
    """A sum of multiples of logs at x = value, every argument in factors."""
    return logs.replace(sp.log, lambda inner: _log(inner.xreplace({x: value})))


def _reduced(f: Any) -> Any:
    """A rational function in lowest terms, where factors of powers cancel first."""
    return factored(lowest_terms(sp.together(sp.powsimp(sp.expand_mul(f)))))


def _arguments(names: str, n: int | None) -> dict[str, Any]:
    """The named scalars, and n itself where it is a symbol."""
    return named(f"{names} n" if n is None else names)


@result(ANY)
def slope(n: int | None) -> Derivation:
    """dJ/ds = (n/2s)(λ - h(s)), h(s) = 2sω^{n/2}/A^{n/2+1}, at m = μ.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation in lam, omega, s, beta, and n if it is a symbol.
    Source: new.
    """
    (reward, derived, _), (omega, s, beta, lam) = _centred(n), symbols("omega s beta lam")
    return Derivation(
        symbol="dJ/ds",
        arguments=_arguments("lam omega s beta", n),
        stated=stated.bounded_slope(lam, omega, s, beta, dimension(n)),
        derived=derived,
        assumptions=CENTRED,
        steps=(Step("E r", reward), Step("d/ds (E r + λH)", derived)),
    )


@result(ANY)
def peak_variance(n: int | None) -> Derivation:
    """s̄ = (ω + 2β²)/n, where h is largest: s h'/h = n(s̄ - s)/A.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation in omega, beta, and n if it is a symbol. Conditions: h rises before s̄,
        falls after it, and stays below 2s/A and (ω/A)^{n/2}, so it starts and ends at 0.
    Source: new.
    """
    (_, _, h), size, omega, s, beta = _centred(n), dimension(n), *symbols("omega s beta")
    A = omega + 2 * s + 2 * beta**2
    rise = sp.expand(s * sp.diff(_log(h), s))
    best = solve_linear([lowest_terms(sp.together(A * rise))], [s])[0]
    return Derivation(
        symbol="s",
        arguments=_arguments("omega beta", n),
        stated=stated.peak_variance(omega, beta, size),
        derived=best,
        assumptions=CENTRED,
        steps=(Step("h", h), Step("s h'/h", rise)),
        conditions=(
            positive("h' > 0 before", _reduced(rise.xreplace({s: best / (1 + _LOOSE)}))),
            positive("h' < 0 after", _reduced(-rise.xreplace({s: best * (1 + _LOOSE)}))),
            zero("h = (2s/A)(ω/A)^{n/2}", _log(h) - _log(2 * s / A) - size * _log(omega / A) / 2),
            positive("2s/A < 1, ω/A < 1", sp.Matrix([_reduced(1 - x / A) for x in (2 * s, omega)])),
        ),
    )


@result(ANY)
def critical_weight(n: int | None) -> Derivation:
    """λ_c = h(s̄) = 2(ω/(ω+2β²))^{n/2} n^{n/2}/(n+2)^{n/2+1}: above it J only rises with s.

    Below it λ = h has a root on each side of s̄ (see `peak_variance`): the smaller is a local
    maximum of J, the larger a minimum; at λ_c they meet.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation in omega, beta, and n if it is a symbol. Conditions: at a root of λ = h,
        d²J/ds² = -(n/2s)h', which is 0 at s̄.
    Source: new.
    """
    size, omega, s, beta, lam = dimension(n), *symbols("omega s beta lam")
    (_, first, h), peak = _centred(n), peak_variance(n).derived
    derived = _exp(_at(_log(h), s, peak))
    at_root = (sp.diff(first, s) + size / (2 * s) * sp.diff(h, s)).xreplace({lam: h})
    return Derivation(
        symbol="λ_c",
        arguments=_arguments("omega beta", n),
        stated=stated.critical_weight(omega, beta, size),
        derived=derived,
        assumptions=CENTRED,
        steps=(Step("h", h), Step("h at its peak", derived)),
        conditions=(
            zero("d²J/ds² = -(n/2s) h' where λ = h", _reduced(at_root / h)),
            zero("h' = 0 at the peak", _reduced(sp.diff(_log(h), s).xreplace({s: peak}))),
        ),
    )


@result(ANY)
def reachable_weight(n: int | None) -> Derivation:
    """s = β² is a local maximum of J for some ω iff λ <= n^{n/2}/(n+2)^{n/2+1}.

    It is the maximum of h(β²) over ω, at ω = 2nβ². For larger ω, h(β²) falls to 0, and β² < s̄.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation without arguments, or in n if it is a symbol. Conditions: these claims.
    Source: new.
    """
    (_, _, h), size, omega, s, beta = _centred(n), dimension(n), *symbols("omega s beta")
    level = _at(_log(h), s, beta**2)
    rise = sp.expand(omega * sp.diff(level, omega))
    A = omega + 4 * beta**2
    best = solve_linear([lowest_terms(sp.together(A * rise))], [omega])[0]
    later = peak_variance(n).derived.xreplace({omega: best + _LOOSE})
    tail = size * _log(omega / A) / 2 + _log(2 * beta**2 / A)
    return Derivation(
        symbol="max h(β²)",
        arguments=_arguments("", n),
        stated=stated.reachable_weight(size),
        derived=_exp(_at(level, omega, best)),
        assumptions=CENTRED,
        steps=(Step("log h(β²)", level), Step("its maximum over ω", best)),
        conditions=(
            positive("it rises before", _reduced(rise.xreplace({omega: best / (1 + _LOOSE)}))),
            positive("it falls after", _reduced(-rise.xreplace({omega: best * (1 + _LOOSE)}))),
            zero("h(β²) = (2β²/A)(ω/A)^{n/2}, to 0 as ω -> ∞", level - tail),
            positive("β² < s̄ from there on", _reduced(later - beta**2)),
        ),
    )


@result(SIZES, quick=(200, SAME))
def growth(n: int) -> Derivation:
    """J/log s -> λn/2 > 0 as s -> ∞: J has no global maximum, for any λ > 0.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in lam. Condition: J > λH, a bounded reward is positive.
    Source: new.
    """
    (reward, first, _), s, lam = _centred(n), *symbols("s lam")
    derived = sp.limit(s * first, s, sp.oo)  # of s dJ/ds: de l'Hôpital's rule for J/log s
    return Derivation(
        symbol="lim J/log s",
        arguments={"lam": lam},
        stated=stated.entropy_growth(lam, sp.Integer(n)),
        derived=derived,
        assumptions=(*CENTRED, "λ > 0"),
        steps=(Step("E r", reward), Step("s dJ/ds", s * first)),
        conditions=(positive("J - λH = E r > 0", reward), positive("the limit", derived)),
    )


@result(n=2)
def inner_variance() -> Derivation:
    """s = (ω+2β²)(1-√(1-q))²/(2q), n = 2: the local maximum of J at λ = q λ_c, 0 < q < 1.

    Returns:
        Scalar derivation in omega, beta, q. Conditions: λ = h there, and it lies below s̄.
    Source: new.
    """
    (_, _, h), (omega, s, beta, q) = _centred(2), symbols("omega s beta q")
    equation = sp.Poly(sp.fraction(sp.together(q * critical_weight(2).derived - h))[0], s)
    c, b, a = (factored(equation.coeff_monomial(s**k)) for k in range(3))
    derived = sp.together((-b - sp.sqrt(factored(b**2 - 4 * a * c))) / (2 * a))
    at = {q: 1 - 1 / (1 + _LOOSE) ** 2}  # without the root
    weight = q * critical_weight(2).derived - h.xreplace({s: derived})
    gap = peak_variance(2).derived - derived
    return Derivation(
        symbol="s*",
        arguments={"omega": omega, "beta": beta, "q": q},
        stated=stated.inner_variance(omega, beta, q),
        derived=derived,
        assumptions=(*CENTRED, "0 < q < 1"),
        steps=(Step("λ - h, numerator in s", equation.as_expr()), Step("smaller root", derived)),
        conditions=(
            zero("λ = h there", _reduced(weight.xreplace(at))),
            positive("it lies below s̄", _reduced(gap.xreplace(at))),
        ),
    )
