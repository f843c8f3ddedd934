"""The gate bites, continued: faults in hypergradients through sampled objectives."""

from functools import partial
from typing import Any

import pytest

from analysis import definitions
from paper_checks.conformance.strategies import make_problem
from solvers.families import gaussian
from solvers.hypergradients import implicit
from solvers.numerics import linear_solve
from solvers.numerics.linear_solve import Solve
from tests import planting
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import surrogates as identities

PLANE, SCALAR = make_problem(2, 7), make_problem(1, 7)
moving = partial(identities.moving_samples, PLANE, "diagonal")
held = partial(identities.held_samples, SCALAR)


def negated(right: Any) -> Any:
    """The hypergradient turned round, as published."""

    def faulty(A: Any, b: Any) -> Solve:
        found = right(A, b)
        return Solve(-found.x, found.residual, found.iterations, found.curvature)

    return faulty


def squared(right: Any) -> Any:
    """`m + S²ε` for `m + Sε`."""

    def faulty(law: Any, data: Any, M: int, noise: Any) -> Any:
        return right(gaussian.Gaussian(law.mean, law.scale.square()), data, M, noise)

    return faulty


def doubled(right: Any) -> Any:
    return lambda *given: 2 * right(*given)


FAULTS: dict[str, Fault] = {
    "negated, pathwise": (linear_solve, "dense", negated, moving),
    "negated, held": (linear_solve, "dense", negated, held),
    "pathwise samples of another width": (gaussian, "draw_deviations", squared, moving),
    "curvature not looked at": (implicit, "doubts", lambda _: lambda *of: [], held),
    "strict does not refuse": (
        implicit,
        "judged",
        lambda right: lambda found, reasons, *, strict: right(found, reasons, strict=False),
        held,
    ),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)


def test_a_wrong_derivation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    planting.check_noticed(monkeypatch, definitions, "log_density", doubled, held)
