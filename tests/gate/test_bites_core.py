"""The gate bites, continued: faults of the solvers' core, planted here."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.hypergradients import implicit, unrolled
from solvers.hypergradients.implicit import HypergradientWarning
from solvers.numerics import linear_solve, minimise, trees
from tests.solvers import (
    test_convergence,
    test_damping,
    test_layouts,
    test_returned_values,
    test_scaling,
)


def naive_norm(v: Tensor) -> float:
    """The norm that squares what it is given."""
    return float(v.detach().norm())


def absolute(right: Any) -> Any:
    """Newton steps that take a gradient below 1e-8 for 0."""

    def faulty(*args: Any, **options: Any) -> Any:
        return right(*args, **options | {"enough": 1e-8})

    return faulty


def never_a_saddle(right: Any) -> Any:
    return lambda point, evaluations: minimise.Stop(True, 0.0, evaluations, 0.0, "at rest")


def thawed(right: Any) -> Any:
    """Frozen leaves come back as plain tensors."""
    return lambda leaf, values: leaf.detach()


def first_damping(right: Any) -> Any:
    """A damping that is raised once at most."""

    def faulty(by_cg: Any, tolerance: float) -> Any:
        solve = by_cg(0.0)
        damping = 0.0 if solve.curvature > 0 else 1e-3
        return by_cg(damping), damping

    return faulty


FAULTS: dict[str, tuple[Any, str, Callable[[Any], Any], Callable[[], None]]] = {
    "norms that underflow": (
        linear_solve, "norm", lambda right: naive_norm,
        lambda: test_scaling.scales("cg", 0, torch.float64, 1.0, 1e-170),
    ),
    "norms that overflow": (
        linear_solve, "norm", lambda right: naive_norm,
        lambda: test_scaling.scales("dense", 0, torch.float32, 1.0, 1e25),
    ),
    "shares that underflow": (
        unrolled, "share", lambda right: lambda a, b: naive_norm(a) / max(naive_norm(b), 1e-300),
        lambda: test_scaling.scales("unrolled", 0, torch.float64, 1.0, 1e-170),
    ),
    "an absolute gradient": (
        minimise, "newton", absolute,
        lambda: test_convergence.test_a_policy_trained_with_any_entropy_weight(
            test_convergence.inner.gradient, 1e-9),
    ),
    "a saddle for a solution": (
        minimise, "_at_rest", never_a_saddle,
        lambda: test_convergence.test_a_saddle_is_no_solution(3),
    ),
    "frozen leaves thawed on the way": (
        trees, "_held", thawed,
        lambda: test_layouts.test_frozen_leaves_stay_bit_for_bit("a frozen leaf first", True),
    ),
    "too little damping": (
        implicit, "_raised", first_damping,
        lambda: test_damping.doubted(
            "cg", 0, 2.0),
    ),
    "an objective not looked at": (
        implicit, "finite_number", lambda right: lambda name, value, where: value,
        lambda: test_returned_values.test_an_outer_objective("implicit", "shape (3,)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, plant, notices = FAULTS[name]
    notices()
    monkeypatch.setattr(owner, attribute, plant(vars(owner)[attribute]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        # also as an error of strict=True, or a raw one where a typed one was promised
        with pytest.raises((AssertionError, RuntimeError)):
            notices()
