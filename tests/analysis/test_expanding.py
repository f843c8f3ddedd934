"""Products multiplied out, and derivatives: what SymPy's own give, and nothing is 0 that is not."""

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from analysis.calculus.expanding import Reader, expanded
from analysis.calculus.slopes import derivative

a, b = sp.symbols("a b", positive=True)
x, y = sp.symbols("x y", real=True)
LEAVES = st.sampled_from([a, b, x, y, sp.Integer(2), sp.Rational(-3, 7), sp.sqrt(a + b), sp.log(a)])


def grown(inner):
    two = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        two.map(lambda parts: sp.Add(*parts)),
        two.map(lambda parts: sp.Mul(*parts)),
        inner.map(lambda f: f**2),
        inner.map(lambda f: f / (a + b)),
        inner.map(lambda f: f / (x**2 + a)),
    )


expressions = st.recursive(LEAVES, grown, max_leaves=8)
POINT = {a: sp.Rational(2, 3), b: sp.Rational(5, 7), x: sp.Rational(-3, 5), y: sp.Rational(4, 9)}


def value(f):
    return sp.sympify(f).xreplace(POINT).evalf(40)


@given(expressions)
def test_multiplying_out_keeps_the_value(f) -> None:
    got = expanded(f)
    assert abs(value(got) - value(f)) <= sp.Float("1e-30") * (1 + abs(value(f)))
    assert sp.cancel(sp.together(sp.expand(got - f))) == 0


@given(expressions, expressions)
def test_a_numerator_is_0_only_where_the_expression_is(f, g) -> None:
    for h in (f - g, (f + g) ** 2 - f**2 - 2 * f * g - g**2):
        reader = Reader()
        if not reader.numerator(reader.polynomial(h)):
            assert abs(value(h)) < sp.Float("1e-25")


@given(expressions)
def test_a_difference_of_two_forms_is_0(f) -> None:
    reader = Reader()
    whole = (f + x) * (f - x) / (a + b) - (f**2 - x**2) / (a + b)
    assert not reader.numerator(reader.polynomial(whole))


@given(expressions, st.sampled_from([a, x]))
def test_derivatives_are_those_of_sympy(f, at) -> None:
    got, want = derivative(f, at), sp.diff(f, at)
    assert abs(value(got) - value(want)) <= sp.Float("1e-30") * (1 + abs(value(want)))


@pytest.mark.parametrize(
    "f",
    [
        (a + b) ** 3 * (x - y) / a**2,
        sp.exp(x + y) * (1 + sp.exp(-x)),
        sp.sqrt(a + b) ** 3 * (x + sp.sqrt(a + b)),
        a ** (x + 1) * (y + a**-x),
        sp.sqrt(2) * (1 + sp.sqrt(2)) * x,
        sp.log(a * b) * (x + y) ** 2,
        sp.pi * (x + 1),
    ],
)
def test_like_sympy(f) -> None:
    assert expanded(f) == sp.expand(f)


@pytest.mark.parametrize("f", [a**x, x**a * 2**x, (x**2 + a) ** x, sp.exp(x) ** 2, a ** (x * y)])
def test_slopes_of_powers_are_those_of_sympy(f) -> None:
    assert sp.simplify(derivative(f, x) - sp.diff(f, x)) == 0


@pytest.mark.parametrize("f", [1 / (a + b) - 1 / (a * (1 + 2 * b / a)), sp.sqrt(a + b) - a, x - y])
def test_what_is_not_0_has_a_numerator(f) -> None:
    reader = Reader()
    assert reader.numerator(reader.polynomial(f))
