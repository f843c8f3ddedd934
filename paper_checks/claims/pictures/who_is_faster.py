"""Claims about `who-is-faster`: that policy gradient matches moments faster than NLL, and where.

Nothing is random. The share of starts that makes a prediction right was fixed after shares on a
coarser grid and on this one had been seen.
"""

from __future__ import annotations

import pandas as pd

from ...experiments import who_is_faster
from .. import runs
from ..claim import Claim, Judgement, Verdict

SETTINGS = who_is_faster.Settings()
AGREES = 0.95  # share of starts that makes a prediction right
EVERYWHERE = 0.99  # share of starts from which PG would have to be first


def _cells(seed: int, training: str) -> pd.DataFrame:
    table = runs.once(who_is_faster.run, SETTINGS, seed=seed)
    cells = who_is_faster.compared(table)
    return cells[cells.training == training]


def _agreement(cells: pd.DataFrame) -> dict[str, float]:
    right = cells["first"] == cells.predicted
    return {str(name): float(share) for name, share in right.groupby(cells.measure).mean().items()}


def faster(seed: int) -> Judgement:
    """Judge `PG matches moments faster than NLL`, from everywhere and above the boundary."""
    cells = _cells(seed, "small steps")
    first = cells["first"] == "PG"
    shares = {
        name: float(first[cells.predicted == name].mean()) for name in who_is_faster.OBJECTIVES
    }
    everywhere = float(first.groupby(cells.measure).mean().min())
    if everywhere >= EVERYWHERE:
        verdict = Verdict.reproduced
    elif shares["PG"] >= AGREES and shares["NLL"] <= 1 - AGREES:
        verdict = Verdict.corrected
    else:
        verdict = Verdict.not_reproduced
    return Judgement(
        verdict,
        f"exact gradients, small steps, {len(cells) // 2} starts, mean and likelihood: PG(U*) is "
        f"first from {float(first.mean()):.0%}: from {shares['PG']:.1%} of those where the flows "
        f"say so, from {shares['NLL']:.1%} of the others",
        everywhere,
        published=1.0,
    )


def _predicts(seed: int, training: str) -> Judgement:
    cells = _cells(seed, training)
    right = _agreement(cells)
    worst = min(right.values())
    words = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
    return Judgement(
        Verdict.reproduced if worst >= AGREES else Verdict.not_reproduced,
        f"{training}, {len(cells) // 2} starts: the flows tell who is first for {words}; "
        f"at least {AGREES:.0%} asked",
        worst,
    )


def boundary(seed: int) -> Judgement:
    """Judge that the flows tell who is first by small steps."""
    return _predicts(seed, "small steps")


def adam(seed: int) -> Judgement:
    """Judge that they tell who is first by Adam."""
    return _predicts(seed, "Adam")


def claims() -> tuple[Claim, ...]:
    """Return the claims about who is faster."""
    return (
        Claim(
            "who-is-faster.moments",
            "PG with the optimal reward matches moments faster than NLL; corrected: above v₀ ≈ "
            "σ²e^{-δ₀²}, by small steps",
            "paper (section 5.1); correction new",
            Verdict.corrected,
            faster,
        ),
        Claim(
            "who-is-faster.boundary",
            "the gradient flows tell who is faster in trainings by small steps",
            "new",
            Verdict.reproduced,
            boundary,
        ),
        Claim(
            "who-is-faster.adam",
            "the gradient flows tell who is faster in trainings by Adam",
            "new",
            Verdict.not_reproduced,
            adam,
        ),
    )
