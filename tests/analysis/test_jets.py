"""Taylor arithmetic against SymPy's derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis.derive.jets import second_order, variables

x, z, c = sp.symbols("x z c", positive=True)
FUNCTIONS = {
    "powers": x**3 * z**-2 + sp.sqrt(x * z) / c - x,
    "exponentials": sp.exp(-c * x**2 - x * z) * sp.log(x + z),
    "quotients": (x - z) / (1 + x**2) - c / (x + z) ** sp.Rational(5, 2),
    "an exponent that moves": x**z + c**x,
    "a line": 2 * x - 3,
    "a constant": c,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_slope_and_curvature(name: str) -> None:
    f: Any = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    evaluate = second_order(f, [x, z], [c])
    for _ in range(3):
        a, b, k = rng.uniform(0.3, 2.0, 3)
        at = {x: sp.Float(a, 40), z: sp.Float(b, 40), c: sp.Float(k, 40)}
        jet = evaluate(variables([a, b]), [k])
        slope = [sp.diff(f, v).subs(at) for v in (x, z)]
        curvature = sp.hessian(f, [x, z]).subs(at)
        np.testing.assert_allclose(jet.value, float(f.subs(at)), rtol=1e-13)
        np.testing.assert_allclose(jet.slope, np.array(slope, float), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(
            jet.curvature, np.array(curvature, float), rtol=1e-11, atol=1e-13
        )
