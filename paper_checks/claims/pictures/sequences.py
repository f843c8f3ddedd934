"""Claims about `sequences`: what rewards of windows lose, and that training finds the optimum.

Judged on the table of the figure where there is one. Nothing here was fixed in advance: bounds,
the decay of learned rewards and the width of the policy were chosen after looking at seed 0. With
a decay of 1e-7 nats policies lost 0.12 and 0.07 nats too much of the text at orders 3 and 4, with a
width of 16 up to 0.035. Seeds 1 and 2 keep the bounds, but were run with several settings on the
way: they are no fresh test.
"""

from __future__ import annotations

import pandas as pd

from ...experiments import sequences
from ...statistics import farthest
from .. import runs
from ..claim import Claim, Judgement, Verdict

SETTINGS = sequences.Settings()
AGREES = 0.03  # nats per sequence between what is derived and what trained policies lose
ARRIVED = 5e-3  # nats from the known inner solution, by the exact gradient


def _table(seed: int) -> pd.DataFrame:
    return runs.once(sequences.run, SETTINGS, seed=seed)


def total_correlation(seed: int) -> Judgement:
    """Judge that the best reward of order k loses what is derived, at k = 0 the dependence."""
    table = _table(seed)
    rows = table[table.part == "orders"]
    lost = rows.pivot_table(index=["law", "k"], columns="kind", values="kl")
    apart = farthest(lost.trained - lost.predicted)
    text, chain = (lost.loc[law].trained for law in sequences.LAWS)
    enough = chain[chain.index >= 1].abs().max()
    holds = apart <= AGREES < min(text[0], chain[0])
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"recurrent policies trained on learned rewards lose {text[0]:.3f} nats of a text and "
        f"{chain[0]:.3f} of a chain with additive rewards (total correlations {_first(lost)}), "
        f"{enough:.0e} of the chain with pairs or more; over all {len(lost)} orders and laws at "
        f"most {apart:.2g} from what is derived, {AGREES} allowed",
        apart,
    )


def _first(lost: pd.DataFrame) -> str:
    return ", ".join(f"{lost.loc[law, 0].predicted:.3f}" for law in sequences.LAWS)


def optimum(seed: int) -> Judgement:
    """Judge that policy gradient takes a recurrent policy to the derived inner solution."""
    table = _table(seed)
    rows = table[(table.part == "training") & (table.reward != "NLL")]
    worst = rows.groupby(["kind", "reward", "step"]).kl.agg(farthest)
    last = int(rows.step.max())
    ends = {kind: worst[kind].unstack()[last] for kind in ("exact", "sampled")}
    start = worst["exact"].unstack()[0]
    off = farthest(ends["exact"])
    holds = off <= ARRIVED and bool((ends["sampled"] < start / 2).all())
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"KL to p* ∝ exp(r̄/λ) for Hamming, pairs and exact match: from {start.min():.2g} or more "
        f"to at most {off:.1e} nats in {last} steps of the exact gradient, "
        f"{ARRIVED} allowed; to at most {ends['sampled'].max():.1e} of the sampled one, half of "
        f"the start allowed",
        off,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about sequences."""
    return (
        Claim(
            "sequences.total_correlation",
            "policies trained on the best reward of order k lose what no law of that order has; "
            "additive ones lose the total correlation",
            "new",
            Verdict.reproduced,
            total_correlation,
        ),
        Claim(
            "sequences.optimum",
            "policy gradient takes an autoregressive policy to the derived inner solution",
            "new",
            Verdict.reproduced,
            optimum,
        ),
    )
