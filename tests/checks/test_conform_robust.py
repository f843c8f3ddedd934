"""`conform` survives what a solver may do, draws what it was asked to, refuses other functions."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from paper_checks.conformance import (
    EXAMPLES,
    Report,
    UnknownSignature,
    conform,
    harness,
    identities,
    signatures,
    tolerances,
)
from paper_checks.conformance.signatures import SIGNATURES
from tests.checks.test_conform import (
    DIRECT,
    IS_DERIVED,
    MEASURED,
    VANISHES,
    Array,
    gradient,
    inverse,
    names,
    reinforce,
    shaped,
)


def raising(U: Array, lam: float) -> Array:
    raise RuntimeError("no convergence")


def leaving(U: Array, lam: float) -> Array:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("solve", "says"),
    [
        (raising, "raised RuntimeError: no convergence"),
        (leaving, "raised SystemExit: 0"),
        (lambda U, lam: np.diag(inverse(U, lam)), "of shape (1,): return shape (1, 1)"),
        (lambda U, lam: inverse(U, lam).astype(np.float32), "of dtype float32"),
        (lambda U, lam: inverse(U, lam) * np.nan, "P = [[nan]]: every entry must be finite"),
        (lambda U, lam: torch.tensor(inverse(U, lam)), "Tensor for P: return a NumPy array"),
        (lambda U, lam: None, "NoneType for P: return a NumPy array"),
        (
            lambda U, lam: inverse(U, lam) * np.random.default_rng().random(),
            "for the same inputs: make it deterministic",
        ),
        (lambda U, Sigma, lam: lam, "hypergradient returned float for G"),
        (lambda m, L, U, y, epsilon: m, "ndarray: return the pair (g_m, g_L)"),
        (lambda m, L, U, y, epsilon: (m, m), "returned g_L of shape (1,): return shape (1, 1)"),
        (
            lambda m, L, U, y, epsilon: (m, L.T),
            "returned g_L = ",
        ),
    ],
)
def test_unusable_results_are_failures_of_their_own(solve: Callable[..., Any], says: str) -> None:
    report = conform(solve)
    (row,) = report.rows
    assert row.identity.startswith("returns finite float64")
    assert row.message is not None
    assert says in row.message
    assert "\n  inputs   " in row.message
    assert "U = [[" in row.message


def test_an_unusable_structure_leaves_the_others() -> None:
    def partly(U: Array, lam: float, structure: str) -> Array:
        if structure == "diagonal":
            raise NotImplementedError(structure)
        return shaped(U, lam, structure)

    report = conform(partly)
    assert [row.structure for row in report.failures] == ["diagonal"]
    assert len(report.rows) == 9
    message = report.failures[0].message
    assert message is not None
    assert "structure = 'diagonal'" in message
    assert "test_conform_robust.py:" in message


def test_what_fails_only_at_some_inputs_is_found() -> None:
    def picky(U: Array, Sigma: Array, lam: float) -> Array:
        if np.allclose(gradient(U, Sigma, lam), 0):
            raise ZeroDivisionError("at the optimum")
        return gradient(U, Sigma, lam)

    report = conform(picky)
    assert names(report) == [VANISHES]
    assert "raised ZeroDivisionError: at the optimum" in str(report)


def test_what_changes_with_time_is_no_crash() -> None:
    """Wrong once: Hypothesis cannot reproduce the failure."""
    calls: list[int] = []

    def moody(U: Array, lam: float) -> Array:
        calls.append(1)
        return inverse(U, lam) * (2 if len(calls) == 90 else 1)

    report = conform(moody)
    assert names(report) == [IS_DERIVED]
    assert "not when called again with the same inputs: make it deterministic" in str(report)


def test_inputs_may_be_overwritten() -> None:
    def careless(U: Array, lam: float) -> Array:
        U *= 2 / lam
        return np.linalg.inv(U)

    report = conform(careless)
    assert report.passed, str(report)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_results_may_be_the_same_arrays_at_every_call(noise: float) -> None:
    """Filled anew each time: what was returned before is compared all the same."""
    rng, buffers = np.random.default_rng(0), {}

    def refilled(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> list[Array]:
        found = reinforce(m, L, U, y, epsilon)
        kept = buffers.setdefault(len(m), [np.empty_like(m), np.empty_like(L)])
        for place, value in zip(kept, found, strict=True):
            place[...] = value * (1 + noise * rng.random())
        return kept

    report = conform(refilled, examples=5)
    assert report.passed == (noise == 0), str(report)
    assert ("make it deterministic" in str(report)) == (noise > 0)


def test_masks_hide_nothing() -> None:
    report = conform(lambda U, lam: np.ma.masked_invalid(inverse(U, lam) * np.nan))
    assert "every entry must be finite" in str(report)


def test_the_seed_chooses_the_inputs() -> None:
    def drawn(seed: int) -> tuple[Report, list[float]]:
        seen: list[float] = []

        def solve(U: Array, lam: float) -> Array:
            seen.append(lam)
            return np.diag(lam / 2 / np.diag(U))

        return conform(solve, examples=5, seed=seed), seen

    (first, seen), (again, same), (_, other) = drawn(0), drawn(0), drawn(1)
    assert first == again
    assert seen == same
    assert seen[:5] != other[:5]


def test_the_number_of_examples() -> None:
    rows = {row.identity: row.examples for row in conform(gradient, examples=24).rows}
    assert rows[DIRECT] == rows[VANISHES] == 24
    assert rows[MEASURED] == 2
    assert conform(inverse).rows[0].examples == EXAMPLES == 25


def test_an_estimator_is_called_a_reasonable_number_of_times() -> None:
    calls: list[int] = []

    def counted(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
        calls.append(1)
        return reinforce(m, L, U, y, epsilon)

    assert conform(counted).passed
    assert len(calls) < 25 * 3**6


def bound(U: Array, lam: float, tolerance: float = 1e-8) -> Array:
    assert tolerance == 1e-8
    return inverse(U, lam)


class Solver:
    def __call__(self, *, lam: float, U: Array) -> Array:
        return inverse(U, lam)


@pytest.mark.parametrize("solve", [bound, Solver(), partial(bound, tolerance=1e-8)])
def test_other_callables_are_recognised(solve: Callable[..., Any]) -> None:
    report = conform(solve, examples=1)
    assert report.kind == "inner solution"
    assert report.passed


def bits_inner(u: Array, rho: Array, lam: float, z: Array | None = None) -> Array:
    assert z is None
    return u * (2 * rho - 1) / lam


def best_weights(rho: Array, lam: float, u: Array | None = None) -> Array:
    assert u is None
    return lam * np.log(rho / (1 - rho)) / (2 * rho - 1)


def with_data(U: Array, lam: float, Sigma: Array | None = None, steps: int = 3) -> Array:
    assert Sigma is None
    return inverse(U, lam)


@pytest.mark.parametrize(
    ("solve", "kind", "kept"),
    [
        (with_data, "inner solution", "Sigma, steps"),
        (bits_inner, "inner solution of bits", "z"),
        (best_weights, "optimal reward of bits", "u"),
    ],
)
def test_extra_inputs_with_a_default_are_left_at_it(
    solve: Callable[..., Any], kind: str, kept: str
) -> None:
    report = conform(solve, examples=5)
    assert report.passed, str(report)
    assert report.kind == kind
    assert report.because.endswith(f"left at the default: {kept}")


def test_defaults_of_what_every_kind_needs_do_not_matter() -> None:
    def weighted(U: Array, Sigma: Array, lam: float = 1.0) -> Array:
        return gradient(U, Sigma, lam)

    assert conform(weighted, examples=2).passed
    assert signatures.recognise(weighted).signature is signatures.HYPERGRADIENT


def test_a_failure_says_what_the_function_was_taken_for() -> None:
    report = conform(lambda U, lam, Sigma=None: lam * np.linalg.inv(U), examples=2)
    says = (
        "taken for the inner solution f(U, lam, [structure]) -> P: it has the parameters U, lam; "
        "left at the default: Sigma"
    )
    assert f"\n{says}\n" in str(report)
    assert "taken for" not in str(conform(inverse, examples=2))


@pytest.mark.parametrize(
    "function",
    [
        lambda lam, U=None, rho=None: U,
        lambda a, b: a,
        lambda U: U,
        lambda U, lam, steps: U,
        lambda U, lam, /: U,
        lambda *inputs: inputs,
        max,
        Solver,
    ],
)
def test_other_signatures_are_refused_with_the_three(function: Callable[..., Any]) -> None:
    with pytest.raises(UnknownSignature) as caught:
        conform(function)
    for signature in SIGNATURES:
        assert signature.text in str(caught.value)
        assert signature.kind in str(caught.value)


@pytest.mark.parametrize("module", [harness, identities, signatures, tolerances])
def test_checks_hold_without_asserts(module: ModuleType) -> None:
    """`python -O` strips assert statements: with them, every solver would pass."""
    tree = ast.parse(inspect.getsource(module))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
