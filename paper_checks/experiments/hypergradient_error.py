"""How wrong a hypergradient is, for what it costs and for how well one has trained.

Every method is stopped early, given a finite penalty, or started at a point that is not
stationary, on problems whose hypergradient has a closed form: quadratics of several condition
numbers κ and the paper's Gaussian problem. Its error is compared with the rate of the theory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

import pandas as pd

from solvers.engine import one_thread_per_job
from solvers.hypergradients.implicit import Hypergradient, Method, implicit, unwarned
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, one_step, unrolled
from solvers.numerics.trees import Leaves, flat
from solvers.training import streams

from . import Progress
from .hypergradient_cases import Case, gaussian, quadratic

Linear = Literal["CG", "Nyström-CG", "Neumann series"]
# Of ∂_θF: what is left of the force on θ_σ where its search converged, and of the right side of a
# linear system that is solved.
FORCE, RESIDUAL = 1e-6, 1e-10
LINEAR: dict[Linear, Method] = {
    "CG": "cg",
    "Nyström-CG": "nystrom-cg",
    "Neumann series": "neumann",
}


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        conditions: condition numbers κ of the quadratics, whose largest curvature is 1.
        size: inner variables of the quadratics.
        outer_size: their outer variables.
        gap: ratio of their second smallest curvature to the smallest.
        rows: inputs of the Gaussian problem, one outcome each.
        lam: its entropy weight.
        products: iterations of linear solvers, and steps differentiated.
        rank: of the Nyström sketch.
        warm: how far the warm start is from the inner solution, relative to that and at random.
        weights: of the penalty.
        inner_errors: distances from the inner solution, relative to its norm.
        directions: random points at each such distance, and as many as gradient ascent leaves.
    """

    conditions: tuple[float, ...] = (10.0, 1000.0)
    size: int = 100
    outer_size: int = 5
    gap: float = 3.0
    rows: int = 50
    lam: float = 0.5
    products: tuple[int, ...] = (*range(1, 16), *range(16, 49, 4), *range(60, 121, 12))
    rank: int = 20
    warm: float = 0.01
    weights: tuple[float, ...] = tuple(10 ** (k / 2) for k in range(-2, 17))
    inner_errors: tuple[float, ...] = tuple(10 ** (k / 2) for k in range(-8, 0))
    directions: int = 20


QUICK = Settings(
    products=(1, 2, 4, 8, 16, 32, 64, 128),
    weights=tuple(10.0**k for k in range(-1, 9, 2)),
    inner_errors=tuple(10.0**k for k in range(-4, 0)),
    directions=5,
)


def cases(settings: Settings, seed: int) -> list[Case]:
    """Return the problems of a seed."""
    size, outer_size, gap = settings.size, settings.outer_size, settings.gap
    quadratics = [quadratic(size, outer_size, kappa, gap, seed) for kappa in settings.conditions]
    return [*quadratics, gaussian(settings.rows, settings.lam, seed)]


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Compute the hypergradient of every problem by every method, and return how wrong each is.

    Args:
        settings: problems, and how far to go.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per hypergradient: `problem`, and its `label`; `sweep`, what was varied ("cost",
        "penalty", "inner error"); `method`; `setting`, the value of that; `cost`, Hessian-vector
        products or steps differentiated (penalty: evaluations); the relative `error`, and the
        `predicted` one, missing where there is no closed form; `estimate`, stationarity over
        curvature relative to `‖θ‖`: how far the solver reckons to be from the inner solution; and
        whether it `warned`. The rows of an inner error have a `direction`. `converged` is whether
        the search for the penalty's inner point did, or the linear system at an inner error; it is
        missing where the cost is varied.
    """
    rows: list[dict[str, object]] = []
    problems = cases(settings, seed)
    with one_thread_per_job():  # the problems are small: more threads slow them down
        for done, case in enumerate(problems):
            rows += _costs(settings, case, seed)
            rows += _penalties(settings, case)
            rows += _inner_errors(settings, case, seed)
            if progress is not None:
                progress("hypergradients", done + 1, len(problems))
    return pd.DataFrame(rows).astype({"converged": "boolean"})


def _row(
    case: Case,
    sweep: str,
    method: str,
    setting: float,
    predicted: float,
    compute: Callable[[], Hypergradient],
    converged: Callable[[Hypergradient], bool] | None = None,
) -> dict[str, object]:
    """Return the row of one hypergradient; its doubts are noted, and nothing is warned of."""
    with unwarned():
        found = compute()
    size = float(flat(Leaves.of("theta", case.theta).tensors).norm())
    curvature = math.nan if found.curvature is None else found.curvature
    return {
        "problem": case.name,
        "label": case.label,
        "sweep": sweep,
        "method": method,
        "setting": setting,
        "cost": found.iterations,
        "error": case.error(found),
        "predicted": predicted,
        "estimate": found.stationarity / curvature / size if curvature > 0 else math.nan,
        "warned": bool(found.doubts),
        "converged": None if converged is None else converged(found),
    }


def _costs(settings: Settings, case: Case, seed: int) -> Iterator[dict[str, object]]:
    """Yield every method at every number of products or steps."""
    J, F, phi, ascent = case.J, case.F, case.phi, SGD(case.rate)
    warm = case.off(settings.warm, streams.generator(seed, "warm", case.name))
    free = {"tolerance": math.inf, "distance": math.inf}  # the problem of K steps is meant

    def solve(method: Linear, k: int) -> Hypergradient:
        return implicit(
            J,
            F,
            case.theta,
            phi,
            method=LINEAR[method],
            tolerance=1e-15,
            max_iterations=k,
            rank=settings.rank,
            step=case.rate,
            generator=streams.generator(seed, "sketch", case.name),
        )

    for k in settings.products:
        for method in LINEAR:
            predicted = {"CG": case.chebyshev(k), "Neumann series": case.slowest(k, case.theta)}
            compute = partial(solve, method, k)
            yield _row(case, "cost", method, k, predicted.get(method, math.nan), compute)
        # from the solution the steps that are not differentiated stay there
        compute = partial(
            unrolled, J, F, case.theta, phi, optimiser=ascent, steps=k + 10, last=k, **free
        )
        yield _row(case, "cost", "truncated", k, case.slowest(k, case.theta), compute)
        for method, start in (("warm start", warm), ("cold start", case.cold)):
            linear = case.bend is not None or start is warm
            predicted = case.slowest(k, start) if linear else math.nan
            compute = partial(unrolled, J, F, start, phi, optimiser=ascent, steps=k, **free)
            yield _row(case, "cost", method, k, predicted, compute)
    compute = partial(one_step, J, F, case.theta, phi, optimiser=ascent, **free)
    yield _row(case, "cost", "one step", 1, case.slowest(1, case.theta), compute)


def _penalties(settings: Settings, case: Case) -> Iterator[dict[str, object]]:
    """Yield the penalty at every weight, from the inner solution."""
    pull = float(case.pull.norm())

    def found(weight: float, by: Hypergradient) -> bool:
        return weight * by.stationarity <= FORCE * pull

    for weight in settings.weights:
        compute = partial(
            penalty, case.J, case.F, case.theta, case.phi, weight=weight, tolerance=math.inf
        )
        predicted = case.first_order(weight)
        yield _row(case, "penalty", "penalty", weight, predicted, compute, partial(found, weight))


def _inner_errors(settings: Settings, case: Case, seed: int) -> Iterator[dict[str, object]]:
    """Yield the implicit hypergradient at points that are not stationary."""
    kinds = {"random": 0, "left by ascent": round(case.condition)}
    for direction, (kind, steps) in product(range(settings.directions), kinds.items()):
        for distance in settings.inner_errors:
            generator = streams.generator(seed, "direction", direction)
            point = case.off(distance, generator, steps)
            compute = partial(implicit, case.J, case.F, point, case.phi, tolerance=RESIDUAL)
            row = _row(case, "inner error", kind, distance, math.nan, compute, _solved)
            yield row | {"direction": direction}


def _solved(found: Hypergradient) -> bool:
    return found.residual is not None and found.residual <= RESIDUAL
