"""The cost of the covariance in the reward, predicted and measured on real data."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from paper_checks.experiments.convergence import arrived, not_converged

from . import style

LOOKS = {
    "residual Σ": ("o", "blue"),
    "marginal Σ": ("^", "vermilion"),
    "scalar of residual Σ": ("s", "green"),
}
CLAIM = 1e-6  # nats per row within which prediction and measurement must agree


def draw(table: pd.DataFrame) -> Figure:
    """Draw measured against predicted cost, and their distance for every table."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=style.size(20.5), gridspec_kw={"width_ratios": [1, 1.35]}
    )
    # Ticks may change with the width that names leave, after the layout has looked at them.
    figure.set_layout_engine("constrained", w_pad=0.12)
    problems, table = list(dict.fromkeys(_names(table))), arrived(table)
    for shift, (reward, (marker, like)) in zip((-0.22, 0, 0.22), LOOKS.items(), strict=True):
        rows = table[table.reward == reward]
        color = style.look(like)["color"]
        style_of = {"marker": marker, "color": color, "linestyle": "none", "fillstyle": "none"}
        left.plot(rows.predicted, rows.measured, label=f"$U$ from {reward}", **style_of)
        positions = np.array([problems.index(name) for name in _names(rows)]) + shift
        right.plot(_distance(rows), positions, **style_of)
    top = 1.08 * float(np.nanmax([table.predicted.max(), table.measured.max(), 1e-3]))
    left.plot([0, top], [0, top], color="0.6", linewidth=0.8, zorder=0)
    left.set(
        xlabel=style.wrap("predicted cost [nats\xa0/\xa0row]", 0.27),
        ylabel=style.wrap("measured cost [nats\xa0/\xa0row]", 0.27),
        xlim=(-0.03 * top, top),
        ylim=(-0.03 * top, top),
    )
    left.set_aspect("equal")
    right.axvline(CLAIM, color="0.4", linestyle="--", linewidth=0.8)
    right.text(CLAIM, -0.72, " $10^{-6}$", fontsize="small", color="0.4", va="center")
    distance = style.wrap("|measured\xa0-\xa0predicted| [nats\xa0/\xa0row]", 0.35)
    right.set(xscale="log", xlabel=distance, xlim=(3e-17, 3e-4))
    labels = [style.wrap_name(problem, 0.30, "ytick.labelsize") for problem in problems]
    # Names are the user's: a $ in them is a $.
    right.set_yticks(range(len(problems)), labels, parse_math=False)
    right.set_ylim(len(problems) - 0.4, -1.0)
    style.legend_below(figure, left, columns=3)
    return figure


def _names(table: pd.DataFrame) -> list[str]:
    return [f"{row.table}: {row.targets}" for row in table.itertuples()]


def _distance(table: pd.DataFrame) -> pd.Series:
    """Return |measured - predicted|, at least the spacing of doubles so that 0 can be drawn."""
    return (table.measured - table.predicted).abs().clip(lower=np.finfo(float).eps / 2)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn and how well prediction and measurement agree."""
    failed = not_converged(table, ["table", "targets", "reward", "lam"], ["table", "targets"])
    return (
        "Wrong covariance. Linear mean, one full covariance, analytic policy gradient trained to "
        f"convergence on real data{'' if failed else ' (every run converged)'}, λ in "
        f"{sorted(set(table.lam))}. Excess NLL over the maximum-likelihood fit against the "
        "prediction ½[log det(SΣ̄⁻¹) + Tr(S⁻¹Σ̄) - n] for the reward U = (λ/2)S⁻¹."
        f"{failed}{_findings(arrived(table))}{_advice(table)}"
    )


def _advice(table: pd.DataFrame) -> str:
    """Say which structure of the reward to learn from each table."""
    each = table.drop_duplicates(["table", "targets"])
    several = each[each.n > 1] if (each.n > 1).any() else each
    said = "; ".join(f"{row.table} {row.targets}: {row.advice}" for row in several.itertuples())
    return f" Which structure of U to learn, by the loss expected on new rows: {said}."


def _findings(table: pd.DataFrame) -> str:
    """Say what the runs that converged have found, as far as there are any."""
    residual = table[table.reward == "residual Σ"].measured.abs()
    marginal = table[(table.reward == "marginal Σ")].groupby(["table", "targets"]).measured.first()
    costs = "; ".join(f"{name} {targets}: {cost:.4f}" for (name, targets), cost in marginal.items())
    text = ""
    if len(table):
        text += f" Largest distance {_distance(table).max():.1e} nats per row"
        if len(residual):
            text += f"; the residual Σ̄ lands within {residual.max():.1e} of maximum likelihood"
        text += "."
    if costs:
        text += f" The marginal covariance costs, in nats per row: {costs}."
    return text


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return predicted and measured cost for every table, reward and λ, and what to learn."""
    columns = ["table", "targets", "n", "learn", "reward", "lam", "predicted"]
    measured = table.measured.where(table.converged)
    found = {"measured": measured, "distance": (measured - table.predicted).abs()}
    return table[columns].assign(**found, converged=table.converged)
