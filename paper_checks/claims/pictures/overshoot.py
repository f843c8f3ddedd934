"""Claims about `overshoot`: the scale β* of tables 1 and 2, and the exact one.

Judged by training on the rewards to the end.
"""

from __future__ import annotations

import pandas as pd

from ...experiments import overshoot
from ...experiments.arms import labels
from ...experiments.convergence import NoneConverged, arrived, not_converged
from ...statistics import farthest
from .. import runs
from ..claim import Claim, Judgement, Verdict

EXACT = labels(overshoot.EXACT)
SETTINGS = overshoot.Settings(points=25, repetitions=1, steps=1)
LOSES_NOTHING = 1e-6  # nats


def scale(seed: int) -> Judgement:
    """Judge `the optimal scale teaches the probability of the data`, as published and exact."""
    table = runs.once(overshoot.run, SETTINGS, seed=seed)
    ends = table[table.kind == "exact"]
    trained, left_out = arrived(ends), not_converged(ends, ["arm", "pi"], ["arm"])
    published = trained[trained.arm == overshoot.PG_BETA.label]
    away = published[(published.pi - 0.5).abs() > 0.05]
    looked_at = pd.concat([away, trained[trained.arm.isin(EXACT)]])
    if missing := sorted({overshoot.PG_BETA.label, *EXACT} - set(looked_at.arm)):
        raise NoneConverged(f"of {', '.join(missing)} nothing is left to look at:{left_out}")
    exact = farthest(trained[trained.arm.isin(EXACT)].kl)
    overshoots = bool(((away.p - 0.5).abs() > (away.pi - 0.5).abs()).all()) and away.kl.min() > 1e-3
    if not overshoots:
        verdict = Verdict.reproduced
    else:
        verdict = Verdict.corrected if exact < LOSES_NOTHING else Verdict.not_reproduced
    return Judgement(
        verdict,
        f"policies of two classes trained by the exact gradient at {SETTINGS.points} "
        f"probabilities: β* costs {away.kl.min():.2g} to {away.kl.max():.2g} nats away from ½ "
        f"(farther from ½ than the data in "
        f"{int(((away.p - 0.5).abs() > (away.pi - 0.5).abs()).sum())} of {len(away)} cases); the "
        f"exact scalar and diagonal at most {exact:.0e}.{left_out}",
        float(away.kl.max()),
        published=0.0,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claim about the scale β*."""
    return (
        Claim(
            "overshoot.scale",
            "the optimal scale teaches the data's probabilities; corrected: exact u* for β*",
            "paper (β* for classes); correction new",
            Verdict.corrected,
            scale,
        ),
    )
