"""Classes and independent bits: the inner solution is a Gibbs law, for any reward."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from ..calculus import gate
from ..calculus.conditions import Condition, zero
from ..calculus.symbols import symbol, symbols
from ..derivation import Step
from ..errors import NoMaximumError, RewardError, SlowDerivationWarning
from .derived import Derived
from .expectation import Term, over_data
from .gaussian import entries, slope
from .lawful import LawfulBits
from .outer import matching, signs_allow, stationary_parameter, undetermined
from .parameters import named_symbols, parameters_of
from .problem import (
    KL,
    Bits,
    Classes,
    Data,
    Moments,
    Regulariser,
    exact,
    exact_matrix,
    improper,
    positive,
)
from .search import Reached, Solved, used


@dataclass(frozen=True, eq=False)
class Levels:
    """Both levels of classes and bits at numbers: closed forms, in which no probability is rounded.

    Args:
        value: J(θ*).
        likelihood: F(θ*).
        cost: how far that is below the likelihood of the data's own probabilities.
        bits: their number, 0 of classes.
        lam: the weight of the regulariser.
    """

    value: Any
    likelihood: Any
    cost: Any
    bits: int
    lam: Any

    def solve(self, derived: Any, values: Mapping[str, Any]) -> Solved:
        """The inner solution at values by name: a probability below the least double is 0."""
        (J,) = self._at(derived, [self.value], values)
        given = {k: v for k, v in values.items() if k in used(derived, derived.solution)}
        return Solved(derived.at("solution", **given), J, 0.0, True)

    def reached(self, derived: Any, values: Mapping[str, Any]) -> Reached:
        """F and dF/dφ at values by name."""
        F, cost = self._at(derived, [self.likelihood, self.cost], values)
        given = {k: v for k, v in values.items() if k in used(derived, derived.hypergradient)}
        return Reached(F, cost, derived.at("hypergradient", **given))

    def scales(self, derived: Any, data: Mapping[str, Any]) -> tuple[Any, Any, float]:
        """Mean and scale of the outcomes, which have no units, and λ."""
        import numpy as np

        given = {k: v for k, v in data.items() if k in used(derived, self.lam)}
        lam = derived.number(self.lam, derived.read(self.lam, given))
        return np.zeros(self.bits), np.ones(self.bits), lam

    def _at(self, derived: Any, found: Any, values: Mapping[str, Any]) -> list[float]:
        every = sp.Tuple(self.value, self.likelihood, self.cost, self.lam)
        numbers = derived.read(every, values)
        return [derived.number(f, numbers) for f in found]


_SHARED = 4  # parameters in more than two equations each, solved in a few seconds
BOUNDED = "a reward of finitely many outcomes is bounded, and so is the entropy: a maximum exists"


def classes(reward: Any, family: Classes, regulariser: Regulariser) -> Derived:
    """Both levels of a table of rewards r(c, k), of generation c and class k of the data."""
    n, lam = family.n, regulariser.lam
    table = _table(reward, n)
    pi, p = symbol("pi", n), symbol("p", n)
    base, constants = _base(regulariser, n)
    _check_probabilities("probabilities", base or [], whole=True)
    parameters = parameters_of(table, n, {"p": p}, ({"pi": pi}, constants))
    r_bar = sp.ImmutableMatrix(
        [sp.expand(sp.Add(*(pi[k] * table[c, k] for k in range(n)))) for c in range(n)]
    )
    levels = [r_bar[c] + (0 if base is None else lam * sp.log(base[c])) for c in range(n)]
    weights = [sp.exp((level - levels[-1]) / lam) for level in levels]
    law = sp.ImmutableMatrix([weight / sp.Add(*weights) for weight in weights])
    normaliser = sp.log(sp.Add(*weights))
    logs = [(level - levels[-1]) / lam - normaliser for level in levels]
    J = sp.Add(*(p[c] * (levels[c] - lam * sp.log(p[c])) for c in range(n)))
    F = sp.Add(*(pi[c] * logs[c] for c in range(n)))
    value = levels[-1] - lam * logs[-1]
    gradient = {
        name: sum(
            ((pi[c] - law[c]) * slope(levels[c] - levels[-1], X) / lam for c in range(n - 1)),
            start=slope(sp.S.Zero, X),
        )
        for name, X in parameters.items()
    }
    matched = [
        levels[c] - levels[-1] - lam * (sp.log(pi[c]) - sp.log(pi[-1])) for c in range(n - 1)
    ]
    _warn_if_slow(matched, parameters)
    top = sp.Add(*(pi[c] * sp.log(pi[c]) for c in range(n)))
    rises = [sp.diff(J, x) for x in p]
    mean = sp.Add(*(x * rise for x, rise in zip(p, rises, strict=True)))
    slopes = sp.ImmutableMatrix([rise - mean for rise in rises])
    named = {normaliser: sp.Dummy("log normaliser", real=True)}  # any: it cancels
    at_law = {sp.log(x): value.xreplace(named) for x, value in zip(p, logs, strict=True)}
    gap = [sp.expand(sp.expand(rise - rises[-1]).xreplace(at_law)) for rise in rises[:-1]]
    return _assembled(
        table, family, regulariser, None, parameters,
        policy={"p": p}, moments={"pi": pi}, constants=constants, outcomes={},
        r_bar=r_bar, expected=sp.Add(*(p[c] * r_bar[c] for c in range(n))), J=J, law=law,
        stationarity={"p": slopes}, solution={"p": law}, F=F,
        likelihood=sp.Add(*(pi[c] * sp.log(p[c]) for c in range(n))),
        gradient=gradient, matched=matched, top=top,
        value=value,
        conditions=(zero("∂J/∂p_c is the same for every class at p*", sp.Matrix(gap)),),
        probabilities={"probabilities": base},
        assumptions=("π_c > 0, Σπ = 1: one-hot outcomes", *positive(lam)),
    )  # fmt: skip


def _warn_if_slow(matched: Sequence[Any], parameters: Mapping[str, Any]) -> None:
    """Warn whoever called `derive` where the best parameters solve equations that share many."""
    unknowns = [x for X in parameters.values() for x in entries(X)]
    shared = sum(1 for x in unknowns if sum(1 for f in matched if f.has(x)) > 2)
    if len(matched) <= len(unknowns) and shared > _SHARED:
        warnings.warn(
            f"derive of a table with {shared} parameters that stand in many of its rows may take "
            "longer than five seconds, some such tables take minutes. Ctrl-C stops it. Put numbers "
            "in the place of some",
            SlowDerivationWarning,
            stacklevel=4,
        )


def bits(reward: Any, family: Bits, regulariser: Regulariser, data: Data | None) -> Derived:
    """Both levels of a polynomial reward of independent bits.

    Raises:
        RewardError: for data of which more is given than the mean, in (0, 1).
        NoMaximumError: if the averaged reward has products of bits: its Gibbs law is not
            independent, and the best independent one need not be unique.
    """
    n, lam = family.n, regulariser.lam
    y_hat, y, psi, Sigma = symbols("y_hat y psi Sigma", n)
    rho, moments = _mean_of_bits(data, n)
    one = isinstance(reward, sp.MatrixBase) and reward.shape == (1, 1)
    r = exact(reward[0] if one else reward, "the reward")
    base, constants = _base(regulariser, n)
    moments = {**moments, "Sigma": Sigma}
    parameters = parameters_of(r, n, {"psi": psi}, (moments, constants), {"y_hat": y_hat, "y": y})
    if not r.is_polynomial(*y_hat, *y):
        raise RewardError(f"the reward {r} of bits is no polynomial in them; y² = y makes it one")
    r = _multilinear(r, (*y_hat, *y))
    mean = over_data([Term(r, sp.S.Zero)], y, Moments(), rho, Sigma)
    r_bar = sp.Add(*(term.polynomial for term in mean))
    known = sp.Tuple(*y_hat, *parameters.values(), *moments.values(), *constants.values())
    higher = r_bar.free_symbols - known.free_symbols
    third = {str(x): x for x in sorted(higher, key=str)}
    moments |= third
    asked = r_bar.free_symbols & {*Sigma, *third.values()}
    domain = (LawfulBits(rho, Sigma, third),) if asked else ()
    products = [m for m in sp.Poly(r_bar, *y_hat).monoms() if sum(m) > 1]
    if products:
        raise NoMaximumError(
            f"the averaged reward {r_bar} has products of bits, so that the Gibbs law is not "
            f"independent; pass a table of the 2ⁿ outcomes and Classes({2**n})"
        )
    rises = [sp.diff(r_bar, x) for x in y_hat]
    at_zero = r_bar.xreplace(dict.fromkeys(y_hat, sp.S.Zero))
    odds = [0 if base is None else sp.log(x) - sp.log(1 - x) for x in (base or rho)]
    z = [rise / lam + odd for rise, odd in zip(rises, odds, strict=True)]
    law = sp.ImmutableMatrix([1 / (1 + sp.exp(-logit)) for logit in z])
    at_law = dict(zip(y_hat, psi, strict=True))
    expected = r_bar.xreplace(at_law)
    entropy = sp.Add(*(-x * sp.log(x) - (1 - x) * sp.log(1 - x) for x in psi))
    J = expected + lam * entropy
    J += lam * sp.Add(*(x * odd for x, odd in zip(psi, odds, strict=True)))
    value = at_zero + lam * sp.Add(*(sp.log(1 + sp.exp(logit)) for logit in z))
    if base is not None:
        none = lam * sp.Add(*(sp.log(1 - x) for x in base))
        J, value = J + none, value + none
    F = sp.Add(*(q * logit - sp.log(1 + sp.exp(logit)) for q, logit in zip(rho, z, strict=True)))
    gradient = {
        name: sum(((rho[i] - law[i]) * slope(z[i], X) for i in range(n)), start=slope(sp.S.Zero, X))
        for name, X in parameters.items()
    }
    logit_rho = [sp.log(x) - sp.log(1 - x) for x in rho]
    slopes = sp.ImmutableMatrix([sp.diff(J, x) for x in psi])
    logs = {sp.log(x): a + sp.log(1 - x) for x, a in zip(psi, z, strict=True)}
    at_solution = slopes.applyfunc(lambda f: sp.cancel(sp.expand(f).xreplace(logs)))
    return _assembled(
        r, family, regulariser, Moments() if data is None else data, parameters,
        policy={"psi": psi}, moments=moments, constants=constants,
        outcomes={"y_hat": y_hat, "y": y}, r_bar=r_bar, expected=expected, J=J, law=law,
        stationarity={"psi": slopes}, solution={"psi": law}, F=F,
        likelihood=_log_probability(rho, psi),
        gradient=gradient, matched=[lam * (a - b) for a, b in zip(z, logit_rho, strict=True)],
        top=_log_probability(rho, rho),
        value=value,
        conditions=(zero("∂J/∂ψ = 0 at logit ψ*", at_solution),),
        probabilities={"probabilities": base, "the mean of the data": rho},
        assumptions=(
            "ρ_i in (0, 1); Sigma is the covariance of the bits of the data",
            *positive(lam),
        ),
        domain=domain,
    )  # fmt: skip


def _assembled(
    reward: Any, family: Any, regulariser: Any, data: Any, parameters: Mapping[str, Any], *,
    policy: Any, moments: Any, constants: Any, outcomes: Any, r_bar: Any, expected: Any, J: Any,
    law: Any, stationarity: Any, solution: Any, F: Any, likelihood: Any, gradient: Any,
    probabilities: Mapping[str, Any], value: Any,
    matched: Any, top: Any, conditions: tuple[Condition, ...], assumptions: tuple[str, ...],
    domain: tuple[LawfulBits, ...] = (),
) -> Derived:  # fmt: skip
    found, cost, notes = matching(matched, parameters), sp.S.Zero, []
    if found is None or signs_allow(found) is False:
        found = stationary_parameter(F, parameters)
        cost = None if found is None else top - F.xreplace(found)
    elif signs_allow(found) is None:
        notes.append("the best parameters hold where they have the signs they are declared with")
    if found is not None:
        notes += undetermined(found, parameters)
    used = J.free_symbols | likelihood.free_symbols | r_bar.free_symbols
    return Derived(
        reward=reward, family=family, regulariser=regulariser, data=data, parameters=parameters,
        policy=policy, moments={k: X for k, X in moments.items() if X.free_symbols & used},
        constants=constants, outcomes=outcomes, mean_reward=r_bar, expected_reward=expected,
        objective=J, gibbs=law, stationarity=stationarity, solution=solution,
        likelihood=likelihood, hypergradient=gradient, optimum=by_name(found, parameters),
        cost=cost, existence=BOUNDED, notes=tuple(notes),
        steps=(Step("r̄ = E_y r", r_bar), Step("J", J), Step("the Gibbs law", law), Step("F", F)),
        assumptions=assumptions, conditions=conditions, domain=domain,
        probabilities={name: X for name, X in probabilities.items() if X is not None},
        levels=Levels(value, F, top - F, len(outcomes.get("y", ())), regulariser.lam),
    )  # fmt: skip


def by_name(found: Any, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Values of free symbols by the name of the parameter they belong to."""
    if found is None:
        return None
    named: dict[str, Any] = {}
    for name, X in parameters.items():
        if any(x in found for x in entries(X)):
            named[name] = X.xreplace(dict(found))
    return named


def _log_probability(rho: Any, psi: Any) -> Any:
    """E log p(y) = Σ_i [ρ_i log ψ_i + (1-ρ_i) log(1-ψ_i)]."""
    pairs = zip(rho, psi, strict=True)
    return sp.Add(*(q * sp.log(x) + (1 - q) * sp.log(1 - x) for q, x in pairs))


def _multilinear(f: Any, bits: Any) -> Any:
    """A polynomial with every power of a bit as the bit itself."""
    return sp.Add(
        *(
            value * sp.prod([x for x, power in zip(bits, powers, strict=True) if power])
            for powers, value in sp.Poly(f, *bits).terms()
        )
    )


def _base(regulariser: Regulariser, n: int) -> tuple[Any, dict[str, Any]]:
    """Probabilities of the reference, and the symbols of it and of λ."""
    named = named_symbols(regulariser.lam)
    if not isinstance(regulariser, KL):
        return None, named
    if regulariser.mean is not None or regulariser.covariance is not None:
        raise RewardError("a reference over outcomes without numbers has probabilities, no mean")
    if regulariser.probabilities is None:
        p0 = symbol("p0", n) if n > 1 else sp.ImmutableMatrix([sp.Symbol("p0_1", positive=True)])
        return p0, {**named, **{str(x): x for x in p0}}
    p0 = exact_matrix(regulariser.probabilities, (n, 1), "probabilities")
    _check_probabilities("probabilities", p0, whole=False)
    return p0, {**named, **named_symbols(p0)}


def _mean_of_bits(data: Data | None, n: int) -> tuple[Any, dict[str, Any]]:
    """ρ as symbols or as given, and its symbols by name."""
    if data is not None and not isinstance(data, Moments):
        raise RewardError("bits are not Gaussian; leave data out, or pass Moments()")
    if data is not None and (data.covariance is not None or data.symmetric):
        raise RewardError(
            f"data = {data}: of bits only the mean can be given, Moments(mean=...); their "
            "covariance is the symbol Sigma, a number of solve(...) and at(...)"
        )
    if data is None or data.mean is None:
        return symbol("rho", n), {"rho": symbol("rho", n)}
    rho = exact_matrix(data.mean, (n, 1), "the mean of the data")
    _check_probabilities("the mean of the data", rho, whole=False)
    return rho, named_symbols(rho)


def _check_probabilities(what: str, p: Any, *, whole: bool) -> None:
    fault = improper(what, p, whole=whole)
    if fault is not None:
        raise RewardError(fault)


def _table(reward: Any, n: int) -> Any:
    """r(c, k) as an n x n table; a column is a reward that does not look at the data."""
    if not (isinstance(reward, (sp.MatrixBase, list, tuple)) or getattr(reward, "shape", ())):
        exact(reward, "the reward")
        raise RewardError(
            f"the reward of classes is {reward!r}; pass a table, sp.Matrix({n}, {n}, ...) with "
            "r(c, k) for generation c and class k, or a column of rewards of the generations"
        )
    X = gate.matrix(reward, "the table of rewards")
    if X.shape == (n, 1):
        X = X * sp.ones(1, n)
    return exact_matrix(X, (n, n), "the table of rewards", exact)
