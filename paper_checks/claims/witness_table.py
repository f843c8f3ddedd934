"""Which witness checks which entry of the catalogue, and how closely it must agree.

An entry goes by its name without the size, such as `outer.hypergradient/full`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from analysis.derivation import Derivation

from . import bounded_witnesses as bounded
from . import categorical_witnesses as categorical
from . import covariance_witnesses as covariances
from . import estimator_witnesses as estimators
from . import gaussian_witnesses as gaussian
from . import hypergradient_witnesses as hypergradients
from . import outer_witnesses as outer

Check = Callable[[Derivation, Any], float]  # at the kind of problem that `propositions` gives it

# Largest relative errors, by what limits the witness; problems have condition numbers to 1e3.
EXACT = 1e-7  # closed forms and Newton's method: 1e-10 times the condition number
SEARCH = 1e-6  # a search that stopped at a slope of 1e-8 to 1e-6
DIFFERENCES = 1e-5  # central differences with relative step 1e-4
INTEGRATED = 10 * outer.ODE  # errors of an integrator add up over its steps


@dataclass(frozen=True)
class Witness:
    """A numerical check of one result, and the largest relative error it may show."""

    check: Check
    tolerance: float


def _structured(check: Callable[..., float], tolerance: float, name: str) -> dict[str, Witness]:
    return {
        f"{name}/{structure}": Witness(partial(check, structure=structure), tolerance)
        for structure in ("full", "diagonal", "isotropic")
    }


def _estimators() -> dict[str, Witness]:
    """Witnesses of `analysis.estimators`, by what the gradient or the baseline is given."""
    found: dict[str, Witness] = {}
    for data in ("averaged", "sampled", "conditional"):
        checks = [estimators.optimal_baseline, estimators.minimal_variance]
        if data != "conditional":
            checks += [estimators.score_gradient, estimators.pathwise_variance]
        for check in checks:
            found[f"estimators.{check.__name__}/{data}"] = Witness(partial(check, data=data), EXACT)
    for parameter in ("mean", "scale"):
        check = partial(estimators.matrix_baseline, parameter=parameter)
        found[f"estimators.matrix_baseline/{parameter}"] = Witness(check, EXACT)
    for M in (2, 3, 5):
        check = partial(estimators.group_minimum_planar, generations=M)
        found[f"estimators.group_minimum_planar/M={M}"] = Witness(check, EXACT)
    return found | {
        "estimators.leave_one_out_variance/averaged": Witness(
            estimators.leave_one_out_variance, EXACT
        ),
        "estimators.group_mean": Witness(estimators.group_mean, EXACT),
        "estimators.group_minimum": Witness(estimators.group_minimum, EXACT),
    }


def _bounded() -> dict[str, Witness]:
    """Witnesses of `analysis.bounded_reward`."""
    checks = (
        bounded.log_expected_kernel,
        bounded.expected_reward,
        bounded.slope,
        bounded.peak_variance,
        bounded.critical_weight,
        bounded.reachable_weight,
        bounded.growth,
        bounded.inner_variance,
    )
    return {f"bounded_reward.{check.__name__}": Witness(check, SEARCH) for check in checks}


def _hypergradients() -> dict[str, Witness]:
    """Witnesses of `analysis.unrolled`, `analysis.penalty` and `analysis.functional`."""
    h = hypergradients
    unrolled = {
        f"unrolled.gaussian/{structure}": Witness(
            partial(h.unrolled_gaussian, structure=structure), EXACT
        )
        for structure in ("diagonal", "isotropic")
    }
    return unrolled | {
        "unrolled.hypergradient": Witness(partial(h.unrolled, earlier=0, last=5), EXACT),
        "unrolled.bias": Witness(partial(h.unrolled, earlier=0, last=5, bias=True), EXACT),
        "unrolled.truncated": Witness(partial(h.unrolled, earlier=3, last=2), EXACT),
        "unrolled.one_step": Witness(partial(h.unrolled, earlier=0, last=1), EXACT),
        "penalty.hypergradient": Witness(h.penalty, DIFFERENCES),
        "penalty.bias": Witness(partial(h.penalty, bias=True), DIFFERENCES),
        "penalty.bias_limit": Witness(h.penalty_limit, DIFFERENCES),
        "functional.mean_adjoint": Witness(
            partial(h.functional, structure="full", part="a"), EXACT
        ),
        **_structured(partial(h.functional, part="A"), EXACT, "functional.covariance_adjoint"),
        **_structured(partial(h.functional, part="∇F"), EXACT, "functional.hypergradient"),
        **_structured(h.functional_at_solution, DIFFERENCES, "functional.at_solution"),
        "functional.restricted_mean_gap": Witness(h.restricted_mean_gap, DIFFERENCES),
    }


def _categorical() -> dict[str, Witness]:
    """Witnesses of `analysis.categorical`.

    Newton's method finds policies; only a Gaussian policy on one-hot outcomes, where the published
    scale is best, comes from a search. Limits are extrapolated to 1e-9.
    """
    c = categorical
    checks = {
        EXACT: (
            c.inner_solution,
            c.gibbs_gap,
            c.scalar_solution,
            c.binary_logit,
            c.argmax_preserved,
            c.outer_objective,
            c.implicit_hypergradient,
            c.binary_scalar,
            c.binary_scalar_limit,
            c.near_uniform_scale,
            c.scalar_gap,
            c.binary_gap,
            c.diagonal_reward,
            c.score_gradient,
            c.optimal_baseline,
            c.minimal_variance,
        ),
        SEARCH: (
            c.heuristic_scale,
            c.heuristic_ratio,
            c.heuristic_gap,
            c.near_uniform_ratio,
            c.diagonal_reward_at_half,
        ),
        DIFFERENCES: (c.hypergradient, c.concavity, c.scalar_stationarity),
    }
    return {
        f"categorical.{check.__name__}": Witness(check, tolerance)
        for tolerance, group in checks.items()
        for check in group
    }


WITNESSES: dict[str, Witness] = {
    "gaussian.objective": Witness(gaussian.objective, EXACT),
    "gaussian.mean_gradient": Witness(gaussian.mean_gradient, EXACT),
    "gaussian.covariance_gradient": Witness(gaussian.covariance_gradient, EXACT),
    **_structured(gaussian.inner_solution, EXACT, "gaussian.inner_solution"),
    "gaussian.gibbs_gap": Witness(gaussian.gibbs_gap, EXACT),
    "divergences.kl": Witness(gaussian.kl, EXACT),
    "divergences.gaussian_cost": Witness(gaussian.gaussian_cost, EXACT),
    "divergences.reverse_kl": Witness(gaussian.reverse_kl, SEARCH),
    "log_det.log_det_gradient": Witness(gaussian.log_det_gradient, DIFFERENCES),
    **_structured(outer.objective, EXACT, "outer.objective"),
    **_structured(outer.hypergradient, DIFFERENCES, "outer.hypergradient"),
    **_structured(outer.implicit_hypergradient, EXACT, "outer.implicit_hypergradient"),
    **_structured(outer.optimal_reward, SEARCH, "outer.optimal_reward"),
    "outer.concavity": Witness(outer.concavity, DIFFERENCES),
    "outer.bilevel_solution": Witness(outer.bilevel_solution, SEARCH),
    "outer.optimal_scale": Witness(outer.optimal_scale, EXACT),
    "outer.ray_loss": Witness(outer.ray_loss, EXACT),
    "outer.rescaling_regret": Witness(outer.rescaling_regret, EXACT),
    "outer.flow": Witness(outer.flow, INTEGRATED),
    "outer.mean_field_shrinkage": Witness(outer.mean_field_shrinkage, SEARCH),
    "outer.mean_field_cost": Witness(outer.mean_field_cost, SEARCH),
    "misspecification.cost_of_covariance": Witness(covariances.cost_of_covariance, SEARCH),
    "misspecification.total_covariance": Witness(covariances.total_covariance, EXACT),
    "misspecification.effective_covariance": Witness(covariances.effective_covariance, EXACT),
    "misspecification.conditional_gain": Witness(covariances.conditional_gain, EXACT),
    "misspecification.restricted_mean_hypergradient": Witness(
        covariances.restricted_mean_hypergradient, DIFFERENCES
    ),
    "misspecification.two_maxima": Witness(covariances.two_maxima, DIFFERENCES),
    **_estimators(),
    **_bounded(),
    **_hypergradients(),
    **_categorical(),
}
