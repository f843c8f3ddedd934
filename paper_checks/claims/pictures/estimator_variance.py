"""Claims about `estimator-variance`: variances as derived, and which estimator has the least.

Variances are held to the project's z <= 5, set before the first run. NEAR and the bound on the
ratios were settled after it, at seed 0.
"""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from ...conformance.tolerances import Z_MAX
from ...experiments import estimator_variance
from ...experiments.estimator_variance import (
    CONSTANT,
    KNOWING,
    LEAVE_ONE_OUT,
    LEVEL,
    MINIMUM,
    OPTIMAL,
    PATHWISE,
    VALUE,
    compared,
)
from ...statistics import farthest
from .. import runs
from ..claim import Claim, Judgement, Verdict

SETTINGS = estimator_variance.Settings()
NEAR = 1.1  # ratio of derived variances below which two are too close to be told apart
AGREES = 0.05  # relative, of ratios of variances
RATIOS = {"m": 10 / 6, "log s": 56 / 24}  # of the baseline E r to the best, at the data's mean


def _rows(seed: int) -> pd.DataFrame:
    return compared(runs.once(estimator_variance.run, SETTINGS, seed=seed))


def _verdict(holds: bool) -> Verdict:
    return Verdict.reproduced if holds else Verdict.not_reproduced


def _agreement(rows: pd.DataFrame, what: str) -> Judgement:
    worst = farthest(rows.z)
    return Judgement(
        _verdict(worst <= Z_MAX),
        f"{len(rows)} {what}: at most {worst:.1f} standard errors from the derived one, {Z_MAX:g} "
        f"allowed; {int(rows.inside.sum())} intervals of {LEVEL:.0%} cover it",
        worst,
    )


def predicted(seed: int) -> Judgement:
    """Judge whether the solvers' estimates vary as derived."""
    rows = _rows(seed)
    return _agreement(
        rows[rows.part != "group"],
        f"variances of {SETTINGS.batches * SETTINGS.size} estimates each",
    )


def groups(seed: int) -> Judgement:
    """Judge where trainings with a baseline of the group settle; never at the data's deviation."""
    rows = _rows(seed)
    rows = rows[rows.part == "group"]
    found = _agreement(rows, "deviations at which trainings settle")
    wide = bool((rows.low > 1).all())
    largest = rows[rows.arm == MINIMUM].value.max()
    return Judgement(
        found.verdict if wide else Verdict.not_reproduced,
        f"{found.evidence}; all {'' if wide else 'but some '}are above that of the data, by up to "
        f"{largest:.2f} times",
        found.ours,
    )


def _ordered(rows: pd.DataFrame, order: tuple[str, ...]) -> list[bool]:
    """Say of every pair of neighbours in `order`, told apart as derived, if the first is less."""
    keys = ["parameter", "x"]
    measured, derived = (
        rows.pivot(index=keys, columns="arm", values=column) for column in ("value", "predicted")
    )
    return [
        bool(measured.loc[at, less] < measured.loc[at, more])
        for less, more in pairwise(order)
        for at in derived.index[derived[more] > NEAR * derived[less]]
    ]


def best(seed: int) -> Judgement:
    """Judge whether a constant other than the derived one has a smaller variance."""
    rows = _rows(seed)
    rows = rows[(rows.part == "baseline") & (rows.data == "averaged")]
    right: list[bool] = []
    for _, own in rows.groupby("parameter"):
        (star,) = own[own.arm == OPTIMAL].itertuples()
        others = own[(own.arm == CONSTANT) & (own.predicted > NEAR * star.predicted)]
        right += (others.value > star.value).tolist()
    stars = rows[rows.arm == OPTIMAL].set_index("parameter").x
    return Judgement(
        _verdict(bool(right) and all(right)),
        f"{sum(right)} of {len(right)} other constants, at which {NEAR:g} times the variance or "
        f"more is derived, have a larger one than the solver's best baselines, b = "
        f"{stars['m']:.2f} for m and {stars['log s']:.2f} for log s",
        sum(right) / max(len(right), 1),
    )


def ranking(seed: int) -> Judgement:
    """Judge the order of the estimators, at every M and σ and for both parameters."""
    rows = _rows(seed)
    averaged = _ordered(rows[rows.part == "generations"], (PATHWISE, OPTIMAL, LEAVE_ONE_OUT))
    sampled = _ordered(rows[rows.part == "spread"], (PATHWISE, KNOWING, OPTIMAL))
    right = averaged + sampled
    return Judgement(
        _verdict(bool(averaged) and bool(sampled) and all(right)),
        f"{sum(right)} of {len(right)} comparisons come out as derived: pathwise < best constant < "
        f"leave-one-out ({len(averaged)}), and with the data point sampled pathwise < best b(y) < "
        f"best constant ({len(sampled)})",
        sum(right) / max(len(right), 1),
    )


def expected_reward(seed: int) -> Judgement:
    """Judge what the baseline E r costs, and that leave-one-out tends to it."""
    rows = _rows(seed)
    rows = rows[rows.part == "generations"]
    means = rows.groupby(["parameter", "arm"]).value.mean()
    last = rows[rows.x == rows.x.max()].set_index(["parameter", "arm"]).value
    found = {
        (arm, name): float(values[name, arm] / values[name, OPTIMAL])
        for arm, values in ((VALUE, means), (LEAVE_ONE_OUT, last))
        for name in RATIOS
    }
    off = farthest([ratio / RATIOS[name] - 1 for (_, name), ratio in found.items()])
    said = ", ".join(f"{arm}, {name}: {ratio:.3f}" for (arm, name), ratio in found.items())
    return Judgement(
        _verdict(off <= AGREES),
        f"times the variance of the best constant: {said} (M = {rows.x.max():g}); derived 5/3 for "
        f"m and 7/3 for log s, {AGREES:.0%} allowed",
        found[VALUE, "m"],
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims."""
    statements = {
        "predicted": ("estimates of the policy gradient vary as derived", predicted),
        "best": ("the best constant baseline is the derived one, not the same for m and s", best),
        "ranking": ("pathwise < best baselines < leave-one-out, in variance", ranking),
        "expected_reward": ("the baseline E r has 5/3 and 7/3 of the least variance, and "
                            "leave-one-out tends to it", expected_reward),
        "groups": ("a group's minimum or mean as baseline settles at too large an s", groups),
    }  # fmt: skip
    return tuple(
        Claim(f"estimator-variance.{name}", statement, "new", Verdict.reproduced, judge)
        for name, (statement, judge) in statements.items()
    )
