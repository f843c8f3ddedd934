"""How formulas are shown: LaTeX in ASCII, and whole numbers cancelled without a change of value."""

import pytest
import sympy as sp

from analysis import gaussian
from analysis.calculus import printing

x, y, z = sp.symbols("x y z", positive=True)


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("∇_U F", r"\nabla _U F"),
        ("P*⁻¹", r"P^{\star -1}"),
        ("P⁻¹(ζ)", r"P^{-1}(\zeta )"),
        ("E eᵀe", r"E e^{\top}e"),
        ("lim ȯ/o^{2+1/n}", r"\lim  \dot{o}/o^{2+1/n}"),
        ("ℓ̇", r"\dot{\ell}"),
        ("r̄(φ̂)", r"\bar{r}(\hat{\phi})"),
        ("∇F_ς - ∇F", r"\nabla F_\varsigma  - \nabla F"),
        ("F_ML", r"F_{\mathrm{ML}}"),
        ("min Var", r"\min \mathrm{Var}"),
        ("∇F through the surrogate", r"\nabla F \text{ through the surrogate}"),
        ("½ χ²₂ ≠ Λ", r"\tfrac{1}{2} \chi ^{2}_{2} \neq  \Lambda "),
        ("kc*M dF/dβ", r"kc^{\star}M dF/d\beta "),
    ],
)
def test_labels_in_latex(text: str, tex: str) -> None:
    assert printing.latex_of_text(text) == tex


@pytest.mark.parametrize(
    ("expression", "tex"),
    [
        (2 * x / (2 * y + 2 * z), r"\frac{x}{y + z}"),
        (2 * x / (6 * y + 2 * z), r"\frac{x}{3 y + z}"),
        (3 * x / (2 * y + 2 * z), r"\frac{3 x}{2 y + 2 z}"),
        (4 * x / (2 * y + 2 * z) ** 2, r"\frac{x}{\left(y + z\right)^{2}}"),
        (1 + 2 * x / (2 * y + 4), r"\frac{x}{y + 2} + 1"),
        (sp.exp(2 * x / (2 * y + 2 * z)), r"e^{\frac{x}{y + z}}"),
    ],
)
def test_whole_numbers_are_cancelled(expression: sp.Expr, tex: str) -> None:
    assert printing.latex(expression) == tex
    assert sp.simplify(printing._shown(expression) - expression) == 0


def test_a_result_is_shown_in_lowest_terms() -> None:
    solution = gaussian.inner.solution("isotropic", n=2)
    assert r"\frac{\lambda}{U_{11} + U_{22}}" in solution.latex()
    assert solution.stated[0, 0].as_numer_denom()[0].as_coeff_Mul()[0] == 2  # as it was stated
