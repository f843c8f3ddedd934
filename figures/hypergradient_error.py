"""The error of hypergradients against their cost, and against the error of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments.convergence import arrived, not_converged

from . import style

METHODS = {
    "CG": "blue",
    "Nyström-CG": "green",
    "Neumann series": "vermilion",
    "truncated": "orange",
    "one step": "brown",
    "warm start": "sky",
    "cold start": "wine",
}
LABELS = {
    "truncated": "truncated unrolling",
    "one step": "one step",
    "warm start": "unrolling, warm start",
    "cold start": "unrolling, cold start",
}
PROBLEMS = ("blue", "vermilion", "green")  # their looks, in order
POINTS = {"left by ascent": "-", "random": (0, (2, 1.5))}
FLOOR = 1e-13  # below, rounding
TENTH = 0.1  # an inner error of 10 %
GOAL = 1e-6  # an error that counts as solved
NONE = "no converged run"  # in the place of a number
PREDICTED: dict[str, Any] = {"linestyle": ":", "linewidth": 0.8, "zorder": 1.5}
SNUG: dict[str, Any] = {
    "borderpad": 0,
    "borderaxespad": 0.2,
    "handletextpad": 0.4,
    "labelspacing": 0.2,
}


def draw(table: pd.DataFrame) -> Figure:
    """Draw error against cost for each problem; against penalty, inner error and its estimate."""
    labels = dict(zip(table.problem, table.label, strict=True))
    problems, table = list(table.problem.unique()), arrived(table)
    figure, axes = plt.subplots(2, len(problems), figsize=style.size(33))
    for axis, problem in zip(axes[0], problems, strict=True):
        _costs(axis, table[(table.problem == problem) & (table.sweep == "cost")])
        axis.set_title(style.wrap(problem, 1 / 3))
    penalties, inner_errors, estimates = axes[1]
    for problem, like in zip(problems, PROBLEMS, strict=True):
        rows, color = table[table.problem == problem], style.look(like)["color"]
        _penalty(penalties, rows[rows.sweep == "penalty"], color, labels[problem])
        for kind, linestyle in POINTS.items():
            chosen = rows[(rows.sweep == "inner error") & (rows.method == kind)]
            medians = chosen.groupby("setting")[["error", "estimate"]].median()
            inner_errors.plot(medians.index, medians.error, color=color, linestyle=linestyle)
            estimates.plot(medians.estimate, medians.error, color=color, linestyle=linestyle)
    for axis in axes.flat:
        axis.set_yscale("log")
        style.decades(axis.yaxis, 5)
    for axis in (penalties, inner_errors, estimates):
        axis.set_xscale("log")
        style.decades(axis.xaxis, 5)
    penalties.set_ylim(1e-9, 3)
    for axis in (inner_errors, estimates):
        axis.set_ylim(3e-7, 3)
        line = axis.get_xlim()
        axis.plot(line, line, color="0.4", linestyle=":", linewidth=0.8, zorder=1)
        axis.set_xlim(line)
    for kind, linestyle in POINTS.items():
        inner_errors.plot([], [], color="0.3", linestyle=linestyle, label=kind)
    penalties.set(xlabel="weight $\\varsigma$ of the penalty")
    inner_errors.set(xlabel=style.wrap("inner error", 1 / 3))
    estimates.set(xlabel=style.wrap("its estimate", 1 / 3))
    for axis in axes[:, 0]:
        axis.set_ylabel("relative error")
    for axis in (*axes[0, 1:], estimates):
        axis.tick_params(labelleft=False)
    penalties.legend(loc="lower left", **SNUG)
    inner_errors.legend(loc="lower right", **SNUG)
    style.legend_below(figure, axes[0, 0], columns=4, names=LABELS)
    return figure


def _costs(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw every method, and thin and dotted the rate predicted for it."""
    for method, like in METHODS.items():
        curve, look = rows[rows.method == method], style.look(like)
        shown = curve[curve.error.shift(fill_value=1.0) > FLOOR]  # until it is below
        alone = method in ("truncated", "one step")  # truncated: on the line of the series
        axis.plot(
            shown.cost,
            shown.error,
            color=look["color"],
            linestyle="none" if alone else look["linestyle"],
            marker=look["marker"] if alone else None,
            markevery=0.09 if method == "truncated" else None,  # of the diagonal
            markersize={"truncated": 3.5, "one step": 7}.get(method),
            fillstyle="none" if method == "truncated" else "full",
            zorder=3 if alone else 2,
            label=method,
        )
        if method in ("CG", "Neumann series", "cold start"):
            until = curve.drop_duplicates("cost")  # a solver that is done goes no further
            axis.plot(until.cost, until.predicted, color=look["color"], **PREDICTED)
    axis.plot([], [], color="0.3", label="predicted", **PREDICTED)
    axis.set(xlabel="products or steps", xlim=(0, 1.04 * rows.setting.max()), ylim=(FLOOR, 10))


def _penalty(axis: Axes, rows: pd.DataFrame, color: str, label: str) -> None:
    axis.plot(rows.setting, rows.error, color=color, label=label)
    axis.plot(rows.setting, rows.predicted, color=color, **PREDICTED)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each problem and method, what a small error costs, and the errors at the end."""
    rows: list[dict[str, object]] = []
    for (problem, sweep, method), runs in arrived(table).groupby(
        ["problem", "sweep", "method"], sort=False
    ):
        medians = runs.groupby("setting")[["cost", "error", "predicted", "estimate"]].median()
        row: dict[str, object] = {"problem": problem, "method": method}
        if sweep == "inner error":
            nearest = medians.iloc[np.argmin(np.abs(np.log(medians.index / TENTH)))]
            row |= {"inner error": nearest.name, "estimate": nearest.estimate}
        else:
            nearest = medians.iloc[-1]
            good = medians[medians.error < GOAL]
            row |= {f"cost of {GOAL:g}": good.cost.iloc[0] if len(good) else np.nan}
            row |= {"setting": nearest.name, "predicted": nearest.predicted}
        rows.append(row | {"error": nearest.error})
    columns = ["setting", f"cost of {GOAL:g}", "inner error", "estimate", "error", "predicted"]
    return pd.DataFrame(rows, columns=["problem", "method", *columns])


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and what the numbers are."""
    failed = not_converged(
        table, ["problem", "method", "setting", "direction"], ["problem", "method"]
    )
    problems, table = list(table.problem.unique()), arrived(table)
    rows = summary(table).set_index(["problem", "method"])
    costs = table[table.sweep == "cost"]
    both = costs.pivot_table(index=["problem", "setting"], columns="method", values="error")
    apart = (both["truncated"] - both["Neumann series"]).abs().max()

    def text(method: str, column: str, form: str) -> str:
        values = [rows.loc[(problem, method), column] for problem in problems]
        return ", ".join("not reached" if np.isnan(v) else format(v, form) for v in values)

    goal = f"cost of {GOAL:g}"
    return (
        "Hypergradient error. Relative error of the hypergradient against a closed form, for "
        f"{'; '.join(problems)}. Above: against Hessian-vector products, as the solver counts "
        "them (with a Nyström sketch and the final check), or unrolled steps differentiated; all "
        "but unrolling from a warm and a cold start are given the inner solution. Dotted: what the "
        "theory predicts, CG's bound 2((√κ-1)/(√κ+1))^k and the slowest part c(1-ημ)^k of the "
        "other methods (where the constant has a closed form), η one over the largest curvature, μ "
        "the least that matters. "
        f"Products to an error of {GOAL:g}, of the numbers tried: CG "
        f"{text('CG', goal, '.0f')}; "
        f"Nyström-CG {text('Nyström-CG', goal, '.0f')}; Neumann series "
        f"{text('Neumann series', goal, '.0f')}, with errors of "
        f"{text('Neumann series', 'error', '.2g')} at the end. Unrolling truncated to k steps is "
        f"the Neumann series of k terms (largest difference {apart:.1g}). A single step is wrong "
        f"by {text('one step', 'error', '.0%')}.\n"
        "Below, left: the penalty, dotted its predicted bias ∝ 1/ς"
        f"{_penalised(table, problems)}. "
        "Below, middle and right: the implicit hypergradient at a point that is not stationary, "
        "against its distance from the solution and against what the diagnostics make of that, "
        "stationarity over curvature, all relative to ‖θ‖; dotted: equality; medians of "
        f"{table.direction.nunique()} points, either what gradient ascent leaves (the direction "
        f"of least curvature) or random ones.{_off(table, rows, problems)}{failed}"
    )


def _penalised(table: pd.DataFrame, problems: list[str]) -> str:
    """Say how wrong the penalty is at the largest weight."""
    penalties = table[table.sweep == "penalty"]
    if penalties.empty:
        return ""
    largest = penalties.setting.max()
    at_end = penalties[penalties.setting == largest].set_index("problem").error
    errors = ", ".join(f"{at_end[p]:.1g}" if p in at_end else NONE for p in problems)
    return f"; error at ς = {largest:.0e}: {errors}"


def _off(table: pd.DataFrame, rows: pd.DataFrame, problems: list[str]) -> str:
    """Say what inner errors do to the hypergradient, and what is estimated of them."""
    points = table[table.sweep == "inner error"]
    if points.empty:
        return ""

    def share(problem: str, method: str, column: str, form: str) -> str:
        found = rows[column].get((problem, method))
        return NONE if found is None else format(found, form)

    wrong = "; ".join(
        f"{problem}: {share(problem, 'left by ascent', 'error', '.1%')} (estimate "
        f"{share(problem, 'left by ascent', 'estimate', '.1%')}), in a random direction "
        f"{share(problem, 'random', 'error', '.1%')} "
        f"({share(problem, 'random', 'estimate', '.0%')})"
        for problem in problems
    )
    level = points.setting.unique()[np.argmin(np.abs(np.log(points.setting.unique() / TENTH)))]
    return (
        f" An inner error of {level:.0%} makes the hypergradient wrong by, in {wrong}. The "
        f"estimate is {_range(points, 'left by ascent')} times the inner error at the former "
        f"points, {_range(points, 'random')} times at the latter. The solver warned of "
        f"{points.warned.mean():.0%} of them."
    )


def _range(points: pd.DataFrame, method: str) -> str:
    """Say between what the estimate of the inner error lies, relative to it."""
    chosen = points[points.method == method]
    ratio = chosen.estimate / chosen.setting
    return f"{ratio.min():.2g} to {ratio.max():.2g}" if len(ratio) else NONE
