"""What is forgotten of a base, by likelihood and by policy gradient, where both are as good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from paper_checks import statistics
from paper_checks.experiments.convergence import arrived, not_converged
from paper_checks.experiments.forgetting import (
    KEYS,
    at_level,
    compared,
    matched_digits,
    matched_paths,
)
from paper_checks.experiments.forgetting_digits import BESIDE, MEASURES

from . import style

LOOKS = {
    "NLL": "vermilion",
    "PG": "blue",
    "NLL(p*)": "orange",
    "NLL+KL": "wine",
    "PG+KL": "green",
}
NAMES = {
    "PG": "PG, best or learned reward",
    "NLL(p*)": "NLL of the reward's $p^\\star$",
    "NLL+KL": "NLL + $w$ KL$(p\\Vert p_0)$",
    "PG+KL": "PG, $w$ KL$(p\\Vert p_0)$",
}
WORDS = {
    "old_loss": "loss",
    "old_error": "error",
    "forward_new": "$p_0\\Vert p$, new",
    "reverse_new": "$p\\Vert p_0$, new",
    "forward_old": "$p_0\\Vert p$, old",
    "reverse_old": "$p\\Vert p_0$, old",
}
BY, LEVEL = "new_loss", 0.5  # where the measures are drawn
EASY = 1.0  # where most runs with KL to the base arrive
RUN = ["arm", "w", "split"]


def draw(table: pd.DataFrame) -> Figure:
    """Draw Gaussian paths in both directions of KL, two modes, and the digits."""
    figure, axes = plt.subplots(2, 3, figsize=style.size(36))
    paths = table[table.part == "paths"]
    _path(axes[0, 0], paths, "to_data", "forward", ("q\\Vert p", "p_0\\Vert p"))
    _path(axes[0, 1], paths, "back_to_data", "reverse", ("p\\Vert q", "p\\Vert p_0"))
    _modes(axes[0, 2], table[table.part == "modes"])
    digits = arrived(table[table.part == "digits"])
    matched = matched_digits(digits)
    _trajectories(axes[1, 0], digits)
    _measures(axes[1, 1], matched)
    _weights(axes[1, 2], matched)
    for name in LOOKS:
        axes[0, 0].plot([], [], label=name, **style.look(LOOKS[name]))
    style.legend_below(figure, axes[0, 0], columns=5, names=NAMES)
    return figure


def _path(axis: Axes, rows: pd.DataFrame, x: str, y: str, names: tuple[str, str]) -> None:
    """Draw derived paths from the farthest base of the data's variance, trainings as markers."""
    distance = rows.distance.max()
    ratio = rows.ratio.iloc[(rows.ratio - 1).abs().argmin()]
    rows = rows[(rows.distance == distance) & (rows.ratio == ratio)]
    for (kind, method), path in rows[rows[x] > 0.005 * rows[x].max()].groupby(["kind", "method"]):
        look = LOOKS[str(method)]
        if kind == "predicted":
            axis.plot(path[x], path[y], **style.line(look))
            continue
        marks = [int(np.abs(path[x] - s * path[x].max()).argmin()) for s in np.linspace(0.02, 1, 9)]
        hollow: dict[str, Any] = {"markerfacecolor": "white"} if kind == "plain" else {}
        points = style.points(look) | hollow
        axis.plot(path[x].iloc[marks], path[y].iloc[marks], **points, markersize=2.8)
    axis.set(xlabel=f"KL$({names[0]})$", ylabel=f"KL$({names[1]})$", xlim=(None, 0))
    axis.invert_xaxis()
    axis.set_xlim(rows[rows.kind == "natural"][x].max() * 1.05, 0)
    axis.set_ylim(0, None)
    axis.set_title("Gaussian")


def _modes(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the old mode's weight by time: derived lines, trainings as markers."""
    farthest = rows.distance.max()
    for (kind, method, distance), curve in rows.groupby(["kind", "method", "distance"]):
        look = LOOKS[str(method)]
        near: dict[str, Any] = {} if distance == farthest else {"alpha": 0.5}
        if kind == "predicted":
            axis.plot(curve.time, curve.weight, **style.line(look), **near)
        else:
            some = curve.iloc[::3]
            axis.plot(some.time, some.weight, **style.points(look), **near, markersize=2.8)
    axis.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="old weight")
    for side in (axis.xaxis, axis.yaxis):
        style.decades(side, 5)
    axis.set_title("two modes")


def _trajectories(axis: Axes, digits: pd.DataFrame) -> None:
    """Draw the mean old loss by new loss, where most runs come to."""
    w = _weight(digits)
    for name, look in LOOKS.items():
        runs = digits[(digits.arm == name) & (digits.w == (w if name in BESIDE else 0))]
        levels = np.geomspace(8, 0.15, 16)
        values = [_run_at(run, levels) for _, run in runs.groupby("split")]
        if not values:
            continue
        reached = np.isfinite(values).mean(0) > 0.5
        mean = np.array([np.nanmean(v) if ok else np.nan for v, ok in zip(
            np.transpose(values), reached, strict=True)])  # fmt: skip
        axis.plot(levels, mean, markevery=3, **style.look(look))
    axis.set(xscale="log", xlabel="new loss [nats]", ylabel="old loss [nats]", xlim=(9, 0.12))
    axis.set_xticks([8, 1, 0.2], ["8", "1", "0.2"])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title("digits")


def _run_at(run: pd.DataFrame, levels: np.ndarray) -> list[float]:
    run = run.sort_values("step")
    losses = run.new_loss.to_numpy(float), run.old_loss.to_numpy(float)
    return [at_level(*losses, level) for level in levels]


def _weight(digits: pd.DataFrame) -> float:
    """Return the middle weight of the KL to the base."""
    weights = sorted(w for w in digits.w.unique() if w > 0)
    return weights[len(weights) // 2]


def _measures(axis: Axes, matched: pd.DataFrame) -> None:
    """Draw by every measure how much more is forgotten than by NLL, relative to it."""
    rows = _differences(matched)
    axis.axvline(0, color="0.4", linewidth=0.6)
    for shift, name in ((-0.12, "PG"), (0.12, "NLL(p*)")):
        own, look = rows[rows.arm == name], style.look(LOOKS[name])
        places = np.arange(len(own)) + shift
        ends = np.array([own["mean"] - own.low, own.high - own["mean"]]) / own.of_NLL.to_numpy()
        axis.errorbar(own["mean"] / own.of_NLL, places, xerr=ends, fmt=look["marker"],
                      color=look["color"], markersize=3, linewidth=0.9)  # fmt: skip
    axis.set_yticks(range(len(MEASURES)), [WORDS[name] for name in MEASURES])
    axis.invert_yaxis()
    axis.set_xlabel("more than NLL, relative")
    axis.set_title(f"at {LEVEL:g} nats")


def _differences(matched: pd.DataFrame) -> pd.DataFrame:
    """Return a row per measure and plain arm: the difference to NLL, and NLL's own mean."""
    found: list[dict[str, Any]] = []
    nll = matched[(matched.arm == "NLL") & (matched.by == BY) & (matched.level == LEVEL)]
    for name in ("PG", "NLL(p*)"):
        for measure in MEASURES:
            rows = compared(matched, (name, 0.0), ("NLL", 0.0), measure)
            row = rows[(rows.by == BY) & (rows.level == LEVEL)].iloc[0]
            of_nll = float(nll[measure].mean())
            found.append({"arm": name, "measure": measure, **row, "of_NLL": of_nll})
    return pd.DataFrame(found)


def _weights(axis: Axes, matched: pd.DataFrame) -> None:
    """Draw the old loss by the weight of the KL to the base; hollow: not all runs arrive."""
    here = matched[(matched.by == BY) & (matched.level == EASY)]
    weights = sorted(here.w.unique())
    for shift, (plain, beside) in ((-0.08, ("NLL", "NLL+KL")), (0.08, ("PG", "PG+KL"))):
        for place, w in enumerate(weights):
            name = beside if w else plain
            runs = here[(here.arm == name) & (here.w == w)].old_loss
            reached, look = runs.dropna(), style.look(LOOKS[name])
            if len(reached) < 2:
                continue
            interval = statistics.mean_interval(reached, statistics.FAMILY)
            face = look["color"] if len(reached) == len(runs) else "white"
            ends = [[reached.mean() - interval.low], [interval.high - reached.mean()]]
            axis.errorbar([place + shift], [reached.mean()], yerr=ends, fmt=look["marker"],
                          color=look["color"], markerfacecolor=face, markersize=4)  # fmt: skip
    axis.set_xticks(range(len(weights)), [f"{w:g}" for w in weights])
    axis.set(xlabel="weight $w$ of KL", ylabel="old loss [nats]", ylim=(0, None))
    axis.set_xlim(-0.5, len(weights) - 0.5)
    axis.set_title(f"at {EASY:g} nat")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by measure and where matched, how much more PG forgets than its rivals.

    With KL to the base, of the splits where both arrive; where fewer than two do, there is no row.
    """
    matched = matched_digits(arrived(table[table.part == "digits"]))
    pairs = [(("PG", 0.0), ("NLL", 0.0)), (("PG", 0.0), ("NLL(p*)", 0.0))]
    pairs += [(("PG+KL", w), ("NLL+KL", w)) for w in sorted(matched.w.unique()) if w > 0]
    found = pd.concat(
        [
            compared(matched, arm, against, measure).assign(
                arm=arm[0], against=against[0], w=arm[1], measure=measure
            )
            for arm, against in pairs
            for measure in MEASURES
        ],
        ignore_index=True,
    )
    columns = ["arm", "against", "w", "measure", "by", "level", "pairs", "mean", "low", "high"]
    return found.dropna(subset="mean")[columns].reset_index(drop=True)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, who forgets less by which measure, and which runs did not arrive."""
    digits = table[table.part == "digits"]
    left_out = not_converged(digits, RUN, ["arm"])
    matched = matched_digits(arrived(digits))
    rows = _differences(matched).set_index(["arm", "measure"])
    here = matched[(matched.by == BY) & (matched.level == EASY)]
    beside = here[here.arm.isin(BESIDE)]
    late = beside[beside.old_loss.isna()].groupby("arm").size()
    unarrived = ", ".join(
        f"{n} of {(beside.arm == name).sum()} of {name}" for name, n in late.items()
    )
    modes = table[table.part == "modes"].pivot_table(
        index=["method", "distance", "time"], columns="kind", values="logit"
    )
    apart = (modes.trained - modes.predicted).abs().max()
    return (
        "Forgetting: is less of the base p₀ lost by policy gradient (PG) than by likelihood? "
        "Top left and middle: a Gaussian policy is trained from p₀ to data q; lines are derived, "
        "markers trained by natural gradients, hollow ones by plain gradients in (m, log s). "
        f"{_said(table)} Top right: a policy of two modes, trained on the new one, by NLL and by "
        "PG with the best reward for the new data; pale: modes less far apart. Log-odds of the old "
        f"mode differ from the derived leading order (lines) by at most {apart:.2g}, by "
        "which PG drops it about δ²/2 times as fast. "
        "Bottom: a network trained on the digits 0 to 4, then on 5 to 9 "
        f"alone, {digits.split.nunique()} splits, measured on rows not trained on; PG has a reward "
        "learned from the new digits. Methods are compared where they have come to the same new "
        f"loss. PG less NLL at {LEVEL:g} nats, where above 0 PG has forgotten more: old loss "
        f"{_more(rows, 'PG', 'old_loss')}, on new inputs KL(p₀ ‖ p) "
        f"{_more(rows, 'PG', 'forward_new')} and KL(p ‖ p₀) "
        f"{_more(rows, 'PG', 'reverse_new')}; likelihood of the solution p* of the same reward, "
        f"less NLL: old loss {_more(rows, 'NLL(p*)', 'old_loss')}. "
        "Intervals are simultaneous over levels, not over measures, and say what other splits of "
        f"the same table would give. Bottom right: with KL to the base, after a new loss of "
        f"{EASY:g} nat; hollow: not all runs come to it (left out: {unarrived or 'none'})."
        f"{left_out}"
    )


def _more(rows: pd.DataFrame, arm: str, measure: str) -> str:
    row = rows.loc[(arm, measure)]
    return f"{row['mean']:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"


def _said(table: pd.DataFrame) -> str:
    """Say who has forgotten less, by both directions of KL."""
    words: list[str] = []
    for by, measure, name, better in (
        ("to_data", "forward", "KL(p₀ ‖ p) at equal KL(q ‖ p)", "NLL"),
        ("back_to_data", "reverse", "KL(p ‖ p₀) at equal KL(p ‖ q)", "PG"),
    ):
        counts: list[str] = []
        for kind in ("natural", "plain"):
            rows = matched_paths(table, kind, by).dropna()
            rows = rows[rows.measure == measure]
            least = rows[["NLL", "PG"]].idxmin(axis=1)
            counts.append(f"{(least == better).sum()} of {len(rows)}")
        words.append(f"{better} has the least {name} in {counts[0]} cases (plain: {counts[1]})")
    bases = len(table[table.part == "paths"].drop_duplicates(KEYS))
    return f"From {bases} bases, at three levels each, {' and '.join(words)}."
