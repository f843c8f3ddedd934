"""What is learned beside a reference policy, and with GRPO's division by the group's deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments.convergence import arrived, not_converged
from paper_checks.experiments.reference_policy import ENTROPIC, GROUP, LEARNED

from . import style

LOOKS = ("blue", "orange", "green", "wine")
RUNS = ["arm", "ratio", "distance"]
AGREES = 1e-3  # between derived and learned: on the boundary of the cone U only tends to 0


def draw(table: pd.DataFrame) -> Figure:
    """Draw variance, reward and cost by the reference's distance; GRPO's variance by λ."""
    table = arrived(table)
    figure, axes = plt.subplots(2, 2, figsize=style.size(38))
    beside = table[table.arm != GROUP]
    for place, (ratio, rows) in enumerate(beside.groupby("ratio")):
        learned, entropic = (rows[rows.arm == arm] for arm in (LEARNED, ENTROPIC))
        label, name = f"$P_0 = {ratio:g}\\,\\Sigma$", LOOKS[place % len(LOOKS)]
        line, points = style.line(name), style.points(name)
        _lines(axes[0, 0], learned, "variance", line, points, label)
        _lines(axes[0, 1], learned, "weight", line, points, label)
        _lines(axes[1, 0], learned, "cost", line, points, label)
        _lines(axes[1, 0], entropic, "cost", line | {"linestyle": ":"}, points | style.HOLLOW)
    axes[0, 0].plot([], [], color="0.4", linestyle=":", label="$U = (\\lambda/2)\\Sigma^{-1}$")
    for axis in (axes[0, 0], axes[0, 1], axes[1, 0]):
        axis.set_xlabel("distance $|m_0-\\mu|/\\sigma$")
    axes[0, 0].set(ylabel="learned variance $/\\Sigma$", ylim=(0, None))
    axes[0, 1].axhline(0, color="0.4", linewidth=0.6, zorder=0)
    axes[0, 1].set_ylabel("learned reward\n$U\\Sigma/\\lambda$")
    axes[1, 0].set_ylabel("cost [nats]")
    axes[1, 0].set_yscale("symlog", linthresh=0.1)
    _groups(axes[1, 1], table[table.arm == GROUP])
    style.legend_below(figure, axes[0, 0], columns=4)
    return figure


def _lines(
    axis: Axes,
    rows: pd.DataFrame,
    column: str,
    line: dict[str, Any],
    points: dict[str, Any],
    label: str | None = None,
) -> None:
    """Draw what is derived as a line, what is learned as markers."""
    derived, found = (rows[rows.kind == kind] for kind in ("predicted", "measured"))
    axis.plot(derived.distance, derived[column], **line)
    axis.plot(found.distance, found[column], **points, label=label)


def _groups(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the stationary variance by λ; beyond the largest λ, arrows for runs that grow."""
    top = 3 * float(table[np.isfinite(table.variance) & (table.kind == "predicted")].variance.max())
    for place, (n, rows) in enumerate(table.groupby("n")):
        name = ("indigo", "peach", "violet", "brown")[place % 4]
        derived, found = (rows[rows.kind == kind] for kind in ("predicted", "measured"))
        line = derived[np.isfinite(derived.variance)]
        axis.plot(line.lam, line.variance, **style.line(name))
        limit = float(derived[np.isinf(derived.variance)].lam.iloc[0])
        points = style.points(name)
        axis.axvline(limit, color=points["color"], linestyle=":", linewidth=0.8)
        ends = found.lam < limit
        axis.plot(found.lam[ends], found.variance[ends], **points, label=f"$n = {n:g}$")
        height = np.full((~ends).sum(), top)
        axis.plot(found.lam[~ends], height, **points | {"marker": "^"}, **style.HOLLOW)
    axis.axhline(1, color="0.4", linestyle=":", linewidth=0.8, zorder=0)
    axis.set(yscale="log", ylim=(None, 2 * top), ylabel="variance by GRPO $/\\Sigma$")
    axis.set_xlabel("entropy weight $\\lambda$")
    axis.legend(fontsize="small", loc="upper left", handlelength=1.0, borderpad=0.2)


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per problem beside a reference: what is derived, and what is learned."""
    table = arrived(table[table.arm != GROUP])
    columns = [*RUNS, "variance", "error", "weight", "cost"]
    derived = table[table.kind == "predicted"][[*columns, "inside"]]
    found = table[table.kind == "measured"][columns]
    return found.merge(derived, on=RUNS, suffixes=(", learned", ", derived"))


def compared_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per trained group policy, with the derived variance and the largest λ."""
    table = table[table.arm == GROUP]
    derived, found = (table[table.kind == kind] for kind in ("predicted", "measured"))
    limits = derived[np.isinf(derived.variance)].set_index("n").lam.rename("largest")
    found = found[["n", "lam", "scale", "variance", "implied", "growth"]].join(limits, on="n")
    stationary = derived[np.isfinite(derived.variance)][["n", "lam", "variance"]]
    return found.merge(stationary, how="left", on=["n", "lam"], suffixes=("", ", derived"))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is derived and learned beside every reference, and by every group policy."""
    rows, groups = _compared(table), compared_groups(table)
    names = {"variance": "variance, learned", "variance, derived": "variance, derived"}
    groups = groups.rename(columns=names).drop(columns=["largest"]).assign(arm=GROUP)
    return pd.concat([rows, groups], ignore_index=True)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and how well derived and learned numbers agree."""
    rows, groups = _compared(table), compared_groups(table)
    failed = not_converged(table[table.arm != GROUP], RUNS, RUNS)
    learned, entropic = (rows[rows.arm == arm] for arm in (LEARNED, ENTROPIC))
    outside = learned[~learned.inside.astype(bool)]
    quantities = ("variance", "error", "weight", "cost")
    apart = max((rows[f"{q}, learned"] - rows[f"{q}, derived"]).abs().max() for q in quantities)
    ends, beyond = groups[groups.lam < groups.largest], groups[groups.lam >= groups.largest]
    off = (ends.implied / ends.lam - 1).abs().max()
    return (
        "Reference policy. Lines: derived; markers: trained. With λ KL(p ‖ p₀) in place of the "
        "entropy the mean stops short of the data, so the best reward takes back variance (top "
        "left), and costs what it cannot get back (bottom left; dotted and hollow: the reward "
        "(λ/2)Σ⁻¹, best with entropy). Where the reference is narrower than the best policy the "
        f"best U is 0 (top right): in {len(outside)} of {len(learned)} problems the loop drives U "
        f"there, and the policy is the reference. Largest distance between derived and learned: "
        f"{apart:.1g}{'' if apart <= AGREES else ', MORE than derived'}.{failed} "
        f"(λ/2)Σ⁻¹ loses up to {_excess(learned, entropic):.2g} nats against the best reward. "
        "Bottom right: rewards divided by the deviation of their group, as commonly published with "
        f"GRPO, and entropy: {len(ends)} runs end where large groups would with a λ within "
        f"{100 * off:.2g} % of theirs, for rewards of scales u from {groups.scale.min():g} to "
        f"{groups.scale.max():g}; dotted: λ = √(2/n), beyond which all {len(beyond)} runs (arrows) "
        f"grow, by a factor of at least {beyond.growth.min():.2g} over a quarter of their steps."
    )


def _excess(learned: pd.DataFrame, entropic: pd.DataFrame) -> float:
    """Return the largest difference in cost at one reference."""
    both = entropic.merge(learned, on=["ratio", "distance"], suffixes=("", " of the best"))
    return float((both["cost, learned"] - both["cost, learned of the best"]).max())
