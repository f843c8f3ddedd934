"""A wrong formula does not pass: every stated result is perturbed, and `verify` must object."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import sympy as sp

from analysis import (
    DerivationError,
    MomentError,
    bounded_reward,
    catalogue,
    definitions,
    estimators,
    gaussian,
)
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


@pytest.mark.parametrize("f", [1 / sp.Symbol("x"), sp.exp(sp.Symbol("x"))])
def test_noise_that_is_no_polynomial_is_an_error(f):
    x = sp.Symbol("x")
    with pytest.raises(MomentError, match="not a polynomial in the noise"):
        definitions.normal_expectation(f, x)
    assert [definitions.normal_expectation(x**k, x) for k in range(9)] == [
        *(1, 0, 1, 0, 3, 0, 15, 0, 105)
    ]


@pytest.mark.parametrize(
    ("name", "builds"),
    [
        (
            "reward",
            [
                *(partial(estimators.score_gradient, data) for data in ("averaged", "sampled")),
                *(partial(estimators.pathwise_variance, d) for d in ("averaged", "sampled")),
                partial(estimators.optimal_baseline, "conditional"),
                partial(estimators.leave_one_out_variance),
                partial(estimators.group_mean),
                partial(estimators.matrix_baseline, "scale", 2),
                partial(bounded_reward.log_expected_kernel, 1),
                partial(bounded_reward.expected_reward, 2),
            ],
        ),
        ("score", [partial(estimators.matrix_baseline, "mean", 2)]),
        ("entropy", [partial(estimators.group_mean), partial(estimators.group_minimum, 2)]),
        ("log_density", [partial(bounded_reward.expected_reward, 1)]),
        (
            "normal_covariance",
            [
                partial(estimators.leave_one_out_variance),
                partial(estimators.minimal_variance, "sampled"),
            ],
        ),
    ],
)
def test_a_wrong_definition_of_an_estimator_fails(monkeypatch, name, builds):
    with_doubled(monkeypatch, name)
    for build in builds:
        with pytest.raises(DerivationError):
            build.func.__wrapped__(*build.args).verify()


def test_a_wrong_variance_of_leave_one_out_fails():
    """1/M in place of 1/(M - 1), and the limits exchanged."""
    derivation = estimators.leave_one_out_variance()
    M = symbol("generations")
    with pytest.raises(DerivationError, match="fails"):
        dataclasses.replace(derivation, stated=derivation.stated * (M - 1) / M).verify()


def test_the_conditions_on_the_bounded_reward_bite():
    """Every sign turned round, and every zero moved, is noticed."""
    for build in (
        bounded_reward.peak_variance,
        bounded_reward.critical_weight,
        bounded_reward.reachable_weight,
        bounded_reward.expected_reward,
        bounded_reward.growth,
    ):
        for condition in build(2).conditions:
            assert condition.holds()
            right = condition.expression
            one = sp.ones(*right.shape) if isinstance(right, sp.MatrixBase) else 1
            wrong = -right if condition.kind == "positive" else right + one
            assert not dataclasses.replace(condition, expression=wrong).holds()


def test_the_stated_side_imports_no_definition():
    """The stated modules may use matrix functions only; the definitions no stated results."""
    import ast
    import inspect

    from analysis import (
        matrix_calculus,
        quadratic,
        stated,
        stated_categorical,
        stated_estimators,
        stated_unrolled,
        words,
    )

    def imported(module) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom):
                parts = ("analysis" if node.level else "", node.module or "")
                source = ".".join(part for part in parts if part)
                found |= {source} | {f"{source}.{name.name}" for name in node.names}
        return {name for name in found if name.startswith("analysis.")}

    stated_modules = (stated, stated_categorical, stated_estimators, stated_unrolled)
    for module in stated_modules:
        assert {name.split(".")[1] for name in imported(module)} == {"matrix_calculus"}
    for module in (definitions, matrix_calculus, quadratic, words):
        assert not {stated.__name__ for stated in stated_modules} & imported(module)
