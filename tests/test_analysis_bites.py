"""A wrong formula does not pass: every stated result is perturbed, and `verify` must object."""

from __future__ import annotations

import dataclasses

import pytest
import sympy as sp

from analysis import DerivationError, catalogue, definitions, gaussian
from analysis.normal_form import is_clearly_nonzero, is_zero
from analysis.symbols import symbol
from analysis.words import is_general

ENTRIES = catalogue()
NAMES = [entry.name for entry in ENTRIES]
LAM = symbol("lam")


def dropped_term(expression):
    """Without the last term of the first entry (or scalar) that is a sum; else unchanged."""
    if isinstance(expression, (sp.Add, sp.MatAdd)):
        return expression.func(*expression.args[:-1])
    if isinstance(expression, sp.MatrixBase):
        entries = list(expression)
        for i, entry in enumerate(entries):
            if isinstance(entry, sp.Add):
                entries[i] = dropped_term(entry)
                return sp.ImmutableMatrix(expression.rows, expression.cols, entries)
    return expression


def transposed(expression):
    """The transpose of a square result (most are symmetric and unchanged)."""
    if isinstance(expression, sp.MatrixBase):
        return expression.T if expression.cols == expression.rows else expression
    return expression


PERTURBATIONS = {
    "sign": lambda stated: -stated,
    "factor 2": lambda stated: 2 * stated,
    "lam for lam/2": lambda stated: stated.subs(LAM, 2 * LAM),
    "dropped term": dropped_term,
    "transposed": transposed,
}


def changes_value(new, old) -> bool:
    """Whether a perturbation is one: decided by a value at a point, or by the normal form."""
    difference = new - old
    if is_general(difference):
        return not is_zero(difference)
    entries = list(difference) if isinstance(difference, sp.MatrixBase) else [difference]
    return any(is_clearly_nonzero(entry) for entry in entries)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_a_perturbed_result_fails(entry):
    derivation = entry.build()
    bitten: set[str] = set()
    for name, perturb in PERTURBATIONS.items():
        stated = perturb(derivation.stated)
        if stated == derivation.stated or not changes_value(stated, derivation.stated):
            continue
        with pytest.raises(DerivationError, match=r"fails|contains"):
            dataclasses.replace(derivation, stated=stated).verify()
        bitten.add(name)
    expected = {"sign", "factor 2"}
    if LAM in derivation.stated.free_symbols:
        expected.add("lam for lam/2")
    if entry.name in VANISHING:
        expected = set()
    assert expected <= bitten, f"{entry.name}: only {bitten} bite"


VANISHING = {  # identically 0 for n = 1: a perturbation cannot change it
    "outer.ray_loss[n=1]",
    "outer.mean_field_cost[n=1]",
}


def with_doubled(monkeypatch, name: str) -> None:
    """Double one definition (the entropy weight, the reward, or the quadratic of a density)."""
    original = getattr(definitions, name)
    monkeypatch.setattr(definitions, name, lambda *args: 2 * original(*args))


@pytest.mark.parametrize("n", [1, 2, None])
@pytest.mark.parametrize("name", ["entropy", "reward", "log_density"])
def test_a_wrong_definition_fails(monkeypatch, name, n):
    """λ in place of λ/2, and the like, on the derived side."""
    with_doubled(monkeypatch, name)
    wrong = gaussian.inner_solution.__wrapped__("full", n)
    if name == "log_density":  # scales the entropy as a whole: the same optimum with 2λ
        assert not is_zero(wrong.residual())
    with pytest.raises(DerivationError):
        wrong.verify()
    with pytest.raises(DerivationError):
        gaussian.objective.__wrapped__(n).verify()


def test_a_missing_expectation_is_an_error():
    from analysis.errors import MomentError

    y = symbol("y", 1)
    with pytest.raises(MomentError, match="more than two moments"):
        definitions.expectation(y[0] ** 3, y, symbol("mu", 1), symbol("Sigma", 1))


def test_the_stated_side_imports_no_definition():
    """stated.py may use matrix functions only; the definitions may not use stated results."""
    import ast
    import inspect

    from analysis import matrix_calculus, stated, words

    def imported(module) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
        return {name for name in found if name.startswith("analysis.")}

    assert {name.split(".")[1] for name in imported(stated)} == {"matrix_calculus"}
    for module in (definitions, matrix_calculus, words):
        assert "analysis.stated" not in imported(module)
