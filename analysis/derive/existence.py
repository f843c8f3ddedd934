"""Whether E g(ŷ) + λH has a maximum over Gaussian policies: whether g falls in every direction.

g is the reward averaged over the data, plus λ log p₀ where a reference policy takes the place of
the entropy. If g <= c - d‖ŷ‖^ε far out, d, ε > 0, the expectation falls faster than the entropy
grows, and a maximum exists. If g does not fall along a line, the policy spreads along it for ever.
Other directions may hold the widths of a policy whose covariance is isotropic or diagonal: its mean
is then free along the line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import sympy as sp

from ..calculus.factors import factor_list, factored
from ..calculus.symbols import Structure
from ..errors import NoMaximumError
from .embeddings import is_proper, squares_of
from .expectation import Term
from .signs import by_weights, is_positive_definite, is_semidefinite, plain, sign, sign_everywhere

LOCAL = "pass local=True for a local maximum"
BASE = "pass KL() to a reference policy, which pulls back in every direction"
STRONGER = "pass a reference of smaller covariance, or a larger lam"


@dataclass(frozen=True, eq=False)
class Growth:
    """What is needed of g to say how it grows.

    Args:
        terms: of g, in ŷ.
        raw: the terms before the expectation without an exponential of ŷ, in ŷ and y.
        kernels: the terms of the reward with an exponential of ŷ, in ŷ and y.
        v: ŷ.
        y: the data point.
        structure: of the covariance of the policy, "full" for one coordinate.
        reference: whether g has λ log p₀.
        precision: names of the entries of P₀⁻¹, where it has them.
    """

    terms: tuple[Term, ...]
    raw: tuple[Term, ...]
    v: tuple[Any, ...]
    y: tuple[Any, ...]
    kernels: tuple[Term, ...] = ()
    structure: Structure = "full"
    reference: bool = False
    precision: tuple[Any, ...] = ()

    @property
    def polynomial(self) -> Any:
        """The polynomial part of g."""
        return sp.Add(*(term.polynomial for term in self.terms if not term.exponent.has(*self.v)))

    @property
    def exponentials(self) -> list[Term]:
        """The terms with an exponential of ŷ."""
        return [term for term in self.terms if term.exponent.has(*self.v)]

    @cached_property
    def averaged(self) -> Any:
        """`polynomial` by its monomials."""
        return sp.Poly(self.polynomial, *self.v)

    @cached_property
    def _before(self) -> list[Any]:
        """The polynomials of `raw`, each before an exponential of y, by their monomials."""
        return [sp.Poly(term.polynomial, *self.v) for term in self.raw]

    def sign_of(self, powers: tuple[int, ...]) -> int | None:
        """The sign of a monomial's coefficient E c(y), from that of c where it helps."""
        if not self.averaged.coeff_monomial(powers):
            return 0
        signs = {sign_everywhere(p.coeff_monomial(powers), self.y) for p in self._before} - {0}
        if len(signs) == 1 and None not in signs:
            return signs.pop()
        return sign(self.averaged.coeff_monomial(powers))

    @property
    def remedy(self) -> str:
        """What else pulls back."""
        return STRONGER if self.reference else BASE

    def not_held(self, direction: Sequence[Any]) -> str | None:
        """What is known along a line where other directions may hold the widths, else None."""
        across = sum(1 for step in direction if step != 0) > 1
        if self.structure == "full" or (self.structure == "diagonal" and not across):
            return None
        return (
            f"other directions may hold the width of a policy that is {self.structure}, but "
            "nothing is known to hold its mean there, so that no isolated maximum is known to exist"
        )

    def written(self, f: Any) -> str:
        """f, and what the names in it stand for that no user gave."""
        text = str(f.tolist()) if isinstance(f, sp.MatrixBase) else str(f)
        named = f.free_symbols & set(self.precision)
        return text if not named else f"{text} (where {_letter(self.precision)} = P0⁻¹)"

    def along(self, line: Mapping[Any, Any], v: tuple[Any, ...]) -> Growth:
        """The polynomial part where ŷ is put on a line or a plane with coordinates v."""
        terms = (Term(self.polynomial.xreplace(line), sp.S.Zero),)
        return replace(self, terms=terms, raw=_put(self.raw, line), v=v, kernels=())

    def of(self, x: Any) -> Growth:
        """The part in one coordinate, where g is a sum over coordinates."""
        others = dict.fromkeys((other for other in self.v if other != x), sp.S.Zero)
        kept = tuple(t for t in self.terms if t.exponent.has(x) or not t.exponent.has(*self.v))
        raw = _put(self.raw, others)
        return replace(self, terms=_put(kept, others), raw=raw, v=(x,), kernels=())


def _letter(entries: Sequence[Any]) -> str:
    return str(entries[0]).split("_")[0]


def _put(terms: Sequence[Term], values: Mapping[Any, Any]) -> tuple[Term, ...]:
    return tuple(Term(t.polynomial.xreplace(values), t.exponent) for t in terms)


def check(g: Growth, reward: Any = None) -> str:
    """Why a maximum exists.

    Args:
        g: what is maximised besides the entropy.
        reward: the polynomial part of the reward, where g has λ log p₀ too.
    Raises:
        NoMaximumError: if none exists, or if that could not be proved; the message says which.
    """
    unproved = () if all(_is_kernel(term, g) for term in g.kernels) else g.exponentials
    for term in unproved:
        curvature = -sp.hessian(term.exponent, list(g.v)).as_immutable()
        if not is_semidefinite(curvature):
            raise NoMaximumError(
                f"exp({term.exponent}) is not known to stay below an exponential of a line: its "
                "expectation is infinite for wide policies; declare the width of the exponential "
                "positive=True, with a minus in front of the square"
            )
    bounded = not unproved and all(_falls_everywhere(term, g.v) for term in g.kernels)
    if reward is not None and bounded:
        if never_positive(reward, (*g.v, *g.y)):
            return "the reward is bounded above, and KL to the reference grows in every direction"
        if is_outweighed(reward, g.v, g.y):
            return "the reward rises like a line at most, and KL to the reference outweighs that"
    if len(g.v) == 1:
        return _on_line(g)
    if is_separable(g.terms, g.v):
        moved = sp.Tuple(*(term.expression for term in g.terms)).free_symbols
        for x in sorted(g.v, key=lambda x: x in moved):  # where g is constant no remedy is local
            _on_line(g.of(x))
        return "g is a sum over coordinates, and falls in each"
    return _in_space(g, unproved)


def check_local(terms: Sequence[Term], v: Sequence[Any], reference: bool) -> None:
    """Raise `NoMaximumError` where it is known that there is no isolated maximum.

    There is none of a quadratic that is not definite, and none where g is constant along a line.
    """
    remedy = STRONGER if reference else BASE
    g = sp.Add(*(term.polynomial for term in terms))
    constant = _constant_along(terms, v)
    if constant:
        where = ", ".join(str(list(direction)) for direction in constant)
        raise NoMaximumError(
            f"the reward is constant along {where}: nothing holds a mean there, so that no "
            f"isolated local maximum exists; {remedy}"
        )
    if any(t.exponent.has(*v) for t in terms) or sp.Poly(g, *v).total_degree() > 2:
        return
    Q = -sp.hessian(g, list(v)).as_immutable() / 2
    if is_positive_definite(Q) is False:
        raise NoMaximumError(
            f"the reward -ŷᵀQŷ + ... does not fall in every direction, Q = {Q.tolist()}: nothing "
            f"holds a mean where it does not, so that no isolated local maximum exists; {remedy}"
        )


def _constant_along(terms: Sequence[Term], v: Sequence[Any]) -> list[Any]:
    """Directions d in which g is known to be constant: dᵀ∇g = 0."""
    rows: list[list[Any]] = []
    for term in terms:
        p, e = term.polynomial, term.exponent
        slopes = [sp.Poly(sp.diff(p, x) + p * sp.diff(e, x), *v) for x in v]
        for powers in set().union(*(slope.monoms() for slope in slopes)):
            rows.append([slope.coeff_monomial(powers) for slope in slopes])
    slopes = sp.Matrix(len(rows), len(v), [plain(x) for row in rows for x in row])
    point = {
        x: 2 + sp.Rational(sp.prime(k + 1), 401)
        for k, x in enumerate(sorted(slopes.free_symbols, key=str))
    }
    if slopes.xreplace(point).rank() == len(v):  # at a point, and so almost everywhere
        return []
    return slopes.applyfunc(factored).nullspace()


def _is_kernel(term: Term, g: Growth) -> bool:
    """Whether exp of a quadratic in ŷ - y, or in ŷ and y, stays below a constant.

    So does its mean then, which is seldom seen in the averaged exponent.
    """
    moved = {x: x + other for x, other in zip(g.v, g.y, strict=True)}
    shifted = sp.expand(term.exponent.xreplace(moved))
    f, v = (term.exponent, (*g.v, *g.y)) if shifted.has(*g.y) else (shifted, g.v)
    bend = sp.hessian(f, list(v)).as_immutable()
    return is_semidefinite(-bend) and _is_flat(f, bend, v)


def never_positive(f: Any, v: Sequence[Any]) -> bool:
    """Whether a polynomial in v is proved to be <= 0, up to what is constant in v.

    It is a sum of positive symbols times what is never positive, such as negative squares. A
    quadratic form in an SPD symbol is such a sum in its LDL coordinates.
    """
    return all(_is_bounded(part, v) for part in by_weights(f))


def _is_bounded(f: Any, v: Sequence[Any]) -> bool:
    return sign_everywhere(f, v) in (-1, 0) or squares_of(f, v) is not None


def is_outweighed(f: Any, v: Sequence[Any], y: Sequence[Any]) -> bool:
    """Whether a polynomial is proved to rise like a line in ŷ at most, for each y."""
    for part in by_weights(f):
        free = sorted(part.free_symbols - {*v, *y}, key=str)
        if _is_line(part, v) or _is_bounded(part, (*v, *y)):
            continue
        for powers, value in sp.Poly(part, *free).terms() if free else [((1,), part)]:
            even = not any(power % 2 for power in powers)
            if not (_is_line(value, v) or (even and _is_bounded(value, (*v, *y)))):
                return False
    return True


def _is_line(f: Any, v: Sequence[Any]) -> bool:
    return sp.Poly(f, *v).total_degree() <= 1


def is_separable(terms: Sequence[Term], v: Sequence[Any]) -> bool:
    """Whether a sum of terms is a sum of functions of one coordinate each."""
    for term in terms:
        of_exponent = [x for x in v if term.exponent.has(x)]
        for powers, _ in sp.Poly(term.polynomial, *v).terms():
            own = {x for x, power in zip(v, powers, strict=True) if power} | set(of_exponent)
            if len(own) > 1:
                return False
    return True


def _on_line(g: Growth) -> str:
    (x,) = g.v
    for side in (1, -1):
        way, leading = _leading(g, side)
        where = f"{x} -> {'+' if side > 0 else '-'}∞"
        if way is None:
            raise NoMaximumError(
                f"whether the reward falls as {where} depends on the sign of "
                f"{g.written(leading)}, which is "
                "not known; declare its symbols positive=True or negative=True, or " + LOCAL
            )
        if way == 0:
            moves = any(term.expression.has(x) for term in g.terms)  # else no local one either
            remedy = f"{LOCAL}, or {g.remedy}" if moves else g.remedy
            free = g.not_held([1])
            if free:
                raise NoMaximumError(f"the reward stays bounded as {where}: {free}; {remedy}")
            bounded = "the reward plus λ log p₀" if g.reference else "the reward"
            raise NoMaximumError(
                f"{bounded} stays bounded as {where} and the entropy does not: J -> ∞ as the "
                f"policy widens, so that no global maximum exists; {remedy}"
            )
        if way == 1:
            raise NoMaximumError(
                f"the reward rises without bound as {where}, where {g.written(leading)} leads: J "
                "has no maximum; turn its sign round"
            )
    return "g falls on both sides, faster than the entropy grows"


def _leading(g: Growth, side: int) -> tuple[int | None, Any]:
    """The sign of g far out on one side, 0 if it is bounded there, and what decides it."""
    (x,) = g.v
    rates: dict[Any, Any] = {}
    for term in g.exponentials:
        exponent = sp.Poly(term.exponent, x)
        if exponent.degree() == 1:
            rate = side * exponent.coeff_monomial(x)
            way = sign(rate)
            if way is None:
                return None, rate
            if way == 1:
                rates[rate] = rates.get(rate, 0) + term.expression * sp.exp(-rate * side * x)
    if rates:
        fastest = next(iter(rates))
        for rate in rates:
            way = sign(rate - fastest)
            if way is None:
                return None, rate - fastest
            fastest = rate if way == 1 else fastest
        factor = sp.Poly(sp.expand(sp.powsimp(rates[fastest])), x)
        way = sign(factor.LC())
        return (None if way is None else way * side ** factor.degree()), factor.LC()
    p = sp.Poly(g.polynomial, x)
    degree = p.degree()
    if degree <= 0:
        return 0, p.as_expr()
    way = g.sign_of((degree,))
    return (None if way is None else way * side**degree), p.LC() * x**degree


def _in_space(g: Growth, unproved: Sequence[Term]) -> str:
    """A polynomial of several coordinates; exponentials are bounded (the rest is refused)."""
    for term in unproved:
        bend = sp.hessian(term.exponent, list(g.v))
        if not _is_flat(term.exponent, bend, g.v):
            raise NoMaximumError(
                f"exp({term.exponent}) is not bounded, and the reward is no sum over coordinates: "
                f"whether a maximum exists could not be decided; {LOCAL}"
            )
    p = g.averaged
    ridges = [
        powers
        for term in g.kernels
        if not _falls_everywhere(term, g.v)
        for powers in sp.Poly(term.polynomial, *g.v).monoms()
    ]
    if p.total_degree() == 2 and not ridges:
        Q = -sp.hessian(p.as_expr(), list(g.v)).as_immutable() / 2
        definite = is_positive_definite(Q)
        if definite:
            return "g is a concave quadratic, falling in every direction"
        if definite is False:
            raise NoMaximumError(_not_definite(g, Q))
    if _dominated(g, p, ridges):
        return "an even power of every coordinate outweighs all that could rise"
    if not ridges and _is_proper(g):
        return "g is a sum of negative squares, which are bounded together nowhere far out"
    directions = product((0, 1, -1), repeat=len(g.v))
    for direction in sorted(directions, key=lambda d: d.count(0), reverse=True):  # axes first
        _along(g, direction)
    if ridges:
        raise NoMaximumError(
            f"the reward rises where an exponential before a polynomial stays constant, and "
            f"{g.written(p.as_expr())} is not known to outweigh that: multiply by an exponential "
            f"that falls in every direction, or {LOCAL}"
        )
    raise NoMaximumError(
        f"whether {g.written(p.as_expr())} falls in every direction could not be decided: declare "
        "its symbols positive=True, take U from symbol('U', n), which is positive definite; or "
        + LOCAL
    )


def _is_flat(exponent: Any, bend: Any, v: Sequence[Any]) -> bool:
    """Whether a quadratic of semidefinite bend has no slope along its null space."""
    slope = sp.Matrix([sp.diff(exponent, x).xreplace(dict.fromkeys(v, 0)) for x in v])
    null = bend.applyfunc(factored).nullspace()
    return all(sp.simplify((slope.T * direction)[0]) == 0 for direction in null)


def _falls_everywhere(term: Term, v: Sequence[Any]) -> bool:
    """Whether polynomial · exp(-quadratic) is bounded: the polynomial is constant where exp is."""
    if not term.polynomial.has(*v):
        return True
    bend = sp.hessian(term.exponent, list(v)).applyfunc(factored)
    slope = sp.Matrix([sp.diff(term.polynomial, x) for x in v])
    return all(sp.expand((slope.T * direction)[0]) == 0 for direction in bend.nullspace())


def _not_definite(g: Growth, Q: Any) -> str:
    null = Q.applyfunc(factored).nullspace()
    if null:
        where = ", ".join(str(list(direction.applyfunc(factored))) for direction in null)
        free = [g.not_held(direction) for direction in null]
        if None not in free:
            return f"the reward is constant along {where}: {free[0]}; {g.remedy}"
        return (
            f"the reward is constant along {where}, where the entropy grows without bound: J has "
            f"no maximum; {g.remedy}"
        )
    return (
        f"the reward -ŷᵀQŷ + ... is not concave, Q = {g.written(Q)} is not positive definite: it "
        f"rises along a direction in which J has no maximum; pass a positive definite weight"
    )


def _is_proper(g: Growth) -> bool:
    """Whether the reward is a sum of negative squares that bound ŷ, y in a bounded set."""
    if any(term.exponent != 0 for term in g.raw):
        return False
    squares = squares_of(sp.Add(*(term.polynomial for term in g.raw)), (*g.v, *g.y))
    return squares is not None and is_proper(squares, list(g.v))


def _along(g: Growth, direction: tuple[int, ...]) -> None:
    """Refuse g where it rises or stays bounded along a line through 0."""
    if not any(direction):
        return
    t = sp.Dummy("t", real=True)
    line = {x: t * step for x, step in zip(g.v, direction, strict=True)}
    cut = g.along(line, (t,))
    way, _ = _leading(cut, 1)
    if way == 1:
        raise NoMaximumError(
            f"the reward rises without bound along ŷ = t{list(direction)}: J has no maximum; turn "
            "the sign of its leading power round"
        )
    if way == 0:
        why = g.not_held(direction) or "nothing bounds the spread of a policy there"
        raise NoMaximumError(
            f"the reward does not fall along ŷ = t{list(direction)}: {why}; {g.remedy}"
        )


def _dominated(g: Growth, p: Any, ridges: Sequence[tuple[int, ...]]) -> bool:
    """Whether even powers outweigh every monomial that could rise, by weighted AM-GM.

    What helps are monomials of even powers with a negative coefficient, among them a power of each
    coordinate alone. A monomial ŷ^α with α = Σ w_i β_i over those that help, Σ w_i < 1, is
    outweighed. What takes Σ w_i = 1 must be outweighed as a form, together with the powers.
    `ridges` are monomials before exponentials that stay 1 along a line: they rise there.
    """
    size = len(g.v)
    highest = [max((sum(a) for a in p.monoms() if sum(a) == a[i]), default=0) for i in range(size)]
    tops = [tuple(highest[i] * int(i == j) for j in range(size)) for i in range(size)]
    if any(top % 2 or not top for top in highest) or any(g.sign_of(top) != -1 for top in tops):
        return False

    def degree(powers: tuple[int, ...]) -> Any:
        return sum(sp.Rational(a, top) for a, top in zip(powers, highest, strict=True))

    high = [a for a in p.monoms() if degree(a) >= 1]  # the powers alone outweigh the rest
    helping = [a for a in high if not any(k % 2 for k in a) and g.sign_of(a) == -1]
    rising = {a for a in high if a not in helping} | {a for a in ridges if degree(a) >= 1}
    edge = {a for a in rising if not _inside(a, helping)}
    if any(degree(a) > 1 or a in ridges for a in edge):
        return False
    face = {a: value for a, value in p.terms() if degree(a) == 1}
    return not edge or _is_negative_form(face, edge, tops, g.v)


def _inside(powers: tuple[int, ...], helping: Sequence[tuple[int, ...]]) -> bool:
    """Whether powers are Σ w_i β_i, w_i >= 0, Σ w_i < 1: fractions, far from 1 if not equal."""
    from scipy.optimize import linprog

    columns = [list(row) for row in zip(*helping, strict=True)]
    found = linprog([1] * len(helping), A_eq=columns, b_eq=list(powers))
    return found.status == 0 and found.fun < 1 - 1e-9


def _is_negative_form(
    face: Mapping[tuple[int, ...], Any],
    edge: Collection[tuple[int, ...]],
    tops: Sequence[tuple[int, ...]],
    v: Sequence[Any],
) -> bool:
    """Whether a quasi-homogeneous form is negative away from 0.

    It is where -form is a definite quadratic form in z_i = ŷ_i^{k_i}, tops ŷ_i^{2k_i}, the powers
    that help left out; or a product of definite quadratic forms; or, of two coordinates, where no
    curve (±1, t) meets a zero.
    """
    size = len(v)
    form = sp.zeros(size, size)
    for i, top in enumerate(tops):
        form[i, i] = -face[top]
    pairs = {
        tuple((a + b) // 2 for a, b in zip(tops[i], tops[j], strict=True)): (i, j)
        for i in range(size)
        for j in range(i)
    }
    for powers in edge:
        if powers in pairs:
            i, j = pairs[powers]
            form[i, j] = form[j, i] = -face[powers] / 2
    if all(powers in pairs for powers in edge) and is_positive_definite(form.as_immutable()):
        return True
    h = sp.Add(
        *(
            value * sp.Mul(*(x**k for x, k in zip(v, powers, strict=True)))
            for powers, value in face.items()
        )
    )
    factors = [f for f, _ in factor_list(h, *v)[1]]
    if all(sp.Poly(f, *v).is_homogeneous and sp.Poly(f, *v).total_degree() == 2 for f in factors):
        bends = [sp.hessian(f, list(v)).as_immutable() for f in factors]
        if all(is_positive_definite(B) or is_positive_definite(-B) for B in bends):
            return True  # no zero away from 0, and negative along every axis
    if size > 2:
        return False
    curves = [factored(h.xreplace({v[0]: sp.Integer(side)})) for side in (1, -1)]
    return all(_never_zero(f, v[1]) for f in curves)


def _never_zero(f: Any, x: Any) -> bool:
    """Whether a polynomial in x with numbers for coefficients, up to a factor, has no real root."""
    part = f.as_independent(x, as_Add=False)[1]
    if part.free_symbols - {x} or not part.is_polynomial(x):
        return False
    return sp.count_roots(sp.Poly(part, x)) == 0
