"""The gate bites: each fault planted in a solver makes an identity fail that holds without it.

Faults in the stated and derived formulas are planted in `tests/analysis/test_bites.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from paper_checks.conformance.strategies import Sizes, make_problem
from solvers.data import TwoMoments
from solvers.families import gaussian
from solvers.families.baselines import GroupBaseline, advantage
from solvers.families.gaussian import Gaussian
from solvers.rewards import mahalanobis
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner as inner_solvers
from solvers.training.estimators import Analytic
from solvers.training.objectives import PolicyGradient
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import inner, outer, policy_gradients

PROBLEM = make_problem(n=2, seed=7)
SIZES = Sizes(members=2, rows=3, samples=4, generations=5, inputs=1, n=2)


def at(identity: Callable[..., None], *args: Any) -> partial[None]:
    """Return the identity at the one problem used here."""
    return partial(identity, PROBLEM, *args)


def by_definition(baseline: Any, full: bool) -> partial[None]:
    """Return the comparison of a sampled gradient with REINFORCE."""
    return partial(policy_gradients.score_gradient_by_definition, SIZES, baseline, full, 3)


def without_policy_spread(right: Any) -> Any:
    """`E r` without `Tr(UP)`."""
    return lambda self, law, q: right(self, Gaussian(law.mean, 1e-200 * law.scale), q)


def mean_for(name: str) -> Any:
    """The group's mean alone, where another baseline is asked for."""
    return lambda right: lambda r, baseline: right(r, "mean" if baseline == name else baseline)


def transposed_scores(right: Any) -> Any:
    """The score of the scale, transposed."""

    def faulty(*args: Any) -> tuple[Tensor, Tensor]:
        mean, scale = right(*args)
        return mean, scale.mT

    return faulty


def doubled_lam_in_optimal_reward(right: Any) -> Any:
    """`λ Σ⁻¹` for `(λ/2) Σ⁻¹`."""
    return lambda Sigma, lam, structure="full": right(Sigma, 2 * lam, structure)


def doubled_lam_in_closed_form(right: Any) -> Any:
    """`λ U⁻¹` for `(λ/2) U⁻¹`."""
    return lambda reward, lam, mu, structure="full": right(reward, 2 * lam, mu, structure)


STRUCTURES = ("isotropic", "diagonal", "full")
FAULTS: dict[str, Fault] = {
    **{
        f"λ for λ/2 in U*, {notices.func.__name__}{notices.args[1:]}": (
            mahalanobis,
            "optimal_reward",
            doubled_lam_in_optimal_reward,
            notices,
        )
        for notices in (
            *(at(outer.optimal_reward, structure) for structure in STRUCTURES),
            at(inner.reverse_kl),
            at(outer.bilevel_is_maximum_likelihood),
            at(outer.mean_field),
        )
    },
    **{
        f"λ for λ/2 in P*, {identity.__name__}, {structure}": (
            inner_solvers,
            "closed_form",
            doubled_lam_in_closed_form,
            at(identity, structure),
        )
        for structure in STRUCTURES
        for identity in (
            inner.inner_solution,
            inner.inner_solution_by_search,
            outer.outer_objective,
            outer.hypergradient,
        )
    },
    "λ for λ/2 in c*": (
        mahalanobis,
        "optimal_scale",
        lambda right: lambda M, Sigma, lam: right(M, Sigma, 2 * lam),
        at(outer.ray),
    ),
    "n forgotten in c*": (
        mahalanobis,
        "optimal_scale",
        lambda right: lambda M, Sigma, lam: right(M, Sigma, lam) / M.shape[-1],
        at(outer.ray),
    ),
    "sign of the expected reward": (
        MahalanobisReward,
        "expected",
        lambda right: lambda *args: -right(*args),
        at(inner.inner_objective),
    ),
    "Tr(UP) dropped from the expected reward": (
        MahalanobisReward,
        "expected",
        without_policy_spread,
        at(policy_gradients.analytic_gradient),
    ),
    "C e for Cᵀe in the reward": (
        MahalanobisReward,
        "quadratic",
        lambda right: lambda self, e: right(MahalanobisReward(self.cholesky.mT, check=False), e),
        at(inner.inner_objective),
    ),
    "C e for Cᵀe in the sampled reward": (
        MahalanobisReward,
        "quadratic",
        lambda right: lambda self, e: right(MahalanobisReward(self.cholesky.mT, check=False), e),
        by_definition("none", True),
    ),
    "entropy doubled": (
        Gaussian,
        "entropy",
        lambda right: lambda self: 2 * right(self),
        at(inner.inner_objective),
    ),
    "log det P for ½ log det P in the entropy": (
        Gaussian,
        "log_det_scale",
        lambda right: lambda self: 2 * right(self),
        at(policy_gradients.analytic_gradient),
    ),
    "log det P for ½ log det P in the likelihood": (
        Gaussian,
        "log_det_scale",
        lambda right: lambda self: 2 * right(self),
        at(outer.outer_objective, "full"),
    ),
    "Tr(P⁻¹Σ) dropped from the likelihood": (
        Gaussian,
        "cross_entropy",
        lambda right: lambda self, q: right(self, TwoMoments(q.mean, 0 * q.covariance)),
        at(outer.hypergradient, "full"),
    ),
    **{
        f"leave-one-out factor dropped, {notices.func.__name__}": (
            gaussian,
            "advantage",
            mean_for("leave-one-out"),
            notices,
        )
        for notices in (
            at(policy_gradients.expected_score_gradient, 2, "leave-one-out"),
            at(policy_gradients.sampled_score_gradient, 3, "leave-one-out", 0),
            by_definition("leave-one-out", False),
        )
    },
    **{
        f"rewards not divided by their deviation, {notices.func.__name__}": (
            gaussian,
            "advantage",
            mean_for("standardised"),
            notices,
        )
        for notices in (
            partial(policy_gradients.standardised_slope, 2, 3.0, 0),
            by_definition("standardised", True),
        )
    },
    "published minimum for leave-one-out": (
        gaussian,
        "advantage",
        lambda right: lambda r, baseline: right(r, "minimum"),
        at(policy_gradients.sampled_score_gradient, 4, "leave-one-out", 0),
    ),
    "sum for mean over generations": (
        gaussian,
        "_scores",
        lambda right: (
            lambda law, data, reward, M, *rest: tuple(
                M * score for score in right(law, data, reward, M, *rest)
            )
        ),
        at(policy_gradients.expected_score_gradient, 3, "none"),
    ),
    "score of the scale transposed": (
        gaussian,
        "_scores",
        transposed_scores,
        by_definition("none", True),
    ),
    "reward counted twice by the analytic estimator": (
        Analytic,
        "__call__",
        lambda right: lambda *args: 2 * right(*args),
        at(policy_gradients.analytic_gradient),
    ),
    "loss for gain": (
        PolicyGradient,
        "__call__",
        lambda right: lambda *args: -right(*args),
        at(inner.inner_objective),
    ),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS, r"fails|stationarity")


def test_every_sampled_baseline_is_told_apart() -> None:
    """No two baselines give the same advantages, so that swapping them cannot go unnoticed."""
    rewards_ = torch.tensor([-3.0, -1.0, -0.5], dtype=torch.float64)
    names = get_args(GroupBaseline)
    values = [advantage(rewards_, name) for name in names]
    for i, one in enumerate(values):
        for other in values[:i]:
            assert not torch.allclose(one, other)
