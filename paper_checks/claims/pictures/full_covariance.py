"""Claims about the full covariance: what its picture shows, and which reward it needs.

Judged on fresh seeds of the published experiment and of a corrected one. Levels, sample sizes and
criteria were fixed after a pilot at seeds 1000 to 1002 and before any other seed was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import pandas as pd

from ...experiments import full_covariance
from ...experiments.arms import NLL, Arm, labels
from ...statistics import (
    FAMILY,
    Interval,
    bonferroni,
    mean_interval,
    median_interval,
    prediction_interval,
)
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

# --- the published picture ---

EPOCHS = (0, 25, 50, 75, 99)
RUNS = 10  # each with one initial policy for all experiments of PG(U*)
PUBLISHED = replace(full_covariance.AS_PUBLISHED, experiments=20, recorded=EPOCHS)
NAMES = "nll", "fixed", "optimal"  # of its arms, without quotes in a shell
SHORT = dict(zip(labels(PUBLISHED.arms), NAMES, strict=True))
PIXEL = {"mean_error": 0.008, "cholesky_error": 0.005, "nll": 0.05}  # as full_covariance.csv says
# What the published picture may come from; measured on 150 experiments at seed 1000.
CLOSER = (
    "with ReLU for tanh and a step of 9e-4 NLL comes close: mean error 1.42, 1.10, 0.72, 0.38, "
    "0.21 at epochs 0, 25, 50, 75, 99; picture 1.42, 1.17, 0.80, 0.40, 0.19"
)


@cache
def published_runs(seed: int) -> pd.DataFrame:
    """Return `RUNS` small runs with the published settings, with a column `run`."""
    states = seeds(seed, "figure C as published", RUNS)
    return runs.repeated(full_covariance.run, PUBLISHED, states)


@cache
def picture() -> pd.DataFrame:
    """Return the means read off the published picture: metric, arm, epoch, value."""
    return pd.read_csv(full_covariance.PUBLISHED, comment="#")


@dataclass(frozen=True)
class Comparison:
    """Our runs beside one value read off the picture; `distance` above 1 is outside."""

    metric: str
    arm: str
    epoch: int
    ours: float
    interval: Interval
    published: float
    distance: float


def compare(metric: str, arm: str, epoch: int, published: float, seed: int) -> Comparison:
    """Hold one value read off the picture against the prediction of our runs.

    It is a mean of 150 experiments, independent but in PG(U*), where all share an initial policy:
    there a run is the unit, and the picture shows one. (Runs of ours are of fewer experiments,
    which makes that interval too wide rather than too narrow.)
    """
    table = published_runs(seed)
    rows = table[(table.arm == arm) & (table.epoch == epoch)]
    by_run = rows.groupby("run")[metric].mean()
    shared = arm == full_covariance.PG_FIXED_SCALED.label
    interval = prediction_interval(
        by_run if shared else rows[metric],
        bonferroni(FAMILY, len(picture())),
        1 if shared else full_covariance.AS_PUBLISHED.experiments,
    )
    pixel = PIXEL[metric]
    distance = interval.distance(published - pixel, published + pixel)
    return Comparison(metric, arm, epoch, float(by_run.mean()), interval, published, distance)


def shows(arms: Sequence[str], epochs: Sequence[int], remark: str, seed: int) -> Judgement:
    """Judge the values of some arms at some epochs, by the one that agrees least."""
    rows = picture()
    rows = rows[rows.arm.isin(arms) & rows.epoch.isin(epochs)]
    found = [compare(row.metric, row.arm, row.epoch, row.value, seed) for row in rows.itertuples()]
    inside = sum(comparison.distance <= 1 for comparison in found)
    worst = max(found, key=lambda comparison: comparison.distance)
    return Judgement(
        Verdict.reproduced if inside == len(found) else Verdict.not_reproduced,
        f"{inside} of {len(found)} values read off the picture inside the "
        f"{100 * worst.interval.level:.2f} % prediction interval of {RUNS} runs of "
        f"{PUBLISHED.experiments} experiments; {_faster(found)}shown: {worst.metric} of "
        f"{worst.arm} at epoch {worst.epoch}, the furthest, at {worst.distance:.2f} of its half "
        f"width{remark}",
        worst.ours,
        worst.interval,
        worst.published,
    )


def _faster(found: Sequence[Comparison]) -> str:
    """Say at how many epochs our mean error is below what the picture allows."""
    later = [c for c in found if c.metric == "mean_error" and c.epoch > 0]
    below = sum(c.ours < c.published and c.distance > 1 for c in later)
    if below == 0:
        return ""
    return (
        "the published settings learn faster than the picture (mean error smaller at "
        f"{below} of {len(later)} epochs); "
    )


@dataclass(frozen=True)
class Panel:
    """A panel of the picture in which NLL ends lowest, and the verdict of our runs on that."""

    name: str
    metric: str
    expected: Verdict


PANELS = (
    Panel("nll", "nll", Verdict.reproduced),
    Panel("cholesky", "cholesky_error", Verdict.reproduced),
    Panel("mean", "mean_error", Verdict.reproduced),
)
# Many runs, since each has one initial policy for all experiments of PG(U*). A first design, of 10,
# could not tell the means of NLL and PG(U*) apart at seeds 0 to 2; 60 could at seed 2000.
PANEL_RUNS = 60
PANEL = replace(
    full_covariance.AS_PUBLISHED, experiments=8, epochs=EPOCHS[-1], recorded=(EPOCHS[-1],), chunk=8
)


@cache
def panel_means(seed: int) -> pd.DataFrame:
    """Return the metrics at the last published epoch: a row per run, a column per metric, arm."""
    states = seeds(seed, "figure C, panels", PANEL_RUNS)
    whole = runs.repeated(full_covariance.run, PANEL, states)
    return whole.groupby(["run", "arm"])[[panel.metric for panel in PANELS]].mean().unstack()


def nll_wins(panel: Panel, seed: int) -> Judgement:
    """Judge `NLL ends below both PG arms` by the arm that comes closest to it.

    Experiments share their data between arms, so that differences are paired; a run is the unit.
    Both arms must lie above, so that no correction for their number is needed.
    """
    last, level = EPOCHS[-1], bonferroni(FAMILY, len(PANELS))
    means = panel_means(seed)[panel.metric]
    likely, *others = labels(PANEL.arms)
    found = {arm: mean_interval(means[likely] - means[arm], level) for arm in others}
    arm = max(found, key=lambda arm: found[arm].high)
    rows = picture()
    read = rows[(rows.metric == panel.metric) & (rows.epoch == last)].set_index("arm")["value"]
    said = ", ".join(f"{name} {value:.3g}" for name, value in means.mean().items())
    return Judgement(
        Verdict.reproduced if found[arm].high < 0 else Verdict.not_reproduced,
        f"at epoch {last}: {said}; NLL minus {arm}, the closer PG arm, paired, "
        f"{100 * level:.1f} % t interval over {PANEL_RUNS} runs of {PANEL.experiments} "
        "experiments: below 0 holds",
        float((means[likely] - means[arm]).mean()),
        found[arm],
        float(read[likely] - read[arm]),
    )


# --- the reward ---

RESTRICTED = (full_covariance.PG_RAY, full_covariance.PG_ISOTROPIC)
# The published reward joins the corrected runs: same data, initial policies and training.
CORRECTED = replace(
    full_covariance.CORRECTED,
    arms=(full_covariance.PG_FIXED_SCALED, full_covariance.PG_OPTIMAL_ANALYTIC, *RESTRICTED),
    experiments=40,
    recorded=(full_covariance.CORRECTED.epochs,),
)
CLOSE = 0.01  # nats
# Medians: where Σ̂ is nearly singular Adam is still on its way.
CORRECTED_LEVEL = bonferroni(FAMILY, len(CORRECTED.arms))


@cache
def ends(seed: int) -> pd.DataFrame:
    """Return the last epoch of the corrected runs, and the `gap` to the predicted excess NLL."""
    (state,) = seeds(seed, "figure C corrected", 1)
    table = runs.once(full_covariance.run, CORRECTED, seed=state)
    return table.assign(gap=(table.excess_nll - table.predicted).abs())


def is_optimal(seed: int) -> Judgement:
    """Judge `U* ends at maximum likelihood`, with the published U* and with (λ/2)Σ̂⁻¹."""
    table = ends(seed)
    medians = table.groupby("arm").excess_nll.median()
    names = theirs, ours = labels(CORRECTED.arms[:2])
    published, corrected = (
        median_interval(table[table.arm == arm].excess_nll, CORRECTED_LEVEL) for arm in names
    )
    return Judgement(
        correction(published, corrected),
        f"median excess NLL in nats, {CORRECTED.experiments} experiments, epoch "
        f"{CORRECTED.epochs}, {100 * CORRECTED_LEVEL:.1f} % intervals: published reward "
        f"{medians[theirs]:.2f} [{published.low:.2f}, {published.high:.2f}]; (λ/2)Σ̂⁻¹ with "
        f"analytic gradients shown; below {CLOSE:g} holds",
        float(medians[ours]),
        corrected,
        0.0,
    )


def correction(published: Interval, corrected: Interval) -> Verdict:
    """Return the verdict on `loses nothing`, as published and corrected."""
    if published.high < CLOSE:
        return Verdict.reproduced
    if published.low > CLOSE and corrected.high < CLOSE:
        return Verdict.corrected
    return Verdict.not_reproduced


def ends_as_predicted(arm: Arm, seed: int) -> Judgement:
    """Judge the predicted loss of a restricted reward, by experiment."""
    table = ends(seed)
    rows = table[table.arm == arm.label]
    interval = median_interval(rows.gap, CORRECTED_LEVEL)
    return Judgement(
        Verdict.reproduced if interval.high < CLOSE else Verdict.not_reproduced,
        f"median |measured - predicted| in nats, with its {100 * CORRECTED_LEVEL:.1f} % interval; "
        f"predicted loss {rows.predicted.min():.2g} to {rows.predicted.max():.2g}, median "
        f"{rows.predicted.median():.2g}; within {CLOSE:g} nats: {(rows.gap < CLOSE).sum()} of "
        f"{len(rows)} experiments; a median below {CLOSE:g} holds",
        float(rows.gap.median()),
        interval,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about the full covariance."""
    return (*_picture_claims(), *_panel_claims(), *_reward_claims())


def _picture_claims() -> list[Claim]:
    return [
        Claim(
            "full-covariance.published.start",
            "the curves of the published picture start where ours do",
            "full covariance",
            Verdict.reproduced,
            partial(shows, tuple(SHORT), EPOCHS[:1], ""),
        ),
        *(
            Claim(
                f"full-covariance.published.{short}",
                f"the curves of {arm} in the published picture, epochs 25, 50, 75, 99",
                "full covariance",
                Verdict.not_reproduced,
                partial(
                    shows,
                    (arm,),
                    EPOCHS[1:],
                    f"; {CLOSER}" if arm == NLL.label else "",
                ),
            )
            for arm, short in SHORT.items()
        ),
    ]


def _panel_claims() -> list[Claim]:
    return [
        Claim(
            f"full-covariance.nll_wins.{panel.name}",
            f"with the published settings NLL ends below both PG arms in {panel.metric}",
            "full covariance",
            panel.expected,
            partial(nll_wins, panel),
        )
        for panel in PANELS
    ]


def _reward_claims() -> list[Claim]:
    return [
        Claim(
            "full-covariance.optimum",
            "U* loses nothing against maximum likelihood; corrected: (λ/2)Σ̂⁻¹ for (λn/TrΣ) M",
            "full covariance; correction from the paper's theorem",
            Verdict.corrected,
            is_optimal,
        ),
        *(
            Claim(
                f"full-covariance.{arm.reward}",
                f"{arm} ends at the predicted loss of its ray",
                "new",
                Verdict.reproduced,
                partial(ends_as_predicted, arm),
            )
            for arm in RESTRICTED
        ),
    ]
