"""A sound decision of `expression = 0`: a rational function of LDL coordinates and logarithms.

Every rewriting below is an identity on the whole domain, so a result of 0 is a proof. An expression
that does not reduce to 0 counts as a failure: there is no numerical fallback.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from . import gate, general_n
from .expanding import Reader, expanded
from .ldl import from_coordinates, to_coordinates
from .matrices import cancel_outside_logs, lowest_terms
from .symbols import QUANTITIES

_SMALL = 1000  # factors that are looked for in the numbers under logarithms


def normal(expression: Any) -> Any:
    """The expression reduced entry by entry; it is 0 when the reduction proves it to be 0.

    Args:
        expression: scalar, explicit matrix, or matrix expression of general size n.
    Returns:
        The reduced expression, of the same kind, in LDL coordinates of its SPD symbols.
    """
    if isinstance(expression, sp.MatrixBase):
        return expression.applyfunc(normal)
    expression = gate.expression(expression, "the expression")
    if general_n.is_general(expression):
        return general_n.normal(expression)
    if any(power.exp.free_symbols for power in _powers_of_symbols(expression)):
        named, powers = _name_powers(expression)
        return normal(named).xreplace(powers)
    if expression.has(sp.log) and _with_expanded_logs(expression) == 0:
        return sp.S.Zero
    expression, exponentials = _named_exponentials(to_coordinates(expression))
    expression = _expand_denominators(_split_logs(expression))
    reader = Reader()
    polynomial = reader.polynomial(expression)
    if not reader.numerator(polynomial):
        return sp.S.Zero
    expression = reader.expression(polynomial)
    if any(power.base.is_Add and power.exp.is_negative for power in expression.atoms(sp.Pow)):
        expression = _cancelled(expression)
    # else a Laurent polynomial in coordinates, logs and exponentials
    return expression.xreplace(exponentials)


def is_clearly_nonzero(expression: Any) -> bool:
    """Whether the value at one rational point of the domain is far from 0 (in 30 digits).

    Used to report a failure quickly; a value near 0 decides nothing.
    """
    point: dict[Any, Any] = {}
    for k, x in enumerate(sorted(expression.free_symbols, key=str)):
        small = sp.Rational(sp.prime(k + 1), 401)  # below 1/2: diagonally dominant, so SPD
        point[x] = _value_in_domain(x, small)
    value = expression.xreplace(point).evalf(30)
    return bool(value.is_number and value.is_finite and abs(value) > sp.Float("1e-15"))


def tidy(expression: Any) -> Any:
    """The normal form written back in the entries of the SPD symbols."""
    found = normal(expression)
    return found if general_n.is_general(found) else from_coordinates(found)


def reduced(expression: Any) -> Any:
    """The normal form for general n; lowest terms in the entries, and of a scalar outside logs."""
    if general_n.is_general(expression):
        return general_n.normal(expression)
    explicit = isinstance(expression, sp.MatrixBase)
    return lowest_terms(expression) if explicit else cancel_outside_logs(expression)


def is_zero(expression: Any) -> bool:
    """Whether the reduction proves the (scalar or matrix) expression to be 0."""
    found = normal(expression)
    if isinstance(found, sp.MatrixBase):
        return all(entry == 0 for entry in found)
    return bool(found == 0 or getattr(found, "is_ZeroMatrix", False))


def is_positive(expression: Any) -> bool:
    """Whether every entry is positive by its form: sums and products of positive symbols."""
    entries = list(expression) if isinstance(expression, sp.MatrixBase) else [expression]
    return all(normal(entry).is_positive is True for entry in entries)


def _value_in_domain(x: Any, small: Any) -> Any:
    quantity = QUANTITIES.get(x.name)
    is_probability = quantity is not None and quantity.domain in ("probability", "share")
    return 2 + small if x.is_positive and not is_probability else small


def _powers_of_symbols(expression: Any) -> list[Any]:
    return [power for power in expression.atoms(sp.Pow) if power.base.is_Symbol]


def _name_powers(expression: Any) -> tuple[Any, dict[Any, Any]]:
    """A name for every power x^β of a symbol, with x^(kβ - 1) = (x^β)^k/x, and what each is."""
    expression = sp.expand_power_exp(expression)
    named: dict[Any, Any] = {}
    powers: dict[Any, Any] = {}
    for power in _powers_of_symbols(expression):
        k, exponent = power.exp.as_coeff_Mul()
        if exponent.free_symbols:
            name = sp.Dummy(f"{power.base}^{exponent}", positive=power.base.is_positive)
            name = powers.setdefault(power.base**exponent, name)
            named[power] = name**k
    return expression.xreplace(named), {name: power for power, name in powers.items()}


def _named_exponentials(expression: Any) -> tuple[Any, dict[Any, Any]]:
    """Every e^{Σ k·a} as Π x_a^k in positive symbols x_a, and what these stand for.

    They are free: what is 0 for all their values is 0 for these.
    """
    names: dict[Any, Any] = {}

    def named(node: Any) -> Any:
        factors: list[Any] = []
        for term in sp.Add.make_args(sp.expand(node.args[0])):
            power, base = term.as_coeff_Mul()
            if not power.is_Integer:
                power, base = sp.S.One, term
            factors.append(names.setdefault(base, sp.Dummy(positive=True)) ** power)
        return sp.Mul(*factors)

    found = {node: named(node) for node in expression.atoms(sp.exp)}
    return expression.xreplace(found), {x: sp.exp(base) for base, x in names.items()}


def _with_expanded_logs(expression: Any) -> Any:
    logs = expression.atoms(sp.log)
    same = {log: sp.log(expanded(log.args[0])) for log in logs}
    return expanded(expression.xreplace(same))


def _cancelled(total: Any) -> Any:
    """A sum of products of logs and exponentials with every coefficient in lowest terms."""
    names = {node: sp.Dummy() for node in total.atoms(sp.log, sp.exp)}
    back = {name: node for node, name in names.items()}
    coefficients: dict[Any, Any] = {}
    for term in sp.Add.make_args(total.xreplace(names)):
        coefficient, rest = term.as_independent(*back, as_Add=False)
        coefficients[rest] = coefficients.get(rest, 0) + coefficient
    return sum(
        lowest_terms(sp.together(value)) * rest.xreplace(back)
        for rest, value in coefficients.items()
    )


def _expand_denominators(expression: Any) -> Any:
    """Replace each sum under a negative power by its factors (a monomial for every det X)."""
    replacements: dict[Any, Any] = {}
    for power in expression.atoms(sp.Pow):
        if power.exp.is_negative and power.base.is_Add:
            factors = _factors_of_sum(power.base)
            replacements[power] = sp.Mul(*(base ** (k * power.exp) for base, k in factors))
    return expression.xreplace(replacements) if replacements else expression


def _split_logs(expression: Any) -> Any:
    logs = expression.atoms(sp.log)
    return (
        expression.xreplace({log: _split_log(log.args[0]) for log in logs}) if logs else expression
    )


def _split_log(argument: Any) -> Any:
    """log of a product as a sum of logs, positive factors only; what is left keeps one log."""
    total, rest = sp.S.Zero, sp.S.One
    for base, exponent in _factors(argument):
        if base.is_positive:
            total += exponent * _log_of_positive(base)
        else:
            rest *= base**exponent
    if rest == 1:
        return total
    base, exponent = rest.as_base_exp()
    if exponent.is_Integer and exponent % 2 == 1:  # base > 0 because base**exponent > 0
        return total + exponent * sp.log(base)
    return total + sp.log(rest)


def _log_of_positive(base: Any) -> Any:
    """log of a positive factor; of a number in logs of its small prime factors and of the rest."""
    if not base.is_Rational:
        return sp.expand_log(sp.log(base))
    powers = sp.factorrat(base, limit=_SMALL)
    return sp.Add(*(power * sp.log(prime) for prime, power in powers.items()))


def _factors(argument: Any) -> list[tuple[Any, Any]]:
    """Bases and exponents whose product is the argument."""
    found: list[tuple[Any, Any]] = []
    for factor in sp.Mul.make_args(argument):
        base, exponent = factor.as_base_exp()
        if exponent.is_Integer and base.is_Add:
            found += [(inner, power * exponent) for inner, power in _factors_of_sum(base)]
        elif exponent.is_Integer:
            found.append((base, exponent))
        else:
            found.append((factor, sp.S.One))
    return found


def _factors_of_sum(base: Any) -> list[tuple[Any, Any]]:
    """Content, monomials and one primitive polynomial, for numerator and denominator of a sum."""
    total = expanded(_expand_denominators(base))
    numerator, denominator = total, sp.S.One
    if not total.is_polynomial():
        numerator, denominator = sp.fraction(sp.together(total))
    found: list[tuple[Any, Any]] = []
    for sign, part in ((1, expanded(numerator)), (-1, expanded(denominator))):
        generators = sorted(part.free_symbols, key=str)
        if not generators:
            found.append((part, sp.Integer(sign)))
            continue
        exponents, rest = sp.Poly(part, *generators).terms_gcd()
        content, rest = rest.primitive()
        found += [(x, sp.Integer(sign * k)) for x, k in zip(generators, exponents, strict=True)]
        found += [(sp.sympify(content), sp.Integer(sign)), (rest.as_expr(), sp.Integer(sign))]
    return [(inner, power) for inner, power in found if inner != 1 and power != 0]
