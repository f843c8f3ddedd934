"""`derive`: from a reward, a family of policies and a regulariser to both levels of the problem."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.conditions import Condition, zero
from ..calculus.factors import factored
from ..calculus.matrices import inverse, logdet
from ..calculus.symbols import symbol
from ..derivation import Step
from ..errors import RewardError, RewardTypeError, SlowDerivationWarning
from . import existence, gaussian, outer, search
from .derived import Derived
from .expectation import (
    Finite,
    Term,
    central,
    finite,
    finite_over_both,
    named_over_data,
    over_data,
    restored,
    terms_of,
    total,
)
from .finite import bits, by_name, classes
from .lawful import Lawful, lawful
from .parameters import named_symbols, parameters_of
from .problem import (
    KL,
    Bits,
    Classes,
    Data,
    Entropy,
    Family,
    Gaussian,
    Moments,
    Normal,
    Regulariser,
    check_truth,
    exact,
    exact_matrix,
    positive,
)
from .signs import is_positive_definite, plain
from .standard import Standard, coefficients, parts_of

_SPARE = ("S", "W", "M", "P_a", "P_b", "U_a", "U_b", "Sigma_a", "Sigma_b")
_WRITTEN = 1000  # products of a polynomial that takes a few seconds to be averaged
_SIGNED = 500  # nodes of a likelihood whose stationary point is looked for without names
_LARGEST = 3000  # nodes of a likelihood that is differentiated symbolically


def derive(
    reward: Any,
    family: Family,
    regulariser: Regulariser | None = None,
    data: Data | None = None,
    *,
    local: bool = False,
) -> Derived:
    """Both levels of max_r E_y log p*(y), p* = argmax_p E r(ŷ, y) + λH(p), for a reward of yours.

    Args:
        reward: SymPy expression in ŷ and y of `outcome(n)` and in real symbols of your own: a
            polynomial, or polynomials times exp of a quadratic; for `Classes`, a table r(c, k).
        family: `Gaussian(n, structure)`, `Classes(n)` or `Bits(n)`.
        regulariser: `Entropy(lam)`, also if not given, or `KL(lam)` to a reference.
        data: `Moments()`, also if not given: any law, by its moments; `Normal()`: Gaussian data.
        local: whether a local maximum is asked for, where no global one exists or can be proved.
    Returns:
        A `Derived`.
    Raises:
        RewardTypeError: for a string, a matrix, a MatrixSymbol, or no family or regulariser.
        RewardError: for a symbol that is unknown or not real, a wrong shape, a form not taken.
        MomentError: for an exponential of y without Gaussian data.
        NoMaximumError: where no maximum exists, or none can be proved, or an expectation is
            infinite; it says why.
    Warns:
        SlowDerivationWarning: before what may take minutes: a polynomial of degree 2 or more times
            an exponential in several dimensions, a polynomial of many terms, a table of classes
            whose parameters stand in many of its rows.
    Source: new.
    """
    regulariser = Entropy() if regulariser is None else regulariser
    _check_kind("family", family, (Gaussian, Classes, Bits))
    _check_kind("regulariser", regulariser, (Entropy, KL))
    if data is not None:
        _check_kind("data", data, (Moments, Normal))
    check_truth("local", local)
    if isinstance(family, Classes):
        if data is not None:
            raise RewardError("data of classes are their probabilities π; leave data out")
        return classes(reward, family, regulariser)
    if isinstance(family, Bits):
        return bits(reward, family, regulariser, data)
    return _gaussian(reward, family, regulariser, Moments() if data is None else data, local)


def _gaussian(
    reward: Any, family: Gaussian, regulariser: Regulariser, data: Data, local: bool
) -> Derived:
    n, lam = family.n, regulariser.lam
    y_hat, y, theta = symbol("y_hat", n), symbol("y", n), gaussian.policy(n, family.structure)
    v, (m, P) = tuple(y_hat), gaussian.moments_of(theta, n)
    r = _expression(reward)
    mu, Sigma, moments = _data(data, n)
    m0, P0, constants = _reference(regulariser, n)
    parameters = parameters_of(r, n, theta, (moments, constants), {"y_hat": y_hat, "y": y})
    raw = terms_of(r, (*v, *y))
    _warn_if_slow(raw, v, tuple(y))
    domain: tuple[Finite | Lawful, ...] = ()
    if isinstance(data, Normal):
        domain += finite(raw, tuple(y), Sigma)
    flat = [x for X in parameters.values() for x in gaussian.entries(X)]
    averaged, of_data = named_over_data(raw, v, tuple(y), data, mu, Sigma, flat)
    names = of_data
    pull, toward, density = sp.S.Zero, sp.S.Zero, sp.S.Zero
    precision: tuple[Any, ...] = ()
    if m0 is not None:
        T, of_reference = _precision(P0, r)
        names, precision = names | of_reference, tuple(of_reference)
        pull = sp.expand(lam * (m0.T * T * y_hat - y_hat.T * T * y_hat / 2)[0])
        toward = lam * gaussian.mean_log_density(m, P, m0, T, P0)
        density = pull + lam * gaussian.mean_log_density(0 * m, 0 * P, m0, T, P0)  # λ log p₀(ŷ)
    g = _merged([*averaged, Term(pull, sp.S.Zero)], v)
    if local:
        existence.check_local(g, v, m0 is not None)
    why = "" if local else _existence(g, raw, pull, v, tuple(y), m0 is not None, family, precision)
    domain += finite_over_both(raw, (v, P), (tuple(y), Sigma))

    laws = {"y_hat": v, "y": tuple(y), "m": m, "P": P, "mu": mu, "Sigma": Sigma}
    expected = gaussian.expectation(averaged, raw, data, laws)
    entropy = definitions.entropy(P)
    J = expected + toward + lam * entropy
    F = gaussian.mean_log_density(mu, Sigma, m, inverse(P), P)
    stationarity = {name: gaussian.slope(J, X) for name, X in theta.items()}

    quadratic = all(t.exponent == 0 for t in g) and sp.Poly(total(g), *v).total_degree() <= 2
    pulled = _merged([*raw, Term(pull, sp.S.Zero)], (*v, *y))
    concave = (quadratic and not local) or gaussian.is_concave(pulled, g, v, tuple(y))
    solution, limit = None, None
    one = n == 1 or family.structure == "isotropic"
    s = theta["P"] if n == 1 else theta.get("s")
    if quadratic and concave:
        solution = gaussian.quadratic_solution(total(g), v, family.structure, lam)
    elif concave:
        solution = gaussian.by_coordinates(g, v, family.structure, lam, mu)
        if solution is None and one:
            solution = _named(gaussian.one_variance(J, list(m), s, list(mu)), n)
    elif local and one:
        limit = gaussian.largest_weight(J, list(m), s, list(mu), lam)
        root = gaussian.smaller_root(_centred(J, m, mu, s), s) if limit is not None else None
        solution = None if root is None else _named((list(mu), root), n)

    likely = gaussian.restricted(mu, Sigma, theta, n)
    top = -(logdet(gaussian.moments_of(likely, n)[1]) + n * (1 + sp.log(2 * sp.pi))) / 2
    reached = None if solution is None else outer.at_values(F, theta, solution)
    hypergradient = _hypergradient(J, F, reached, theta, parameters)
    optimum, cost, notes = _optimum(stationarity, reached, theta, likely, parameters, top, names)
    if optimum is not None and not concave:
        notes = (*notes, "the reward is not known to be concave: best(...) checks its optimum")
        # maximum likelihood, which it makes stationary for J, may be no maximum of J
        cost = None if cost == 0 else cost
    if solution is None and not concave:
        notes = (*notes, "J may have several maxima: solve(...) takes the best it finds")
    conditions = _conditions(
        J, F, stationarity, solution, hypergradient, theta, parameters, family, quadratic
    )
    expected, toward, J, stationarity, solution, hypergradient, optimum, cost, limit = (
        restored(found, names)
        for found in (
            expected, toward, J, stationarity, solution, hypergradient, optimum, cost, limit
        )
    )  # fmt: skip
    mean_reward = total(over_data(raw, tuple(y), data, mu, Sigma) if of_data else averaged)
    base = sp.S.Zero if m0 is None else lam * definitions.log_density(y_hat, m0, P0)
    shown = _shortest(expected, m, mu)
    x, L = search.coordinates(n, theta)
    parts = parts_of(_merged([*averaged, Term(density, sp.S.Zero)], v), v, names)
    read = sp.Tuple(lam, *mu, *Sigma, *parameters.values(), *coefficients(parts)).free_symbols
    unknowns = sp.Tuple(*parameters.values()).free_symbols
    standard = Standard(
        parts=parts,
        lam=lam,
        mean=tuple(mu),
        x=x,
        L=L,
        symbols=tuple(sorted(read, key=str)),
        unknowns=tuple(sorted(unknowns, key=str)),
    )
    levels = search.Levels(
        standard=standard,
        solution=_from_mean(solution, mu, n),
        parameters=parameters,
        covariance=Sigma,
        likely=gaussian.moments_of(likely, n)[1],
        isotropic="s" in theta,
        local=local,
    )
    known = sp.Tuple(
        *v, *y, *parameters.values(), *theta.values(), *constants.values(), *mu, *Sigma
    )
    higher = sp.Tuple(J, mean_reward).free_symbols - known.free_symbols
    if isinstance(data, Moments):
        order = max((sp.Poly(term.polynomial, *y).total_degree() for term in raw), default=0)
        domain += lawful(central(data, Sigma), n, order, sorted(higher, key=str))
    return Derived(
        reward=r,
        family=family,
        regulariser=regulariser,
        data=data,
        parameters=parameters,
        policy=theta,
        moments={**moments, **{str(x): x for x in sorted(higher, key=str)}},
        constants=constants,
        outcomes={"y_hat": v[0], "y": y[0]} if n == 1 else {"y_hat": y_hat, "y": y},
        mean_reward=_shortest(mean_reward, v, mu),
        expected_reward=shown,
        objective=shown + toward + lam * entropy,
        gibbs=(mean_reward + base) / lam,
        stationarity=stationarity,
        solution=solution,
        likelihood=F,
        hypergradient=hypergradient,
        optimum=optimum,
        cost=cost,
        existence=why or "a local maximum; there may be no global one",
        limit=limit,
        notes=notes,
        steps=(
            Step("r̄(ŷ) = E_y r", mean_reward),
            Step("E_ŷ r̄, by moments", expected),
            Step("J", J),
            *(Step(f"∂J/∂{name}", f) for name, f in stationarity.items()),
        ),
        assumptions=_assumptions(data, family, lam),
        conditions=conditions,
        domain=domain,
        levels=levels,
    )


def _check_kind(what: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        names = ", ".join(f"{kind.__name__}(...)" for kind in kinds)
        raise RewardTypeError(f"{what} is {value!r}; pass one of {names}")


def _expression(reward: Any) -> Any:
    if isinstance(reward, sp.MatrixBase):
        if reward.shape != (1, 1):
            raise RewardError(
                f"the reward has shape {reward.shape}; pass a scalar, such as (d.T * U * d)[0]"
            )
        reward = reward[0]
    return exact(reward, "the reward")


def _data(data: Data, n: int) -> tuple[Any, Any, dict[str, Any]]:
    """μ and Σ as explicit matrices, and their symbols by name."""
    return _moments(data.mean, data.covariance, ("mu", "Sigma"), n, "the data")


def _moments(
    mean: Any, covariance: Any, names: tuple[str, str], n: int, whose: str
) -> tuple[Any, Any, dict[str, Any]]:
    """Mean and covariance as explicit matrices, as given or of these names; symbols by name."""
    named: dict[str, Any] = {}
    found: list[Any] = []
    for given, name, what in zip((mean, covariance), names, ("mean", "covariance"), strict=True):
        X = symbol(name, n)
        if given is None:
            named[name] = X[0] if n == 1 else X
        else:
            X = exact_matrix(given, X.shape, f"the {what} of {whose}")
            if what == "covariance":
                _check_covariance(X, f"the covariance of {whose}")
            named |= named_symbols(X)
        found.append(X)
    return found[0], found[1], named


def _check_covariance(X: Any, what: str) -> None:
    if X != X.T or is_positive_definite(X) is not True:
        raise RewardError(
            f"{what}, {X.tolist()}, is not known to be symmetric positive definite; declare its "
            "symbols positive=True, or take symbol('Sigma', n)"
        )


def _reference(regulariser: Regulariser, n: int) -> tuple[Any, Any, dict[str, Any]]:
    """Moments of a Gaussian reference, None for entropy, and the constants by name."""
    named = named_symbols(regulariser.lam)
    if not isinstance(regulariser, KL):
        return None, None, named
    if regulariser.probabilities is not None:
        raise RewardError("a Gaussian reference has mean and covariance, no probabilities")
    names = ("m0", "P0")
    m0, P0, seen = _moments(regulariser.mean, regulariser.covariance, names, n, "the reference")
    return m0, P0, named | seen


def _merged(terms: Sequence[Term], v: Sequence[Any]) -> tuple[Term, ...]:
    """Terms with equal exponents taken together; exponents without v count as factors."""
    found: dict[Any, Any] = {}
    for term in terms:
        moves = term.exponent.has(*v)
        exponent = term.exponent if moves else sp.S.Zero
        value = term.polynomial if moves else term.expression
        found[exponent] = found.get(exponent, sp.S.Zero) + value
    return tuple(Term(sp.expand(p, power_exp=False), e) for e, p in found.items())


def _precision(P0: Any, reward: Any) -> tuple[Any, dict[Any, Any]]:
    """P0⁻¹, in entries of an SPD symbol that the reward does not have where P0 is a symbol too.

    With what these entries stand for: written out, they fill the screen.
    """
    n = P0.rows
    if n == 1 or symbol("P0", n) != P0:
        return inverse(P0), {}
    taken = reward.free_symbols
    T = next(X for X in (symbol(name, n) for name in _SPARE) if not taken & X.free_symbols)
    return T, dict(zip(T, inverse(P0), strict=True))


def _warn_if_slow(raw: Sequence[Term], v: Sequence[Any], y: Sequence[Any]) -> None:
    """Warn whoever called `derive` of a reward whose closed forms may take minutes."""
    written = sum(_written_out(term.polynomial, (*v, *y)) for term in raw)
    if written > _WRITTEN:
        warnings.warn(
            f"derive of a polynomial of which about {written} products are averaged may take "
            "longer than five seconds, some such rewards take minutes. Ctrl-C stops it. Take a "
            "lower degree, fewer symbols, or a smaller n",
            SlowDerivationWarning,
            stacklevel=4,
        )
        return
    for term in raw:
        inside = [x for x in v if term.exponent.has(x)]
        if len(v) > 1 and inside and sp.Poly(term.polynomial, *inside).total_degree() > 1:
            warnings.warn(
                f"derive of ({term.polynomial}) exp({term.exponent}) may take longer than five "
                f"seconds, some such rewards take minutes. Ctrl-C stops it. Take n = 1, or a "
                f"polynomial of degree 1",
                SlowDerivationWarning,
                stacklevel=4,
            )
            return


def _written_out(f: Any, v: Sequence[Any]) -> int:
    """The number of products that a polynomial has in powers of mean + z, before any are equal."""
    return sum(
        len(sp.Add.make_args(sp.expand(value))) * math.prod(power + 1 for power in powers)
        for powers, value in sp.Poly(f, *v).terms()
    )


def _existence(
    g: tuple[Term, ...],
    raw: Any,
    pull: Any,
    v: Any,
    y: Any,
    reference: bool,
    family: Gaussian,
    precision: tuple[Any, ...],
) -> str:
    """Why a global maximum exists."""
    rest = tuple(t for t in raw if not t.exponent.has(*v))
    kernels = tuple(t for t in raw if t.exponent.has(*v))
    growth = existence.Growth(
        terms=g,
        raw=(*rest, Term(pull, sp.S.Zero)),
        v=v,
        y=y,
        kernels=kernels,
        structure=family.structure if family.n > 1 else "full",
        reference=reference,
        precision=precision,
    )
    alone = all(t.exponent == 0 for t in rest)
    reward = sp.Add(*(t.polynomial for t in rest)) if reference and alone else None
    return existence.check(growth, reward)


def _centred(J: Any, m: Any, mu: Any, s: Any) -> Any:
    return sp.together(sp.diff(J, s).xreplace(dict(zip(m, mu, strict=True))))


def _shortest(f: Any, x: Any, mu: Any) -> Any:
    """f as it is, or in powers of x - μ where that is shorter."""
    if f.has(sp.exp) or outer.larger_than(f, 1000):
        return f
    away = [sp.Dummy(str(a), real=True) for a in x]
    moved = {a: b + z for a, b, z in zip(x, mu, away, strict=True)}
    back = {z: a - b for a, b, z in zip(x, mu, away, strict=True)}
    centred = sp.expand(f.xreplace(moved)).xreplace(back)
    forms = [f, centred] if outer.larger_than(centred, 300) else [f, centred, factored(centred)]
    return min(forms, key=sp.count_ops)


def _named(found: Any, n: int) -> dict[str, Any] | None:
    """(m, s) by the names of the inner variables."""
    if found is None:
        return None
    mean, s = found
    return {"m": mean[0] if n == 1 else sp.ImmutableMatrix(mean), "P" if n == 1 else "s": s}


def _hypergradient(
    J: Any, F: Any, reached: Any, theta: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """dF/dφ: of F(θ*(φ)) where θ* is known, else by implicit differentiation, in θ."""
    if reached is not None and outer.larger_than(reached, _LARGEST):
        return None
    if reached is not None:
        return {name: _lowest(gaussian.slope(reached, X)) for name, X in parameters.items()}
    if sum(len(gaussian.entries(X)) for X in theta.values()) > 2:
        return None
    return outer.implicit(J, F, theta, parameters)


def _from_mean(solution: Any, mu: Any, n: int) -> tuple[Any, Any] | None:
    """m* - μ and P* as matrices, None where there is no closed form."""
    if solution is None:
        return None
    m, P = gaussian.moments_of(solution, n)
    return (m - mu).as_immutable(), P.as_immutable()


def _lowest(f: Any) -> Any:
    if isinstance(f, sp.MatrixBase):
        return f.applyfunc(outer.lowest_terms_outside)
    return outer.lowest_terms_outside(f)


def _optimum(
    stationarity: Mapping[str, Any], reached: Any, theta: Mapping[str, Any],
    likely: Mapping[str, Any], parameters: Mapping[str, Any], top: Any, names: Mapping[Any, Any],
) -> tuple[dict[str, Any] | None, Any, tuple[str, ...]]:  # fmt: skip
    """Parameters that make maximum likelihood stationary for J, or a root of the hypergradient."""
    if not parameters:
        cost = None if reached is None else top - reached
        return None, cost, ("the reward has no parameters",)
    at_likely = [gaussian.put(f, theta, likely) for f in stationarity.values()]
    flat = [f for X in at_likely for f in (list(X) if isinstance(X, sp.MatrixBase) else [X])]
    found = outer.multiple_of_identity(flat, parameters) if "s" in theta else None
    alike = tuple(f"every {U} that solves the same equation is as good" for U in parameters)
    alike = alike if found else ()
    found = outer.matching(flat, parameters) if found is None else found
    if found is not None and outer.signs_allow(found) is not False:
        notes: tuple[str, ...] = ()
        if outer.signs_allow(found) is None:
            notes = ("the best parameters hold where they have the signs they are declared with",)
        notes = (*notes, *alike, *outer.undetermined(found, parameters))
        return by_name(found, parameters), sp.S.Zero, notes
    if reached is None:
        return None, None, ()
    root = outer.stationary_parameter(reached, parameters)
    written = restored(reached, names)
    if root is None and not outer.larger_than(written, _SIGNED):  # signs are lost in names
        reached, root = written, outer.stationary_parameter(written, parameters)
    if root is None:
        return None, None, ()
    return by_name(root, parameters), outer.cancelled(top - reached.xreplace(root)), ()


def _conditions(
    J: Any, F: Any, stationarity: Mapping[str, Any], solution: Any, hypergradient: Any,
    theta: Mapping[str, Any], parameters: Mapping[str, Any], family: Gaussian, quadratic: bool,
) -> tuple[Condition, ...]:  # fmt: skip
    """That the solution is stationary, and that implicit differentiation finds dF/dφ too."""
    if solution is None:
        return ()
    if quadratic and family.n > 1:
        return gaussian.quadratic_conditions(family.n, family.structure)
    found = [
        zero(f"∂J/∂{name} = 0 at the inner solution", _plain(gaussian.put(f, theta, solution)))
        for name, f in stationarity.items()
    ]
    if sum(len(gaussian.entries(X)) for X in theta.values()) == 2:
        other = outer.implicit(J, F, theta, parameters)
        found += [
            zero(
                f"dF/d{name} by the implicit function theorem",
                _plain(gaussian.put(other[name], theta, solution) - hypergradient[name]),
            )
            for name in parameters
        ]
    return tuple(found)


def _plain(f: Any) -> Any:
    """f without roots and exponentials that cancel, which the normal form does not look into."""
    if isinstance(f, sp.MatrixBase):
        return f.applyfunc(_plain)
    f = plain(f)
    roots = any(not power.exp.is_Integer for power in f.atoms(sp.Pow))
    return sp.simplify(f) if roots or f.has(sp.exp) else f


def _assumptions(data: Data, family: Gaussian, lam: Any) -> tuple[str, ...]:
    law = "data N(μ, Σ)" if isinstance(data, Normal) else "data of any law with these moments"
    if isinstance(data, Moments) and data.symmetric:
        law = "data of any law symmetric about μ with these moments"
    shape = () if family.n == 1 else (f"P {family.structure}",)
    rest = ", ".join((*positive(lam), *shape))
    return (law, rest) if rest else (law,)
