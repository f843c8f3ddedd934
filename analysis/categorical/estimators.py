"""The score-function estimator of a categorical policy in softmax logits, and its best baselines.

One generation c ~ p gives the entries (r_c - b) ∂log p_c/∂z_j, p_c = exp(z_c)/Σ_k exp(z_k).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..calculus.conditions import Condition, positive, zero
from ..calculus.matrices import lowest_terms
from ..calculus.stationary import solve_linear
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import CLASSES, result
from . import stated
from .inner import ONLY_SIZES, probabilities

POLICY = ("n classes, p_c > 0, Σp = 1 (the last is 1 less the others)", "p = softmax(z)")
ONE = "one generation, entries (r_c - b)(1[c=j] - p_j)"
SPLIT = "r_c enters through r_j, Σ_{c≠j} p_c r_c and Σ_{c≠j} p_c r_c²"
_B, _R = sp.symbols("b r_c", real=True)
_P = sp.Symbol("p_j", positive=True)
_OWN, _FIRST, _SECOND = sp.symbols("r_j A B", real=True)


@cache
def _scores(n: int) -> Any:
    """∂log p_c/∂z_j, row c and column j, in the probabilities."""
    z = sp.symbols(f"z_1:{n + 1}", real=True)
    total = sp.log(sp.Add(*map(sp.exp, z)))
    slopes = sp.Matrix([x - total for x in z]).jacobian(sp.Matrix(z))
    at = {x: sp.log(p) for x, p in zip(z, probabilities("p", n), strict=True)}
    return slopes.xreplace(at).applyfunc(sp.expand)


def _score_conditions(n: int) -> tuple[Condition, ...]:
    """The scores take two values in each column, as `_mean` says."""
    p = probabilities("p", n)
    two = sp.Matrix(n, n, lambda c, j: (1 - p[j]) if c == j else -p[j])
    return (zero("∂log p_c/∂z_j = 1[c=j] - p_j", _scores(n) - two),)


def _mean(f: Any) -> Any:
    """E f(r_c, s_c) for f quadratic in r_c: c = j has p_j and score 1 - p_j, the others -p_j.

    They have mass 1 - p_j, and moments Σ p_c r_c = A, Σ p_c r_c² = B.
    """
    others = sp.Poly(f(_R, -_P), _R)
    moments = (1 - _P, _FIRST, _SECOND)
    rest = sum(others.coeff_monomial(_R**k) * moment for k, moment in enumerate(moments))
    return sp.expand(_P * f(_OWN, 1 - _P) + rest)


@cache
def _entry() -> tuple[Any, Any, Any, Any]:
    """Mean of an entry, its best b, its least variance, ½ ∂²Var/∂b²; in p_j, r_j, A, B."""
    mean = _mean(lambda r, s: (r - _B) * s)
    second = _mean(lambda r, s: (r - _B) ** 2 * s**2)
    variance = sp.expand(second - mean**2)
    best = solve_linear([sp.diff(variance, _B)], [_B])[0]
    return mean, best, lowest_terms(variance.xreplace({_B: best})), sp.diff(variance, _B, 2) / 2


def _entries(f: Any, n: int) -> Any:
    """A function of p_j, r_j, A, B in lowest terms, for every j."""
    p, r, reduced = probabilities("p", n), symbol("r", n), lowest_terms(f)
    rows: list[Any] = []
    for j in range(n):
        others = [c for c in range(n) if c != j]
        first, second = (sum(p[c] * r[c] ** k for c in others) for k in (1, 2))
        at = {_P: p[j], _OWN: r[j], _FIRST: first, _SECOND: second}
        rows.append(reduced.xreplace(at))
    return sp.ImmutableMatrix(rows)


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def score_gradient(n: int) -> Derivation:
    """E (r_c - b)(1[c=j] - p_j) = p_j (r_j - E r) = ∂E r/∂z_j: unbiased for every constant b.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in p, r (the rewards of the classes); shape (n,). Conditions: b drops out, it is
        the gradient of E r.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    p, r, mean = probabilities("p", n), symbol("r", n), _entry()[0]
    means = _entries(mean, n)
    z = sp.symbols(f"z_1:{n + 1}", real=True)
    total = sp.Add(*map(sp.exp, z))
    reward = sum(sp.exp(x) / total * r[c] for c, x in enumerate(z))
    at = {x: sp.log(y) for x, y in zip(z, p, strict=True)}
    slopes = sp.Matrix([sp.diff(reward, x).xreplace(at) for x in z])
    return Derivation(
        symbol="∇ E r",
        arguments={"p": symbol("p", n), "r": r},
        stated=stated.score_gradient(p, r),
        derived=means,
        assumptions=(*POLICY, ONE),
        steps=(Step("∂log p_c/∂z_j", _scores(n)), Step("mean of entry j", mean)),
        conditions=(
            *_score_conditions(n),
            zero("b drops out", sp.diff(mean, _B)),
            zero("it is ∂E r/∂z_j", slopes - means),
        ),
    )


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def optimal_baseline(n: int) -> Derivation:
    """b_j = (1-p_j) r_j + p_j E[r | c ≠ j]: the constant baseline of least variance.

    Each entry has its own: it weighs r_j by 1 - p_j, where the expected reward has p_j.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in p, r (the rewards of the classes); shape (n,). Condition: the variances are
        convex in b, ½ ∂²Var/∂b² = E s² = p_j (1 - p_j).
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    _, best, _, bend = _entry()
    free = symbol("p", n)
    others = [free[j] * sp.Add(*(free[c] for c in range(n) if c != j)) for j in range(n)]
    return Derivation(
        symbol="b*",
        arguments={"p": free, "r": symbol("r", n)},
        stated=stated.optimal_baseline(probabilities("p", n), symbol("r", n)),
        derived=_entries(best, n),
        assumptions=(*POLICY, ONE, SPLIT),
        steps=(Step("b* of entry j", best), Step("½ ∂²Var/∂b²", bend)),
        conditions=(
            *_score_conditions(n),
            zero("½ ∂²Var/∂b² = p_j (1 - p_j)", bend - _P * (1 - _P)),
            positive("1 - p_j is the sum of the others", sp.Matrix(others)),
        ),
    )


@result((3, 4), check=check_classes, quick=(16, ONLY_SIZES))
def minimal_variance(n: int) -> Derivation:
    """p_j² (1-p_j) Var[r | c ≠ j]: the variance left by the best constant baseline; 0 for n = 2.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in p, r (the rewards of the classes); shape (n,).
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    _, best, variance, _ = _entry()
    return Derivation(
        symbol="min Var",
        arguments={"p": symbol("p", n), "r": symbol("r", n)},
        stated=stated.minimal_variance(probabilities("p", n), symbol("r", n)),
        derived=_entries(variance, n),
        assumptions=(*POLICY, ONE, SPLIT),
        steps=(Step("b* of entry j", best), Step("Var at b*", variance)),
        conditions=_score_conditions(n),
    )
