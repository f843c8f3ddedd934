"""The gate bites, continued: faults in what is learned from finitely many rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from analysis.samples import definitions
from paper_checks.conformance.strategies import make_problem
from solvers.bilevel import likelihood
from solvers.rewards import mahalanobis
from solvers.training import inner
from tests import planting
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import samples as identities

PROBLEM = make_problem(2, 7)
excess = partial(identities.excess, PROBLEM)
own_rows = partial(identities.learned_reward, identities.PLANE, "diagonal", held_out=False)
held_rows = partial(identities.learned_reward, identities.PLANE, "diagonal", held_out=True)
of_sample = partial(identities.optimal_reward_of_a_sample, PROBLEM)


def unbiased(right: Any) -> Any:
    """`(λ/2) S⁻¹` of a sample divided by N - 1 in place of N."""
    N = identities.ROWS
    return lambda S, lam, structure="full": right(S * N / (N - 1), lam, structure)


def marginals(right: Any) -> Any:
    """A full reward of the variances only."""
    return lambda S, lam, structure="full": right(
        S, lam, "diagonal" if structure == "full" else structure
    )


def doubled(right: Any) -> Any:
    """`λ U⁻¹` for `(λ/2) U⁻¹`."""
    return lambda reward, lam, mu, structure="full": right(reward, 2 * lam, mu, structure)


def on_own_rows(right: Any) -> Any:
    """An outer level that looks at the rows of the inner one, whatever is held out."""

    def faulty(*args: Any, **settings: Any) -> Any:
        return right(*args, **(settings | {"held_out": None}))

    return faulty


def halved(right: Any) -> Any:
    """Entropy of half the weight."""
    return lambda policy, reward, lam, data, **settings: right(
        policy, reward, lam / 2, data, **settings
    )


FAULTS: dict[str, Fault] = {
    "N - 1 for N in S": (mahalanobis, "optimal_reward", unbiased, partial(excess, "full")),
    "N - 1 for N in S, scalar": (
        mahalanobis,
        "optimal_reward",
        unbiased,
        partial(of_sample, "isotropic"),
    ),
    "correlations dropped": (mahalanobis, "optimal_reward", marginals, partial(of_sample, "full")),
    "λ for λ/2 in P*": (inner, "closed_form", doubled, partial(identities.plug_in, PROBLEM)),
    "λ for λ/2 in P*, scaled": (inner, "closed_form", doubled, partial(identities.scaled, PROBLEM)),
    "held-out rows ignored": (likelihood, "problem", on_own_rows, held_rows),
    "half the entropy": (likelihood, "problem", halved, own_rows),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)


@pytest.mark.parametrize("notices", [partial(excess, "full"), partial(identities.plug_in, PROBLEM)])
def test_a_wrong_law_of_the_sample_is_noticed(
    notices: partial[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One degree of freedom too many in every χ²."""

    def plant(right: Any) -> Any:
        return lambda f, A, nu: right(f, A, nu + 1)

    planting.check_noticed(monkeypatch, definitions, "expectation", plant, notices)
