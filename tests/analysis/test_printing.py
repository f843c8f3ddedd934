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


@pytest.mark.parametrize(
    ("expression", "tex"),
    [
        (sp.log(1 / x) + sp.log(x), "0"),
        (sp.log(x * y) - sp.log(x) - sp.log(y), "0"),
        (sp.log(2 / x) + sp.log(x) + y, r"y + \log{\left(2 \right)}"),
        (sp.log(x) - sp.log(2 * y), r"\log{\left(x \right)} - \log{\left(2 y \right)}"),
    ],
)
def test_logarithms_that_cancel_are_not_shown(expression: sp.Expr, tex: str) -> None:
    assert printing.latex(expression) == tex
    assert sp.expand_log(printing._shown(expression) - expression) == 0


@pytest.mark.parametrize(
    ("name", "tex"),
    [
        ("leverage", r"\mathrm{leverage}"),
        ("w_held", r"w_{\mathrm{held}}"),
        ("y_hat", r"\hat{y}"),
        ("y_hat_2", r"\hat{y}_{2}"),
        ("y_hat1", r"\hat{y}_{1}"),
        ("lambda", r"\lambda"),
        ("lambda_a", r"\lambda_{a}"),
        ("mu_12", r"\mu_{12}"),
        ("P_0_12", r"P_{0 12}"),
        ("ab", "ab"),
    ],
)
def test_words_stand_upright(name: str, tex: str) -> None:
    assert printing.latex(sp.Symbol(name)) == tex
    assert printing.latex(sp.MatrixSymbol(name, 2, 2)) in (tex, rf"\mathbf{{{tex}}}")


def test_the_digamma_function_has_its_letter() -> None:
    assert printing.latex(sp.digamma(x)) == r"\psi{\left(x \right)}"
    assert printing.latex(sp.digamma(x) ** 2) == r"\left(\psi{\left(x \right)}\right)^{2}"
    assert printing.latex(sp.polygamma(2, x)) == r"\psi^{\left(2\right)}{\left(x \right)}"


@pytest.mark.parametrize("result", [gaussian.mean_field.cost, gaussian.rays.loss])
def test_what_costs_nothing_for_one_outcome_is_shown_as_0(result) -> None:
    assert result(n=1).latex().endswith(" = 0")


def test_a_result_is_shown_in_lowest_terms() -> None:
    solution = gaussian.inner.solution("isotropic", n=2)
    assert r"\frac{\lambda}{U_{11} + U_{22}}" in solution.latex()
    assert solution.stated[0, 0].as_numer_denom()[0].as_coeff_Mul()[0] == 2  # as it was stated
