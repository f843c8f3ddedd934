"""Any n is answered at once: in entries, as a matrix expression, or by an error that says why."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest

from analysis import (
    Derivation,
    Result,
    SlowDerivationWarning,
    bounded,
    catalogue,
    categorical,
    dynamics,
    estimators,
    forgetting,
    gaussian,
    hypergradients,
    reference,
    samples,
    sequences,
)
from analysis.calculus.symbols import QUANTITIES, STRUCTURES, symbol
from analysis.catalogue import DERIVATIONS
from analysis.errors import ArgumentError, StructureError
from tests.analysis.test_derivations import values_for

GENERAL = [entry for entry in catalogue() if "any n" in entry.name]
SECONDS = 5.0  # of processor time: a hang would take hours, and machines differ


@pytest.mark.parametrize("entry", GENERAL, ids=[entry.name for entry in GENERAL])
@pytest.mark.parametrize("n", [4, 12, 40])
def test_a_large_n_is_the_form_for_any_n_at_that_n(entry, n):
    build: Any = entry.build
    started = time.process_time()
    derivation = build.func(*build.args[:-1], n)
    assert derivation.verify() is derivation
    assert time.process_time() - started < SECONDS
    assert derivation.name == entry.name.replace("any n", f"n={n}")
    assert f"n={n}" in str(derivation)
    values = values_for(derivation, np.random.default_rng(n), size=n)
    stated, derived = (derivation.at(side, **values) for side in ("stated", "derived"))
    np.testing.assert_allclose(derived, stated, rtol=1e-9, atol=1e-9)
    size = {"n": n} if "n" in entry.build().arguments else {}
    np.testing.assert_array_equal(entry.build().at(**values, **size), stated)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_other_sizes_than_its_own_are_refused(structure):
    derivation = gaussian.outer.hypergradient(structure, n=4)
    for size in (1, 3, 5):
        with pytest.raises(ArgumentError, match=r"U has shape .* of shape \(4, 4\)"):
            derivation.at(U=np.eye(size), Sigma=np.eye(size), lam=1.0)
    with pytest.raises(ArgumentError, match=r"U has shape \(\)"):
        derivation.at(U=1.0, Sigma=np.eye(4), lam=1.0)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_general_forms_against_entries_written_in_numpy(structure):
    rng = np.random.default_rng(0)
    U, Sigma = (
        values_for(gaussian.divergences.kl(None), rng, size=6)[name] for name in ("P", "Sigma")
    )
    n, lam, one = 6, 0.7, np.eye(6)
    P = {
        "full": lam / 2 * np.linalg.inv(U),
        "diagonal": np.diag(lam / (2 * np.diag(U))),
        "isotropic": lam * n / (2 * np.trace(U)) * one,
    }[structure]
    precision = np.linalg.inv(P)
    F = -(np.trace(precision @ Sigma) + np.linalg.slogdet(2 * np.pi * P)[1]) / 2
    values: dict[str, Any] = {"U": U, "Sigma": Sigma, "lam": lam}
    np.testing.assert_allclose(gaussian.inner.solution(structure, n).at(U=U, lam=lam), P)
    np.testing.assert_allclose(gaussian.outer.objective(structure, n).at(**values), F)
    G, best = (
        gaussian.outer.hypergradient(structure, n).at(**values),
        gaussian.outer.optimal_reward(structure, n),
    )
    step = 1e-5 * (one + 0.3 * np.roll(one, 1, 0) + 0.3 * np.roll(one, -1, 0))
    ends = [
        gaussian.outer.objective(structure, n).at(**(values | {"U": U + k * step})) for k in (1, -1)
    ]
    np.testing.assert_allclose(np.sum(G * step), (ends[0] - ends[1]) / 2, rtol=1e-7)
    optimum = best.at(Sigma=Sigma, lam=lam)
    slope = gaussian.outer.hypergradient(structure, n).at(U=optimum, Sigma=Sigma, lam=lam)
    np.testing.assert_allclose(slope, 0 * one, atol=1e-13)


REFUSED = {
    "estimators.baselines.matrix": [
        partial(estimators.baselines.matrix, p) for p in ("mean", "scale")
    ],
    "bounded.inner.log_expected_kernel": [bounded.inner.log_expected_kernel],
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("n", [4, 100, None])
def test_what_has_entries_only_says_which_sizes_and_why(name, n):
    for build in REFUSED[name]:
        with pytest.raises(StructureError, match=rf"{name} has n = 1, 2.*, not n = {n}: .*\w{{4}}"):
            build(n)


@pytest.mark.parametrize("n", [1, 4, None])
@pytest.mark.parametrize(
    "build",
    [
        partial(samples.choice.crossing, "diagonal, full"),
        partial(sequences.inner.solution, "Hamming"),
        sequences.outer.prefix_weights,
    ],
)
def test_what_starts_at_two_says_so(build, n):
    with pytest.raises(StructureError, match=rf"has n = 2, 3, not n = {n}: .*\w{{4}}"):
        build(n)


QUICK: list[tuple[Any, int]] = [
    (bounded.inner.slope, 100),
    (bounded.inner.critical_weight, 101),
    (bounded.inner.growth, 20),
    (bounded.inner.expected_reward, 20),
    (estimators.groups.minimum, 20),
    (estimators.groups.minimum_planar, 20),
    (categorical.inner.solution, 6),
    (categorical.outer.hypergradient, 6),
    (categorical.scalar.heuristic_scale, 12),
    (gaussian.temperature.beta_nll, 4),
    (gaussian.temperature.beta_nll, 50),
    (gaussian.temperature.faithful, 50),
    (forgetting.ties.natural, 8),
    (reference.group_deviation.variance, 8),
    (sequences.inner.soft_value, 20),
    (partial(samples.excess.expected, "full"), 20),
    *((partial(samples.excess.expected, "isotropic"), n) for n in (10, 12, 15)),
]


@pytest.mark.parametrize(("build", "n"), QUICK, ids=[f"{build}, {n}" for build, n in QUICK])
def test_what_grows_gently_stays_explicit(build, n):
    started = time.process_time()
    derivation = build(n)
    assert isinstance(derivation, Derivation)
    assert derivation.verify() is derivation
    assert time.process_time() - started < 2 * SECONDS


@pytest.mark.parametrize(
    ("build", "n"),
    [
        (categorical.outer.implicit_hypergradient, 200),
        (categorical.outer.concavity, 200),
        (categorical.near_uniform.scale, 200),
        (estimators.groups.minimum, 2000),
        (estimators.groups.minimum_planar, 100_000),
        (bounded.inner.expected_reward, 10**5),
        (gaussian.temperature.beta_nll, 200),
        (gaussian.temperature.faithful, 200),
        (partial(forgetting.razors.classes, "PG"), 400),
        (forgetting.ties.natural, 50),
        (reference.group_deviation.entropy_weight, 50),
        (sequences.inner.soft_value, 50),
    ],
)
def test_what_is_slow_says_so_before_it_starts(build, n):
    """The suite turns warnings into errors: nothing is derived here."""
    started = time.process_time()
    with pytest.raises(SlowDerivationWarning, match=r"longer than five seconds.*Ctrl-C") as caught:
        build(n)
    assert str(n) in str(caught.value)
    assert time.process_time() - started < SECONDS


def far(result: Result[...]) -> tuple[Any, int | None] | None:
    """A variant and a size beyond all that is quick; None where one form is for every size."""
    sized = "n" in signature(result).parameters
    variant = result.variants[0] if result.variants else None
    if isinstance(variant, int):
        return 10**6, result.sizes[0] if sized else None
    return (variant, 10**6) if sized and None not in result.sizes else None


UNBOUNDED = {result.address: result for result in DERIVATIONS if far(result) is not None}


@pytest.mark.parametrize("address", UNBOUNDED)
def test_no_size_is_without_an_end_unannounced(address):
    """What has no form for every size has an error, or says from where on it is slow."""
    result = UNBOUNDED[address]
    beyond = far(result)
    assert beyond is not None
    started = time.process_time()
    with pytest.raises((SlowDerivationWarning, StructureError)):
        result.of(*beyond)
    assert time.process_time() - started < 0.1


def test_an_interrupt_leaves_the_caches_usable():
    code = (
        "import signal, time, warnings; from analysis import categorical;"
        "from analysis.errors import SlowDerivationWarning;"
        "warnings.simplefilter('ignore', SlowDerivationWarning);"
        "signal.setitimer(signal.ITIMER_REAL, 1.0);"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "try:\n"
        "    categorical.outer.implicit_hypergradient(12)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', categorical.outer.implicit_hypergradient(2).verify().name)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert run.stdout.strip() == "stopped categorical.outer.implicit_hypergradient[n=2]"


@pytest.mark.parametrize("n", [0, -1, 2.5, "4", np.float64(7), np.nan])
def test_what_is_no_dimension_is_refused(n):
    for build in (
        partial(gaussian.inner.solution, "full"),
        partial(gaussian.outer.objective, "isotropic"),
        gaussian.divergences.kl,
        gaussian.misspecification.total_covariance,
        dynamics.outer_flow.covariance,
        hypergradients.functional.mean_adjoint,
        bounded.inner.slope,
    ):
        with pytest.raises(StructureError, match="is not a dimension; pass a positive integer"):
            build(n)
    with pytest.raises(StructureError, match="no number of classes"):
        categorical.outer.hypergradient("3")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("n", [1, 2, 3, 11, 12])
def test_no_two_symbols_print_alike(n):
    """One printed name stands for one quantity, among all quantities of a size."""
    meant: dict[str, Any] = {}
    for name in QUANTITIES:
        X = symbol(name, n)
        for place in np.ndindex(*getattr(X, "shape", ())):
            entry = X[place] if place else X
            if entry != 0:
                i, j = (*place, 0, 0)[:2]
                mirrored = QUANTITIES[name].domain in ("spd", "symmetric")
                where = (name, min(i, j), max(i, j)) if mirrored else (name, i, j)
                assert meant.setdefault(str(entry), where) == where
    assert "pi" not in meant  # that is the constant
