"""Arms: their names, which random streams and published tables are keyed by, and what they are."""

from dataclasses import replace

import pandas as pd
import pytest

from paper_checks.experiments import (
    figure_1,
    figure_2,
    full_covariance,
    overshoot,
    table_3,
    table_3_methods,
    tables_1_2,
)
from paper_checks.experiments.arms import Arm, labels
from solvers.errors import InputError
from solvers.training.estimators import Analytic, ScoreFunction

COVARIANCE = {*full_covariance.PUBLISHED_ARMS, *full_covariance.CORRECTED_ARMS}
# Random streams have these names: with another one, a run draws other numbers.
NAMES: dict[str, tuple[tuple[Arm, ...], set[str]]] = {
    "figure 1": (
        figure_1.ARMS,
        {"MSE", "NLL", "PG(I)", "PG(U*)", "PG(U*), leave-one-out", "PG(U*), analytic"},
    ),
    "figure 2": (figure_2.ARMS, {"NLL", "PG(I)", "PG(U*)"}),
    "full covariance": (
        tuple(COVARIANCE),
        {"NLL", "PG(M)", "PG(U*)", "PG(U*), leave-one-out", "PG(U*), analytic"}
        | {"PG(ray)", "PG(isotropic)"},
    ),
    "overshoot": (overshoot.ARMS, {"PG(2β*)", "PG(β*)", "PG(u*)", "PG(diag)"}),
    "tables 1 and 2": (
        tables_1_2.ARMS,
        {"NLL", "PG(2β*)", "PG(β*)", "PG(u*)", "PG(diag)", "PG(learned)"},
    ),
    "table 3": (
        table_3.RANKED,
        {"MSE", "NLL", "PG(I)", "PG(implicit)", "PG(marginal scaled)", "PG(marginal full)"},
    ),
}


@pytest.mark.parametrize("experiment", NAMES)
def test_names_are_those_of_the_streams_and_tell_arms_apart(experiment) -> None:
    arms, names = NAMES[experiment]
    assert {*labels(arms)} == names
    assert len(arms) == len(names)
    assert [str(arm) for arm in arms] == [*labels(arms)]


@pytest.mark.parametrize(
    ("published", "arms"),
    [
        (figure_1.PUBLISHED, figure_1.AS_PUBLISHED.arms),
        (full_covariance.PUBLISHED, full_covariance.AS_PUBLISHED.arms),
        (tables_1_2.PUBLISHED, tables_1_2.AS_PUBLISHED.arms),
        (table_3.PUBLISHED, table_3.RANKED),
    ],
    ids=["figure 1", "full covariance", "tables 1 and 2", "table 3"],
)
def test_published_numbers_are_kept_by_the_same_names(published, arms) -> None:
    assert set(pd.read_csv(published, comment="#").arm) == {*labels(arms)}


def test_table_3_ranks_its_arms_by_the_published_errors() -> None:
    table = pd.read_csv(table_3.PUBLISHED, comment="#")
    medium = table[table.quality == "medium"].sort_values("rmse")
    assert tuple(medium.arm) == labels(table_3.RANKED)
    assert len({*table_3_methods.CONSTANT}) == len(table_3_methods.CONSTANT)


def test_an_estimator_is_the_arms_own_or_that_of_its_experiment() -> None:
    assert figure_1.PG_OPTIMAL.estimate(5, "none") == ScoreFunction(5, "none")
    assert figure_1.PG_OPTIMAL_LOO.estimate(5, "none") == ScoreFunction(5, "leave-one-out")
    assert figure_1.PG_OPTIMAL_ANALYTIC.estimate(5, "none") == Analytic()


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        (figure_1.CORRECTED, full_covariance.PG_RAY),
        (full_covariance.CORRECTED, figure_1.PG_OPTIMAL),  # of the same name as one of its own
        (tables_1_2.CORRECTED, figure_1.MSE),
    ],
    ids=["figure 1", "full covariance", "tables 1 and 2"],
)
def test_arms_of_other_experiments_are_refused_by_name(settings, other) -> None:
    with pytest.raises(InputError, match="arms has "):
        replace(settings, arms=(*settings.arms, other))
