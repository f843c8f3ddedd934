"""Every derivation of the package, by name, none of them built before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import (
    bounded_reward,
    categorical,
    divergences,
    estimators,
    functional,
    gaussian,
    misspecification,
    outer,
    penalty,
    unrolled,
)
from .derivation import Derivation
from .gaussian import label
from .log_det import log_det_gradient
from .symbols import STRUCTURES

SIZES = (1, 2, 3)


@dataclass(frozen=True)
class Entry:
    """A derivation's name and the function that builds it (once: builds are cached)."""

    name: str
    build: Callable[[], Derivation]


_STRUCTURED = {
    "gaussian.inner_solution": gaussian.inner_solution,
    "outer.objective": outer.objective,
    "outer.hypergradient": outer.hypergradient,
    "outer.optimal_reward": outer.optimal_reward,
    "outer.implicit_hypergradient": outer.implicit_hypergradient,
    "functional.covariance_adjoint": functional.covariance_adjoint,
    "functional.hypergradient": functional.hypergradient,
    "functional.at_solution": functional.at_solution,
}
_GENERAL = {
    "gaussian.objective": gaussian.objective,
    "gaussian.mean_gradient": gaussian.mean_gradient,
    "gaussian.covariance_gradient": gaussian.covariance_gradient,
    "gaussian.gibbs_gap": gaussian.gibbs_gap,
    "outer.bilevel_solution": outer.bilevel_solution,
    "outer.concavity": outer.concavity,
    "divergences.kl": divergences.kl,
    "divergences.gaussian_cost": divergences.gaussian_cost,
    "divergences.reverse_kl": divergences.reverse_kl,
    "misspecification.cost_of_covariance": misspecification.cost_of_covariance,
    "outer.optimal_scale": outer.optimal_scale,
    "outer.ray_loss": outer.ray_loss,
    "outer.rescaling_regret": outer.rescaling_regret,
    "outer.flow": outer.flow,
    "outer.mean_field_shrinkage": outer.mean_field_shrinkage,
    "outer.mean_field_cost": outer.mean_field_cost,
    "misspecification.total_covariance": misspecification.total_covariance,
    "misspecification.effective_covariance": misspecification.effective_covariance,
    "misspecification.conditional_gain": misspecification.conditional_gain,
    "misspecification.restricted_mean_hypergradient": (
        misspecification.restricted_mean_hypergradient
    ),
    "log_det.log_det_gradient": log_det_gradient,
    "functional.mean_adjoint": functional.mean_adjoint,
    "functional.restricted_mean_gap": functional.restricted_mean_gap,
}
_DIMENSIONAL = {  # n is an argument of its own in general: no matrix shows it
    "bounded_reward.slope": bounded_reward.slope,
    "bounded_reward.peak_variance": bounded_reward.peak_variance,
    "bounded_reward.critical_weight": bounded_reward.critical_weight,
    "bounded_reward.reachable_weight": bounded_reward.reachable_weight,
}


def catalogue() -> tuple[Entry, ...]:
    """All derivations: n = 1, 2, 3, and general n where it exists; n = 2, 3, 4 classes."""
    entries: list[Entry] = []
    for n in (*SIZES, None):
        for name, function in _STRUCTURED.items():
            entries += [Entry(label(name, n, s), partial(function, s, n)) for s in STRUCTURES]
        entries += [Entry(label(name, n), partial(f, n)) for name, f in _GENERAL.items()]
    entries.append(Entry("misspecification.two_maxima[n=2]", misspecification.two_maxima))
    return (*entries, *_estimators(), *_bounded_rewards(), *_unrolled(), *_categorical())


def _estimators() -> list[Entry]:
    e, name = estimators, "estimators."
    entries: list[Entry] = []
    for data in ("averaged", "sampled"):
        for function in (e.score_gradient, e.pathwise_variance):
            title = label(name + function.__name__, 1, data)
            entries.append(Entry(title, partial(function, data)))
    for kind in ("averaged", "sampled", "conditional"):
        for function in (e.optimal_baseline, e.minimal_variance):
            title = label(name + function.__name__, 1, kind)
            entries.append(Entry(title, partial(function, kind)))
    entries.append(
        Entry(label(f"{name}leave_one_out_variance", 1, "averaged"), e.leave_one_out_variance)
    )
    for n in SIZES:
        for parameter in ("mean", "scale"):
            title = label(f"{name}matrix_baseline", n, parameter)
            entries.append(Entry(title, partial(e.matrix_baseline, parameter, n)))
        entries.append(Entry(label(f"{name}group_minimum", n), partial(e.group_minimum, n)))
    entries.append(Entry(label(f"{name}group_mean", 1), e.group_mean))
    for M in (2, 3, 5):
        title = f"{name}group_minimum_planar[M={M}, n=2]"
        entries.append(Entry(title, partial(e.group_minimum_planar, M)))
    return entries


def _bounded_rewards() -> list[Entry]:
    b, name = bounded_reward, "bounded_reward."
    kernel, general = b.log_expected_kernel, (*SIZES, None)
    entries = [Entry(label(f"{name}log_expected_kernel", n), partial(kernel, n)) for n in (1, 2)]
    entries += [
        Entry(label(title, n), partial(f, n)) for title, f in _DIMENSIONAL.items() for n in general
    ]
    for n in SIZES:
        entries.append(Entry(label(f"{name}expected_reward", n), partial(b.expected_reward, n)))
        entries.append(Entry(label(f"{name}growth", n), partial(b.growth, n)))
    return [*entries, Entry(f"{name}inner_variance[n=2]", b.inner_variance)]


def _unrolled() -> list[Entry]:
    u, p = unrolled, penalty
    entries = [
        Entry(f"unrolled.{function.__name__}", function)
        for function in (u.hypergradient, u.bias, u.truncated, u.one_step)
    ]
    for n in (*SIZES, None):
        for structure in ("diagonal", "isotropic"):
            title = label("unrolled.gaussian", n, structure)
            entries.append(Entry(title, partial(u.gaussian, structure, n)))
    return entries + [
        Entry(f"penalty.{function.__name__}", function)
        for function in (p.hypergradient, p.bias, p.bias_limit)
    ]


def _categorical() -> list[Entry]:
    """n is the number of classes, which is the dimension of one-hot outcomes."""
    c, name = categorical, "categorical."
    binary = (c.binary_logit, c.binary_scalar, c.binary_scalar_limit)
    gaps = (c.heuristic_ratio, c.binary_gap, c.heuristic_gap)
    entries = [Entry(label(f"{name}{f.__name__}", 2), f) for f in (*binary, *gaps)]
    entries.append(Entry(f"{name}diagonal_reward_at_half", c.diagonal_reward_at_half))
    sizes = {
        (2, 3, 4): (
            c.inner_solution,
            c.gibbs_gap,
            c.outer_objective,
            c.hypergradient,
            c.implicit_hypergradient,
            c.concavity,
            c.scalar_solution,
            c.argmax_preserved,
            c.scalar_stationarity,
            c.heuristic_scale,
            c.scalar_gap,
            c.diagonal_reward,
            c.score_gradient,
            c.optimal_baseline,
        ),
        (2, 3): (c.near_uniform_scale, c.near_uniform_ratio),
        (3, 4): (c.minimal_variance,),  # it is 0 for two classes
    }
    for numbers, functions in sizes.items():
        for f in functions:
            entries += [Entry(label(f"{name}{f.__name__}", n), partial(f, n)) for n in numbers]
    return entries
