"""The gate bites, continued: faults planted in rewards between classes and in their solvers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from paper_checks.conformance.class_problems import make_class_problem
from solvers.bilevel import loop
from solvers.data import LabelledData
from solvers.families import categorical as family
from solvers.families.categorical import Categorical
from solvers.rewards import between_classes
from solvers.rewards.between_classes import ClassReward
from solvers.training.objectives import NLL
from tests.faults import check_noticed
from tests.gate.identities import categorical, categorical_scales, categorical_training

PROBLEM, BINARY = make_class_problem(C=3, seed=2), make_class_problem(C=2, seed=2)
Plant = Callable[[Any], Any]


def at(identity: Callable[..., None], *args: Any) -> partial[None]:
    """Return the identity at the one problem of three classes used here."""
    return partial(identity, PROBLEM, *args)


def negated(right: Any) -> Any:
    """The Gibbs law of `-r`."""
    return lambda reward, lam, pi: right(ClassReward(-reward.table), lam, pi)


def doubled(right: Any) -> Any:
    """The Gibbs law of `2r`."""
    return lambda reward, lam, pi: right(ClassReward(2 * reward.table), lam, pi)


def own_weight_forgotten(right: Any) -> Any:
    """`2U_ck - U_kk`."""
    return staticmethod(lambda U: ClassReward(2 * U - U.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)))


def off_diagonal_once(right: Any) -> Any:
    """`U_ck` for `2U_ck` where the classes differ."""
    wrong = right.__get__(None, ClassReward)
    return staticmethod(
        lambda U: wrong((U + torch.diag_embed(U.diagonal(dim1=-2, dim2=-1))) / 2)
    )  # fmt: skip


def axes_swapped(right: Any) -> Any:
    """`Σ_k π_k r(k, c)`."""
    return lambda self, pi: right(
        ClassReward(self.table.mT) if self.table.shape[-1] > 1 else self, pi
    )


def minus_one(right: Any) -> Any:
    """`π_c - 1` for `2π_c - 1`."""
    return lambda pi, lam: right(pi, lam) * (2 * pi - 1) / (pi - 1)


def single_precision(right: Any) -> Any:
    """A bisection that ends after 24 bits."""
    return lambda pi, lam: right(pi, lam).float().double()


def baseline(name: Any) -> Plant:
    """The estimator with another baseline."""
    return lambda right: lambda p, r, share, M, _: right(p, r, share, M, name)


def summed(right: Any) -> Any:
    """The sum over generations for the mean."""
    return lambda p, r, share, M, name: M * right(p, r, share, M, name)


def first_input_only(right: Any) -> Any:
    """The likelihood of the first input for the mean of all."""

    def faulty(self: Any, law: Categorical, data: LabelledData, noise: Any = None) -> Tensor:
        return law.cross_entropy(data)[..., 0]

    return faulty


def half_of_the_likelihood(right: Any) -> Any:
    """A hypergradient without the pull of the first logit."""

    def faulty(J: Any, F: Any, theta: Any, phi: Any, **options: Any) -> Any:
        fixed = theta["z"].detach().clone()

        def held(at: Any, phi: Any) -> Tensor:
            z = torch.cat([fixed[:, :1], at["z"][:, 1:]], -1)
            return F({"z": z}, phi)

        return right(J, held, theta, phi, **options)

    return faulty


def no_entropy(right: Any) -> Any:
    """A `J` without its entropy."""
    return lambda self: 0 * right(self)


inner, gap = at(categorical.inner_solution, "full"), at(categorical.gibbs_gap, "full")
outer, slope = at(categorical.outer_objective), at(categorical.hypergradient, "dense")
learnt = partial(categorical_training.learns_the_best_reward, PROBLEM)
FAULTS: dict[str, tuple[Any, str, Plant, partial[None], str]] = {
    "sign in the Gibbs law": (between_classes, "gibbs", negated, inner, "Gibbs law p*, full"),
    "factor 2 in the Gibbs law": (between_classes, "gibbs", doubled, inner, "Gibbs law p*, full"),
    "factor 2 in the Gibbs law, by the gap": (
        between_classes, "gibbs", doubled, gap, "J(p*) - J(p)",
    ),
    "factor 2 in the Gibbs law, by F": (between_classes, "gibbs", doubled, outer, "F(U)"),
    "factor 2 in the Gibbs law, by F''": (
        between_classes, "gibbs", doubled, at(categorical.concavity), "d²F along H",
    ),
    "λ halved, by the cost of a scalar": (
        between_classes, "gibbs", doubled, at(categorical_scales.scalar_cost), "KL(π ‖ p*) at u",
    ),
    "λ halved, by the order": (
        between_classes, "gibbs", doubled, at(categorical_scales.keeps_the_order),
        "log p*(a)/p*(b)",
    ),
    "U_cc forgotten": (ClassReward, "mahalanobis", own_weight_forgotten, inner, "Gibbs law p*"),
    "U_cc forgotten, by ∇F": (ClassReward, "mahalanobis", own_weight_forgotten, slope, "∇_U F"),
    "off-diagonal counted once": (ClassReward, "mahalanobis", off_diagonal_once, inner, "p*, full"),
    "off-diagonal counted once, by r̄": (
        ClassReward, "mahalanobis", off_diagonal_once, at(categorical.expected_reward),
        "r̄ of a Mahalanobis reward",
    ),
    "axes of the reward swapped": (
        ClassReward, "by_class", axes_swapped, at(categorical.expected_reward), "r̄ of any reward",
    ),
    "axes of the reward swapped, by ∇J": (
        ClassReward, "by_class", axes_swapped, at(categorical_training.exact_gradient), "exact ∇J",
    ),
    "entropy dropped": (Categorical, "entropy", no_entropy, gap, "J(p*) - J(p), full"),
    "entropy dropped, by ∇J": (
        Categorical, "entropy", no_entropy, at(categorical_training.exact_gradient), "exact ∇J",
    ),
    "2 dropped from 2π - 1": (
        between_classes, "exact_diagonal", minus_one,
        at(categorical_scales.diagonal_reaches_the_data), "diagonal reward u: p* = π",
    ),
    "2 dropped from 2π - 1, by training": (
        between_classes, "exact_diagonal", minus_one,
        at(categorical_scales.training_with_the_diagonal), "diagonal reward: p = π",
    ),
    "C dropped from the heuristic": (
        between_classes, "heuristic_scale", lambda right: lambda pi, lam: right(pi, lam) / 3,
        at(categorical_scales.heuristic), "heuristic scale β*",
    ),
    "heuristic halved, by the ratio": (
        between_classes, "heuristic_scale", lambda right: lambda pi, lam: right(pi, lam) / 2,
        partial(categorical_scales.heuristic_is_twice_too_sharp, BINARY), "u*/β*, two classes",
    ),
    "heuristic halved, by its cost": (
        between_classes, "heuristic_scale", lambda right: lambda pi, lam: right(pi, lam) / 2,
        partial(categorical_scales.scalar_cost, BINARY), "KL(π ‖ p*) at β*, heuristic_gap",
    ),
    "bisection stopped early": (
        between_classes, "exact_scale", single_precision,
        at(categorical_scales.best_scale), "exact scale u*, inputs: 1: dF/du = 0",
    ),
    "bisection stopped early, two classes": (
        between_classes, "exact_scale", single_precision,
        partial(categorical_scales.best_scale, BINARY), "exact scale u*",
    ),
    "leave-one-out factor dropped": (
        family, "_slopes", baseline("mean"),
        at(categorical_training.expected_estimate, "leave-one-out", 2), "∇E r, leave-one-out",
    ),
    "rewards not divided by their deviation": (
        family, "_slopes", baseline("mean"),
        at(categorical_training.expected_estimate, "standardised", 2), "∇E r, standardised",
    ),
    "leave-one-out factor dropped, sampled": (
        family, "_slopes", baseline("mean"),
        at(categorical_training.sampled_estimate, 2, 0), "E ∇E r, leave-one-out",
    ),
    "sum for mean": (
        family, "_slopes", summed,
        at(categorical_training.expected_estimate, "none", 2), "∇E r, none",
    ),
    "minimum for none": (
        family, "_slopes", baseline("minimum"),
        at(categorical_training.expected_estimate, "none", 2), "∇E r, none",
    ),
    "none for minimum": (
        family, "_slopes", baseline("none"),
        at(categorical_training.expected_estimate, "minimum", 2), "∇E r, minimum",
    ),
    "no baseline for the optimal one": (
        family, "_slopes", baseline("none"),
        at(categorical_training.optimal_baseline), "optimal baseline b*",
    ),
    "one input for the mean of two": (
        NLL, "__call__", first_input_only, partial(learnt, "outcome", 1),
        "bilevel solution, outcome",
    ),
    "hypergradient without the first logit": (
        loop, "implicit", half_of_the_likelihood, partial(learnt, "full", 1),
        "bilevel solution, full",
    ),
    "exact scale doubled, by learning": (
        between_classes, "exact_scale", lambda right: lambda pi, lam: 2 * right(pi, lam),
        partial(learnt, "scalar", 1), "bilevel solution, scalar: u = u*",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, plant, notices, identity = FAULTS[name]
    fails = f"{re.escape(identity)}.* fails"
    check_noticed(monkeypatch, owner, attribute, plant, notices, fails)
