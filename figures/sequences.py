"""What rewards of positions, windows and whole sequences teach an autoregressive policy."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style

LAWS = {"text": "indigo", "chain": "orange"}
REWARDS = {"Hamming": "green", "pairs": "blue", "exact match": "wine", "NLL": "vermilion"}
NAMES = {
    "text": "characters of a text",
    "chain": "chain of order 1",
    "Hamming": "PG, Hamming",
    "pairs": "PG, pairs that agree",
    "exact match": "PG, exact match",
    "NLL": "NLL, to the data",
}
FLOOR = 1e-8  # nats: below it training has arrived, and curves are not drawn
ROUNDING = 9  # decimals of sums of entropies that cancel
AGREES = 0.02  # nats between a derived loss and that of a trained policy
ARRIVED = 1e-2  # nats from the optimum


def draw(table: pd.DataFrame) -> Figure:
    """Draw the loss by order, training to the known optimum, and bits by position."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=style.size(17))
    _orders(left, table[table.part == "orders"])
    _training(middle, table[table.part == "training"])
    _positions(right, table[table.part == "positions"])
    none: dict[str, Any] = {"color": "0.4", "linestyle": "none", "marker": "o"}
    left.plot([], [], **none, label="trained policy")
    for reward, like in REWARDS.items():
        left.plot([], [], color=style.look(like)["color"], label=reward)
    left.plot([], [], color="0.4", linestyle=":", label="sampled gradient")
    style.legend_below(figure, left, columns=4, names=NAMES)
    return figure


def _orders(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw what the best reward of every order loses, and what policies trained on one do."""
    for law, like in LAWS.items():
        look = style.look(like)
        of_law = rows[rows.law == law].pivot_table(index="k", columns="kind", values="kl")
        axis.plot(of_law.index, of_law.predicted, color=look["color"], label=law)
        axis.plot(of_law.index, of_law.trained, "o", color=look["color"], markersize=3)
    orders = sorted(rows.k.unique())
    axis.set(xlabel="order $k$ of the reward", xticks=orders)
    axis.set_ylabel(style.wrap("KL of the data [nats per sequence]", 1 / 4))
    axis.set_ylim(bottom=-0.04 * rows.kl.max())


def _training(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the distance from the optimum, the median over runs."""
    for reward, like in REWARDS.items():
        color = style.look(like)["color"]
        of_reward = rows[rows.reward == reward]
        for kind, line in (("exact", "-"), ("sampled", ":")):
            curve = of_reward[of_reward.kind == kind].groupby("step").kl.median()
            if len(curve):
                shown = curve.where(curve > FLOOR)
                axis.plot(shown.index, shown, color=color, linestyle=line)
    axis.set(xlabel="step", yscale="log", ylabel=style.wrap("KL to the optimum [nats]", 1 / 4))
    style.decades(axis.yaxis, 6)
    axis.set_xticks([0, rows.step.max()])


def _positions(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the bits of the character at each position, one line for each order."""
    places = sorted(rows.position.astype(int).unique())
    color = style.look(LAWS["text"])["color"]
    orders = sorted(rows.k.unique())
    for k, of_order in rows.groupby("k"):
        shade = 0.35 + 0.65 * orders.index(k) / max(len(orders) - 1, 1)
        bits = of_order.pivot_table(index="position", columns="kind", values="bits")
        axis.plot(bits.index, bits.predicted, color=color, alpha=shade)
        axis.plot(bits.index, bits.trained, "o", color=color, alpha=shade, markersize=3)
        at = (places[-1] + 0.15, float(bits.predicted.iloc[-1]))
        axis.annotate(f"$k = {int(k)}$", at, va="center", annotation_clip=False)
    axis.set(xlabel="position $t$", xlim=(0.8, places[-1] + 1.3), xticks=places)
    axis.set_ylabel(style.wrap("bits per character", 1 / 4))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return what every order loses, predicted, learned and trained."""
    rows = table[table.part == "orders"].assign(k=lambda t: t.k.astype(int))
    wide = rows.pivot_table(index=["law", "k"], columns="kind", values="kl", sort=False)
    exact = wide[["predicted", "learned", "trained"]].round(ROUNDING) + 0.0  # no -0
    return exact.reset_index().rename_axis(columns=None)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and what the numbers are."""
    lost = summary(table)
    apart = (lost.trained - lost.predicted).abs()
    agree = apart.max() <= AGREES
    text, chain = (lost[lost.law == law].set_index("k") for law in LAWS)
    rows = table[table.part == "training"]
    last = rows[rows.step == rows.step.max()].groupby(["reward", "kind"], sort=False).kl.median()
    exact = last[[(reward, "exact") for reward in REWARDS if reward != "NLL"]]
    sampled = last[[(reward, "sampled") for reward in REWARDS if reward != "NLL"]]
    bits = table[table.part == "positions"]
    need = bits[bits.kind == "predicted"].groupby("k").bits.mean()
    return (
        f"Left: what of a law of sequences is lost by the best reward over windows of k + 1 "
        f"symbols. Lines are derived: the total correlation at k = 0 ({text.predicted[0]:.3f} nats "
        f"for windows of characters of The Zen of Python in three groups, "
        f"{chain.predicted[0]:.3f} for a chain of order 1), nothing once the order suffices. "
        f"Markers are recurrent policies trained by policy gradient on rewards that were learned "
        f"by likelihood: they {'agree' if agree else 'do NOT all agree'}, the largest difference "
        f"is {apart.max():.2g} nats. Middle: policies on rewards that compare with the data, and "
        f"their distance to the known inner solution: after {int(rows.step.max())} steps of the "
        f"exact gradient at most {exact.max():.1g} nats"
        f"{'' if exact.max() <= ARRIVED else ' (NOT there yet)'}, of the sampled one "
        f"{sampled.min():.1g} to {sampled.max():.1g}; likelihood is "
        f"{last['NLL', 'exact']:.1g} nats from the data. Medians over runs. Right: the text's bits "
        f"per character by position; a law of order k needs {need.iloc[0]:.3f} on average for "
        f"k = 0, {need.iloc[-1]:.3f} for the whole window."
    )
