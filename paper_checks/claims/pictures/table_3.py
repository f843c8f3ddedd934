"""Claims about table 3: the published order, its scalar, and what the learned reward attains.

Judged on fresh seeds: collected transitions, splits and initial policies are others than those of
the picture. The order of errors was looked at on one seed before it was made a claim. Those of the
learned rewards compare medians over splits: on another seed t intervals of means were tried first,
and were far wider than the differences, since one odd episode, on the test side of a split, costs
some methods nats. At the level of the family 20 splits do not always tell 5 % of error from none:
by implicit differentiation the interval of the error was below 0 on the picture's seed, and on the
first fresh one, 5 % below in the mean, it reached .002 above 0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pandas as pd

from solvers.hypergradients.implicit import unwarned

from ...experiments import table_3, table_3_bilevel
from ...experiments.arms import labels
from ...experiments.table_3 import PUBLISHED_U, published_scalar
from ...experiments.table_3_bilevel import IMPLICIT_TEMPERED
from ...experiments.table_3_methods import TEMPERED
from ...statistics import FAMILY, Interval, bonferroni, median_interval
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

ORDER = labels(table_3.RANKED)
LIKELY = (table_3.NLL.label, "β-NLL", "faithful")
SPLITS = 20
# One environment of three, for the sake of time; hopper was taken as the hardest, once the frontier
# of alternation was seen on 1000 rows. On 300 the error of alternation is that of MSE: an interval
# around 0, which is not below it.
ENVIRONMENT = "hopper"
CORRECTED = replace(table_3.CORRECTED, environments=(ENVIRONMENT,), betas=(0.0, 0.5))
WITHIN = 1.5  # factor between two scalars of networks that were not trained to the end
SCALARS = 1.02  # the same for one network; by inner solves that end before they are exact
BILEVEL = replace(table_3.CORRECTED, splits=(0,), collected=8_000, rows=(300, 200, 300))


@cache
def as_published(seed: int) -> pd.DataFrame:
    """Return a fresh run of the published protocol."""
    (state,) = seeds(seed, "table 3 as published", 1)
    return runs.once(table_3.run, table_3.AS_PUBLISHED, seed=state)


@cache
def corrected(seed: int) -> pd.DataFrame:
    """Return a fresh run of the corrected experiment on one environment."""
    (state,) = seeds(seed, "table 3", 1)
    settings = replace(CORRECTED, splits=seeds(seed, "splits of table 3", SPLITS))
    return runs.once(table_3.run, settings, seed=state)


def order(seed: int) -> Judgement:
    """Judge the published order of test errors, MSE first, and that NLL has the best likelihood."""
    means = as_published(seed).groupby("arm")[["rmse", "nll"]].mean()
    found = tuple(str(arm) for arm in means.loc[list(ORDER)].rmse.sort_values().index)
    pairs = [(a, b) for i, a in enumerate(ORDER) for b in ORDER[i + 1 :]]
    kept = sum(bool(means.rmse[a] < means.rmse[b]) for a, b in pairs)
    best = str(means.nll[list(ORDER[1:])].idxmin())
    # PG(I) and PG(implicit) are 4 % apart as published: their order is not asked for.
    swapped = found.index(table_3.PG_IDENTITY.label) < found.index(table_3.PG_IMPLICIT.label)
    holds = kept + swapped == len(pairs) and best == table_3.NLL.label
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"test RMSE: {' < '.join(f'{arm} {means.rmse[arm]:.3f}' for arm in found)}; published: "
        f"{' < '.join(ORDER)}; {kept} of {len(pairs)} pairs in that order, PG(I) and PG(implicit) "
        f"may swap; lowest NLL: {best}, published: NLL. Our transitions, which are not the "
        "published ones",
        float(kept),
        published=float(len(pairs)),
    )


def implicit(seed: int) -> Judgement:
    """Judge that the published learned scalar is `λn / (2 Tr S)` of the published residuals."""
    found = published_scalar()
    ratio = PUBLISHED_U / found
    return Judgement(
        Verdict.reproduced if 1 / WITHIN <= ratio <= WITHIN else Verdict.not_reproduced,
        f"published u = {PUBLISHED_U}; λn/(2 Tr S) with the published test RMSE, "
        f"λ = 1: {found:.4f}; a factor of at most {WITHIN} holds",
        found,
        published=PUBLISHED_U,
    )


def bilevel(seed: int) -> Judgement:
    """Judge that the implicit solver, with a network inside, ends at `λn/(2 Tr S)`."""
    (state,) = seeds(seed, "table 3 by the bilevel solver", 1)
    data = table_3.load(BILEVEL, state, ENVIRONMENT, BILEVEL.splits, "episode")
    with unwarned():  # that it is not solved to stationarity is said below, by the numbers
        found = table_3_bilevel.scalar(data, lam=BILEVEL.lam, seed=state)
    ratio = found.u / found.predicted
    holds = 1 / SCALARS <= ratio <= SCALARS
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"{ENVIRONMENT}, one split: from u = {found.start:.3f} the implicit solver, its outer "
        f"problem on held-out rows, goes to {found.u:.4f}; λn/(2 Tr S), S of its residuals there: "
        f"{found.predicted:.4f}; a factor of at most {SCALARS} holds. Its last hypergradient is "
        f"{found.slope:.1e} of the largest; {found.inner} of {found.solves} inner solves were as "
        f"accurate as asked, in {found.evaluations} evaluations",
        found.u,
        published=found.predicted,
    )


def learned(seed: int) -> Judgement:
    """Judge the rewards learned by implicit differentiation (see `_judged`)."""
    return _judged(seed, IMPLICIT_TEMPERED)


def alternation(seed: int) -> Judgement:
    """Judge the rewards learned by cross-fitted alternation (see `_judged`)."""
    return _judged(seed, TEMPERED)


def _judged(seed: int, arm: str) -> Judgement:
    """Judge `RMSE no worse than MSE, NLL no worse than the best of NLL, β-NLL and faithful`.

    By intervals of the median of paired differences: an upper end above 0 does not hold.
    """
    table = corrected(seed)
    rmse = table.pivot(index="split", columns="arm", values="rmse")
    nll = table.pivot(index="split", columns="arm", values="nll")
    level = bonferroni(FAMILY, 1 + len(LIKELY))
    error = median_interval(rmse[arm] - rmse[table_3.MSE.label], level)
    gaps = {other: median_interval(nll[arm] - nll[other], level) for other in LIKELY}
    power = table[table.arm == arm].power.mean()
    nearest = max(gaps, key=lambda other: gaps[other].high)
    holds = error.high <= 0 and gaps[nearest].high <= 0
    said = ", ".join(f"{other} {_ends(gap)}" for other, gap in gaps.items())
    means = ", ".join(f"{name} {nll[name].mean():.3f}" for name in (arm, *LIKELY))
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"{arm} on {ENVIRONMENT}, {len(rmse)} splits, {100 * level:.2f} % intervals of the "
        f"median of paired differences: RMSE to MSE {_ends(error)} (means "
        f"{rmse[arm].mean():.3f} and {rmse[table_3.MSE.label].mean():.3f}); NLL per dimension "
        f"to {said} (means: {means}). None may reach above 0. "
        f"Held-out rows choose λ(x) = Σ(x)^β of mean β {power:.2f}",
        float((nll[arm] - nll[nearest]).median()),
        gaps[nearest],
    )


def _ends(found: Interval) -> str:
    return f"[{found.low:+.4f}, {found.high:+.4f}]"


def claims() -> tuple[Claim, ...]:
    """Return the claims about table 3."""
    return (
        Claim(
            "table-3.order",
            "as published, test errors rank MSE first and PG(U* of the marginal Σ) last, and NLL "
            "has the best likelihood",
            "table 3",
            Verdict.reproduced,
            order,
        ),
        Claim(
            "table-3.scalar",
            "the scalar that the published implicit solver learns is λn/(2 Tr S), S of residuals",
            "table 3; the formula is new for S of residuals",
            Verdict.reproduced,
            implicit,
        ),
        Claim(
            "table-3.bilevel",
            "by implicit differentiation through a network, held-out rows outside, the learned "
            "scalar is λn/(2 Tr S), S of held-out residuals",
            "new",
            Verdict.reproduced,
            bilevel,
        ),
        Claim(
            "table-3.learned",
            "hopper, PG with U(x) and λ(x) learned on held-out rows by implicit differentiation: "
            "RMSE no worse than MSE, NLL no worse than the best of NLL, β-NLL and faithful "
            "regression",
            "new",
            Verdict.not_reproduced,
            learned,
        ),
        Claim(
            "table-3.alternation",
            "the same of U(x) and λ(x) learned by cross-fitted alternation",
            "new",
            Verdict.not_reproduced,
            alternation,
        ),
    )
