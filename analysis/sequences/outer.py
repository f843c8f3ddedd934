"""The outer problem: what the best reward over positions or windows learns, and what it misses."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import Condition, positive, zero
from ..calculus.normal_form import normal
from ..calculus.stationary import solve_linear
from ..calculus.symbols import check_classes, symbol
from ..categorical import inner as classes
from ..derivation import Derivation, Step
from ..result import result
from . import definitions, stated
from .inner import LAM, LENGTHS, ONLY, WORDS

WINDOWS = {"positions": 1, "pairs": 2}  # symbols in a window
SLOPES = {
    "positions": "∂F/∂g_t(v) = (q_t(v) - p*_t(v))/λ for a reward Σ_t g_t(ŷ_t)",
    "pairs": "∂F/∂g_t(a,b) = (q_t(a,b) - p*_t(a,b))/λ for a reward Σ_t g_t(ŷ_t, ŷ_{t+1})",
}
COSTS = {
    "positions": "max F - F(g*) = Σ_t H(q_t) - H(q): additive rewards lose the total correlation",
    "pairs": "max F - F(g*) = Σ_t H(q_{t,t+1}) - Σ_t H(q_t) - H(q), the inner t in the second sum",
}


def _tables(window: int, n: int) -> list[Any]:
    """Symbols g_t(w): a column for every place."""
    size = definitions.SYMBOLS**window
    return [
        sp.ImmutableMatrix(sp.symbols(f"g_{t + 1}_1:{size + 1}", real=True))
        for t in range(n - window + 1)
    ]


@result(LENGTHS, tuple(WINDOWS), check=check_classes, only=ONLY, statements=SLOPES)
def hypergradient(window: str, n: int) -> Derivation:
    """∂F/∂g_t(w) = (q_t(w) - p*_t(w))/λ: it vanishes where all windows are as frequent as in data.

    Args:
        window: "positions", one symbol; "pairs", two.
        n: length of the sequences.
    Returns:
        Derivation in pi, p (the inner solution), lam; one entry per place t and window w, place by
        place.
    Raises:
        ArgumentError: for another window.
        StructureError: unless n = 2, 3.
    Source: new.
    """
    size, pi, p = WINDOWS[window], symbol("pi", 2**n), symbol("p", 2**n)
    tables = _tables(size, n)
    rewards = definitions.summed_rewards(tables, size, n)
    weights = rewards.applyfunc(lambda r: sp.exp(r / LAM))
    total, sums_to_1 = sp.Dummy("Z", positive=True), classes.probabilities("pi", 2**n)
    logs = rewards.applyfunc(lambda r: r / LAM - sp.log(total))
    F = definitions.log_likelihood(logs, sums_to_1)
    at_p = dict(zip(weights, total * p, strict=True))
    slopes = [
        sp.diff(F, g) + sp.diff(F, total) * sp.diff(sp.Add(*weights), g).xreplace(at_p)
        for table in tables
        for g in table
    ]
    return Derivation(
        symbol="∂F/∂g",
        arguments={"pi": pi, "p": p, "lam": LAM},
        closed=("pi",),
        stated=stated.hypergradient(sums_to_1, p, LAM, size),
        derived=sp.ImmutableMatrix([sp.expand(slope) for slope in slopes]),
        assumptions=(WORDS, "p = p*(g), p(y) = exp(r(y)/λ)/Z"),
        steps=(Step("r(ŷ)", rewards), Step("F", F)),
    )


@result(
    LENGTHS,
    tuple(WINDOWS),
    check=check_classes,
    only=ONLY,
    statements=COSTS,
    zero=(("pairs", 2),),  # two symbols are one pair
)
def cost(window: str, n: int) -> Derivation:
    """What the best reward over windows loses in likelihood, max F - F(g*).

    Args:
        window: "positions", one symbol: the product of the marginals is learned; "pairs", two: the
            Markov law with the data's pairs is.
        n: length of the sequences; for n = 2 a pair is the whole sequence, and loses nothing.
    Returns:
        Scalar derivation in pi. Conditions: Z(g*) = 1, so that p* = exp(g*/λ); F(g*) - F(g) =
        KL(p* ‖ p_g) for every g, so that no reward does better.
    Raises:
        ArgumentError: for another window.
        StructureError: unless n = 2, 3.
    Source: new.
    """
    size, pi = WINDOWS[window], symbol("pi", 2**n)
    tables = _tables(size, n)
    best = _best(pi, size, n)
    logs = definitions.summed_rewards(best, size, n) / LAM
    loss = definitions.log_likelihood(pi.applyfunc(sp.log) - logs, pi)
    return Derivation(
        symbol="max F - F(g*)",
        arguments={"pi": pi},
        closed=("pi",),
        stated=stated.cost(pi, size),
        derived=sp.expand(loss),
        assumptions=(WORDS,),
        steps=tuple(Step(f"g*_{t + 1}", table) for t, table in enumerate(best)),
        conditions=_is_best(tables, logs, size, n),
    )


def _best(pi: Any, size: int, n: int) -> list[Any]:
    """λ log q(last symbol | those before it in the window); of the first window, λ log q."""
    words = definitions.sequences(n)

    def frequency(window: tuple[int, ...], t: int) -> Any:
        at = slice(t, t + len(window))
        return sum(x for x, y in zip(pi, words, strict=True) if y[at] == window)

    def entry(window: tuple[int, ...], t: int) -> Any:
        before = frequency(window[:-1], t) if t and size > 1 else sp.S.One
        return LAM * (sp.log(frequency(window, t)) - sp.log(before))

    inside = definitions.sequences(size)
    return [sp.ImmutableMatrix([entry(w, t) for w in inside]) for t in range(n - size + 1)]


def _is_best(tables: list[Any], logs: Any, size: int, n: int) -> tuple[Condition, ...]:
    """E_y log p_g(y) is that of y ~ p* for every g: then F(g*) - F(g) = KL(p* ‖ p_g) >= 0."""
    pi, sums_to_1 = symbol("pi", 2**n), classes.probabilities("pi", 2**n)
    p = logs.applyfunc(lambda x: sp.exp(sp.expand(x)))
    of_any = definitions.summed_rewards(tables, size, n) / LAM
    gap = sp.expand(definitions.log_likelihood(of_any, sums_to_1 - p))
    at = {pi[-1]: sums_to_1[-1]}
    slopes = sp.Matrix([sp.diff(gap, g).xreplace(at) for table in tables for g in table])
    return (
        zero("Σ exp(r*/λ) = 1", sp.Add(*p).xreplace(at) - 1),
        zero("E_q r/λ = E_p* r/λ for every r of this kind", slopes),
    )


@result(LENGTHS, check=check_classes, only=ONLY)
def prefix_weights(n: int) -> Derivation:
    """u*_s = λ log(q(1|s)/q(0|s)) / (q(1|s) - q(0|s)) on the data's prefixes s recovers any law.

    Every position is a problem of two classes for each prefix, with the reward u_s 1[ŷ_t = y_t].

    Args:
        n: length of the sequences.
    Returns:
        Derivation in pi, lam; shape (2ⁿ - 1,), one entry per prefix, the shortest first.
        Conditions: J is strictly concave in each p(1|s) alone, and Π_t p*(y_t | y_{<t}) = q(y).
    Raises:
        StructureError: unless n = 2, 3.
    Source: new.
    """
    pi = symbol("pi", 2**n)
    prefixes = [s for size in range(n) for s in definitions.sequences(size)]
    u = {s: sp.Symbol("u_" + "".join(map(str, s)), positive=True) for s in prefixes}
    x = {s: sp.Symbol("x_" + "".join(map(str, s)), positive=True) for s in prefixes}
    J = definitions.on_prefixes(x, pi, u, LAM, n)
    z, odds = sp.Symbol("z", real=True), sp.Symbol("w", positive=True)
    found: dict[Any, Any] = {}
    learned: dict[Any, Any] = {}
    curves: list[Any] = []
    for s in prefixes:
        of_s, one = definitions.of_prefix(pi, s, n), definitions.of_prefix(pi, (*s, 1), n)
        slope = sp.expand(sp.diff(J, x[s]))
        in_logit = sp.expand(slope.xreplace({sp.log(x[s]): z + sp.log(1 - x[s])}))
        (logit,) = solve_linear([in_logit], [z])
        target = sp.log(one) - sp.log(of_s - one)  # where F, a cross entropy, is largest
        (found[s],) = solve_linear([logit - target], [u[s]])
        reached = normal(logit.xreplace({u[s]: found[s]}))
        learned[s] = 1 / (1 + sp.exp(-reached))
        curves.append(-sp.diff(slope, x[s]).xreplace({x[s]: 1 / (1 + odds)}))
    words = definitions.sequences(n)
    laws = [
        sp.prod(learned[y[:t]] if y[t] else 1 - learned[y[:t]] for t in range(n)) for y in words
    ]
    at = {pi[-1]: classes.probabilities("pi", 2**n)[-1]}
    mixed = [sp.diff(J, x[a], x[b]) for a in prefixes for b in prefixes if a < b]
    return Derivation(
        symbol="u*",
        arguments={"pi": pi, "lam": LAM},
        stated=stated.prefix_weights(pi, LAM),
        derived=sp.ImmutableMatrix([found[s] for s in prefixes]),
        assumptions=(WORDS, "q(1|s) ≠ ½ (at ½ every u_s is optimal)"),
        steps=(Step("J", J),),
        conditions=(
            zero("∂²J/∂p(1|s)∂p(1|s') = 0", sp.Matrix(mixed)),
            positive("-∂²J/∂p(1|s)² > 0", sp.Matrix(curves)),
            zero("Π_t p*(y_t | y_{<t}) = q(y) at u*", (sp.ImmutableMatrix(laws) - pi).xreplace(at)),
        ),
    )
