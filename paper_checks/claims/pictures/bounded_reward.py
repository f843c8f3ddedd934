"""Claims about `bounded-reward`: the fold, the basin, and that J grows for ever.

All tolerances were set before the first run.
"""

from __future__ import annotations

import pandas as pd

from ...experiments import bounded_reward
from ...experiments.bounded_reward import LEFT, STAYED, UNDECIDED
from ...statistics import farthest
from .. import runs
from ..claim import Claim, Judgement, Verdict

SETTINGS = bounded_reward.Settings()  # those of the figure: one table serves both
AGREES = 1e-4  # relative distance of s from the derived one, by exact gradients
NARROW = 1e-3  # relative width of the bracket around a fold
MOST = 0.95  # share of sampled trainings that must end as derived


def _part(seed: int, part: str) -> pd.DataFrame:
    table = runs.once(bounded_reward.run, SETTINGS, seed=seed)
    return table[table.part == part]


def _sizes() -> str:
    return ", ".join(map(str, SETTINGS.dimensions))


def _verdict(holds: bool) -> Verdict:
    return Verdict.reproduced if holds else Verdict.not_reproduced


def _distance(rows: pd.DataFrame) -> float:
    """Return the largest relative distance of s from the derived one, of trainings that stayed."""
    stayed = rows[rows.ended == STAYED]
    return farthest(stayed.s / stayed.root - 1)


def fold(seed: int) -> Judgement:
    """Judge λ_c by the brackets that trainings have found."""
    rows = _part(seed, "fold")
    width = farthest((rows.high - rows.low) / rows.root)
    inside = (rows.low < rows.root) & (rows.root < rows.high)
    said = "; ".join(
        f"n = {row.n:g}: {row.low:.5f} to {row.high:.5f}, derived {row.root:.5f}"
        for row in rows.itertuples()
    )
    return Judgement(
        _verdict(bool(inside.all()) and width <= NARROW),
        f"the λ up to which trainings stay and from which they leave, {said}; at most {width:.1g} "
        f"apart, relatively, {NARROW:g} allowed",
        width,
    )


def basin(seed: int) -> Judgement:
    """Judge which trainings by exact gradients stay, and where."""
    rows = _part(seed, "basin")
    right = rows.ended == rows.predicted
    counts = {end: int((rows.ended == end).sum()) for end in (STAYED, LEFT, UNDECIDED)}
    off = _distance(rows)
    both = bool(rows.groupby("n").ended.nunique().min() == 2)
    return Judgement(
        _verdict(bool(right.all()) and both and off <= AGREES),
        f"{int(right.sum())} of {len(rows)} trainings by exact gradients end as derived, "
        f"{counts[STAYED]} at the maximum and {counts[LEFT]} beyond {SETTINGS.far:.0e} times the "
        f"variance of the data, {counts[UNDECIDED]} undecided; variances within {off:.1g} of the "
        f"derived ones ({AGREES:g} allowed)",
        float(right.mean()),
    )


def sampled(seed: int) -> Judgement:
    """Judge which trainings by the score function stay."""
    rows = _part(seed, "sampled")
    share = float((rows.ended == rows.predicted).mean())
    return Judgement(
        _verdict(share >= MOST),
        f"{share:.0%} of {len(rows)} trainings, from {SETTINGS.side:g} times below and above the "
        f"larger root, stay or leave as derived, at least {MOST:.0%} asked; "
        f"{int((rows.ended == UNDECIDED).sum())} undecided; those that stay are within "
        f"{_distance(rows):.0%} of the derived variance",
        share,
    )


def unbounded(seed: int) -> Judgement:
    """Judge that trainings which leave are better off than at the local maximum."""
    rows = _part(seed, "basin")
    left = rows[(rows.ended == LEFT) & rows.peak.notna()]
    lead = left.J - left.peak
    return Judgement(
        _verdict(len(left) > 0 and bool((lead > 0).all())),
        f"{int((lead > 0).sum())} of {len(left)} trainings that left although there is a local "
        f"maximum have a larger J than it, by {lead.min():.2f} or more",
        float(lead.min()),
    )


def reach(seed: int) -> Judgement:
    """Judge `some ω teaches the variance of the data iff λ <= n^{n/2}/(n+2)^{n/2+1}`."""
    rows = _part(seed, "reach")
    right, off = (rows.ended == rows.predicted).mean(), _distance(rows)
    least = rows[rows.ended == STAYED].groupby(["share", "n"]).s.min()
    below, at, above = (
        least[keep(least.index.get_level_values("share"))]
        for keep in (lambda x: x < 1, lambda x: x == 1, lambda x: x > 1)
    )
    apart = farthest(at - 1)
    holds = right == 1 and off <= AGREES and apart <= AGREES
    holds = holds and bool((below < 1 - AGREES).all()) and bool((above > 1 + AGREES).all())
    return Judgement(
        _verdict(holds),
        f"over ω the least s/β² of trainings, n = {_sizes()}: at {min(SETTINGS.reach):g} of this λ "
        f"at most {below.max():.2f}, at it within {apart:.1g} of 1, at {max(SETTINGS.reach):g} at "
        f"least {above.min():.2f}; {right:.0%} of {len(rows)} end as derived, within {off:.1g}",
        apart,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims."""
    statements = {
        "fold": ("with a bounded reward trainings stay up to λ_c, and above it none does", fold),
        "basin": ("they stay iff they start below the larger root of λ = h(s)", basin),
        "sampled": ("so do trainings by the score function on fresh data", sampled),
        "unbounded": (
            "J has no global maximum: those that leave pass the local one",
            unbounded,
        ),
        "reach": ("some ω teaches the variance of the data iff λ <= n^{n/2}/(n+2)^{n/2+1}", reach),
    }
    return tuple(
        Claim(f"bounded-reward.{name}", statement, "new", Verdict.reproduced, judge)
        for name, (statement, judge) in statements.items()
    )
