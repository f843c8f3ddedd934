"""The layout of figures: at no venue is a text cut, and none overlaps another."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from figures import catalogue, pipeline, style
from figures import figure_1 as drawing_1
from figures.catalogue import FigureSpec
from figures.tables_1_2 import NAMES
from figures.venues import Venue
from paper_checks.experiments import (
    bounded_reward,
    estimator_variance,
    figure_1,
    figure_2,
    figure_3,
    forgetting,
    full_covariance,
    how_much_data,
    hypergradient_error,
    outer_paths,
    overshoot,
    reference_policy,
    sequences,
    table_3,
    tables_1_2,
    who_is_faster,
    wrong_covariance,
)
from tests import walks
from tests.shapes import unchecked

SMALL = replace(figure_1.CORRECTED, experiments=1, lams=(0.25,))


@cache
@unchecked()
def corrected() -> pd.DataFrame:
    return figure_1.run(SMALL, seed=0)


@cache
@unchecked()
def published() -> pd.DataFrame:
    return figure_1.run(replace(figure_1.ONE_RUN, experiments=3, lams=(0.25,)), seed=0)


@cache
@unchecked()
def real() -> pd.DataFrame:
    return wrong_covariance.run(wrong_covariance.Settings(lams=(1.0,)), seed=0)


def test_captions_stand_a_level_where_every_run_of_an_arm_diverged() -> None:
    analytic, metric = "PG(U*), analytic", "mean_error"
    for arm, leads in (("NLL", False), (analytic, True)):
        table = corrected().copy()
        lost = (table.arm == arm) & (table.sigma == table.sigma.min())
        table.loc[lost, list(figure_1.METRICS)] = np.nan
        assert ("0.1" in drawing_1.where_nll_leads(table, analytic, metric, 100)) == leads
        assert "over 7 experiments" in drawing_1.caption(table)
        summary = drawing_1.summary(table)
        lowest = summary[(summary["σ"] == "0.1") & (summary.arm == arm)]
        assert lowest["median of"].tolist() == ["failure fraction"]
        assert lowest["epoch 100"].tolist() == [1.0]


@cache
@unchecked()
def evolution() -> pd.DataFrame:
    fast = replace(figure_2.QUICK, repetitions=1, settling_epochs=120, settling_samples=10)
    return figure_2.run(fast, seed=0)


@cache
@unchecked()
def evolution_as_published() -> pd.DataFrame:
    return figure_2.run(figure_2.AS_PUBLISHED, seed=0)


@cache
@unchecked()
def covariance() -> pd.DataFrame:
    return full_covariance.run(
        replace(full_covariance.CORRECTED, experiments=3, generations=5), seed=0
    )


@cache
@unchecked()
def covariance_as_published() -> pd.DataFrame:
    fast = replace(full_covariance.AS_PUBLISHED, experiments=3, generations=5)
    return full_covariance.run(fast, seed=0)


@cache
@unchecked()
def hypergradients() -> pd.DataFrame:
    return hypergradient_error.run(
        replace(hypergradient_error.QUICK, size=20, products=(1, 2, 8, 32, 64)), seed=0
    )


@cache
@unchecked()
def samples() -> pd.DataFrame:
    return how_much_data.run(replace(how_much_data.QUICK, repetitions=50), seed=0)


@cache
@unchecked()
def trajectories() -> pd.DataFrame:
    return outer_paths.run(replace(outer_paths.QUICK, rows=50, steps=30, loops=200), seed=0)


@cache
@unchecked()
def races() -> pd.DataFrame:
    return who_is_faster.run(replace(who_is_faster.QUICK, small=0.02, steps=200), seed=0)


@cache
@unchecked()
def binary() -> pd.DataFrame:
    return overshoot.run(overshoot.Settings(repetitions=2, generations=10, steps=100), seed=0)


@cache
@unchecked()
def beside_a_reference() -> pd.DataFrame:
    fast = replace(reference_policy.QUICK, dimensions=(1, 2, 3), generations=8, steps=20)
    return reference_policy.run(fast, seed=0)


@cache
@unchecked()
def bounded() -> pd.DataFrame:
    fast = replace(bounded_reward.QUICK, ladders=1, rows=4, sampled_steps=30, widths=3)
    return bounded_reward.run(fast, seed=0)


@cache
@unchecked()
def noisy() -> pd.DataFrame:
    fast = replace(
        estimator_variance.QUICK, batches=4, size=50, groups=(2, 50), members=2, steps=10
    )
    return estimator_variance.run(fast, seed=0)


@cache
@unchecked()
def words() -> pd.DataFrame:
    return sequences.run(replace(sequences.QUICK, T=5, steps=20, compared_steps=20), seed=0)


@cache
@unchecked()
def forgotten() -> pd.DataFrame:
    fast = replace(
        forgetting.QUICK,
        ratios=(1.0,),
        rate=0.02,
        modes=replace(forgetting.QUICK.modes, horizon=0.5),
        digits=replace(forgetting.QUICK.digits, splits=2, weights=(0.03, 0.1, 0.3), epochs=150),
    )
    return forgetting.run(fast, seed=0)


@cache
@unchecked()
def classification() -> pd.DataFrame:
    """Run the fastest table only, and call it by the names of all."""
    fast = replace(tables_1_2.QUICK, names=("iris",), splits=(0, 1), repetitions=2, updates=100)
    table = tables_1_2.run(fast, seed=0)
    return pd.concat([table.assign(name=name) for name in NAMES], ignore_index=True)


@cache
@unchecked()
def classification_as_published() -> pd.DataFrame:
    return tables_1_2.run(replace(tables_1_2.AS_PUBLISHED, epochs=4, generations=5), seed=0)


@cache
@unchecked()
def implicit() -> pd.DataFrame:
    fast = replace(figure_3.QUICK, repetitions=1, epochs=3, inner_steps=5)
    return figure_3.run(fast, seed=0)


@cache
@unchecked()
def implicit_as_published() -> pd.DataFrame:
    fast = replace(figure_3.AS_PUBLISHED, published_repetitions=2, epochs=6, inner_steps=5)
    return figure_3.run(fast, seed=0)


@cache
@unchecked()
def dynamics() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_3, "transitions", walks.transitions)
        small = replace(walks.SMALL, environments=("halfcheetah", "hopper", "walker2d"))
        return table_3.run(small, seed=0)


@cache
@unchecked()
def dynamics_as_published() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_3, "transitions", walks.transitions)
        return table_3.run(walks.SMALL_AS_PUBLISHED, seed=0)


TABLES = {
    "figure-1": corrected,
    "figure-1-as-published": published,
    "figure-2": evolution,
    "figure-2-grid": evolution,
    "figure-2-as-published": evolution_as_published,
    "figure-2-grid-as-published": evolution_as_published,
    "figure-3": implicit,
    "figure-3-as-published": implicit_as_published,
    "tables-1-2": classification,
    "tables-1-2-as-published": classification_as_published,
    "table-3": dynamics,
    "table-3-as-published": dynamics_as_published,
    "full-covariance": covariance,
    "full-covariance-as-published": covariance_as_published,
    "wrong-covariance": real,
    "how-much-data": samples,
    "hypergradient-error": hypergradients,
    "who-is-faster": races,
    "outer-paths": trajectories,
    "reference-policy": beside_a_reference,
    "bounded-reward": bounded,
    "estimator-variance": noisy,
    "sequences": words,
    "forgetting": forgotten,
    "overshoot": binary,
}


def tick_labels(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if low <= tick.get_loc() <= high:
            yield tick.label1


def all_texts(figure: Figure) -> list[Text]:
    """Return every text that is drawn, with a position on the canvas."""
    found = list(figure.texts)
    for legend in figure.legends:
        found += legend.get_texts()
    for axes in figure.axes:
        if legend := axes.get_legend():
            found += legend.get_texts()
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        found += [*tick_labels(axes.xaxis), *tick_labels(axes.yaxis)]
    return [text for text in found if text.get_visible() and text.get_text()]


def faults(figure: Figure) -> list[str]:
    """Say which texts leave the figure or overlap; a pixel does not count."""
    figure.draw_without_rendering()
    boxes = [(text, text.get_window_extent().padded(-1)) for text in all_texts(figure)]
    cut = [
        f"{text.get_text()!r} is cut"
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]
    # The boxes of slanted neighbours overlap although the texts do not.
    overlapping = [
        f"{one.get_text()!r} overlaps {other.get_text()!r}"
        for (one, a), (other, b) in combinations(boxes, 2)
        if a.overlaps(b) and not one.get_rotation() % 90 == other.get_rotation() % 90 == 60
    ]
    return cut + overlapping


def distinct() -> list[Venue]:
    """One venue for each text width with its font sizes: the others' pictures are the same."""
    found: dict[tuple[tuple[float, float], str], Venue] = {}
    for venue in Venue:
        with style.context(venue):
            sizes = {key: value for key, value in plt.rcParams.items() if "size" in key}
            found.setdefault((style.size(12), str(sizes)), venue)
    return list(found.values())


@pytest.mark.parametrize("venue", distinct())
@pytest.mark.parametrize("spec", catalogue.CATALOGUE, ids=lambda spec: spec.name)
def test_no_text_is_cut_or_overlaps(spec: FigureSpec, venue: Venue) -> None:
    draw = getattr(import_module(spec.drawing), spec.function("draw"))
    with style.context(venue):
        figure = draw(TABLES[spec.name]())
        style.banner(figure, pipeline.QUICK)
        found = faults(figure)
        plt.close(figure)
    assert not found


def too_long(figure: Figure) -> None:
    figure.axes[0].set_xlabel("a label that is far too long for the figure " * 3)


def too_close(figure: Figure) -> None:
    figure.axes[0].set_xticks([0.5, 0.52], ["one", "two"])


@pytest.mark.parametrize(("plant", "fault"), [(too_long, "is cut"), (too_close, "overlaps")])
def test_the_faults_above_would_be_found(plant: Callable[[Figure], None], fault: str) -> None:
    with style.context():
        figure = Figure(figsize=style.size(15))
        figure.add_subplot()
        assert not faults(figure)
        plant(figure)
        assert fault in "; ".join(faults(figure))
