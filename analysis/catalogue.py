"""Every derivation of the package, by name, none of them built before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from analysis import divergences, gaussian, misspecification, outer
from analysis.derivation import Derivation
from analysis.gaussian import label
from analysis.log_det import log_det_gradient
from analysis.symbols import STRUCTURES

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
}
_EXPLICIT = {
    "log_det.log_det_gradient": log_det_gradient,
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
}


def catalogue() -> tuple[Entry, ...]:
    """All derivations: n = 1, 2, 3, and general n where it exists."""
    entries: list[Entry] = []
    for n in SIZES:
        for name, function in _STRUCTURED.items():
            entries += [Entry(label(name, n, s), partial(function, s, n)) for s in STRUCTURES]
        entries += [
            Entry(
                label("outer.implicit_hypergradient", n, s),
                partial(outer.implicit_hypergradient, s, n),
            )
            for s in STRUCTURES
        ]
        entries += [Entry(label(name, n), partial(f, n)) for name, f in _GENERAL.items()]
        entries += [Entry(label(name, n), partial(f, n)) for name, f in _EXPLICIT.items()]
    entries += [
        Entry(label(name, None, "full"), partial(f, "full", None))
        for name, f in _STRUCTURED.items()
    ]
    entries += [Entry(label(name, None), partial(f, None)) for name, f in _GENERAL.items()]
    entries.append(Entry("misspecification.two_maxima[n=2]", misspecification.two_maxima))
    return tuple(entries)
