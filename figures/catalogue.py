"""Which figures there are, and where each one comes from.

Modules are named here and imported only when a figure is computed or drawn, so that listing figures
and finding that nothing changed stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass


class UnknownFigure(ValueError):
    """No figure has the given name; the message lists the names there are."""


@dataclass(frozen=True)
class FigureSpec:
    """One picture.

    The experiment module offers ``Settings`` and ``run(settings, *, seed, progress) -> table``; the
    drawing module offers functions of the table: a picture, a caption and a summary.
    """

    name: str
    title: str
    experiment: str
    drawing: str
    settings: str | None = None
    """Name of the settings in the experiment module; None: its ``Settings()``."""
    quick: str | None = None
    """Name of smaller settings for a first look; None: the experiment is fast as it is."""
    table: str | None = None
    """Name of a figure of the same settings whose table is drawn; None: its own."""
    draw: str = "draw"
    caption: str = "caption"
    summary: str = "summary"
    """Name of the function that reduces the table to the few numbers worth a table of their own."""
    takes_data: bool = False
    """Whether ``Settings(data=..., targets=...)`` accepts a user's own table; the experiment then
    also offers ``tasks(settings)``, which reads and checks it."""


CATALOGUE = (
    FigureSpec(
        name="A",
        title="Distribution evolution, unbiased, and where the published shift settles",
        experiment="paper_checks.experiments.figure_a",
        drawing="figures.figure_a",
        settings="CORRECTED",
        quick="QUICK",
    ),
    FigureSpec(
        name="A-grid",
        title="Distribution evolution for every λ, unbiased",
        experiment="paper_checks.experiments.figure_a",
        drawing="figures.figure_a",
        settings="CORRECTED",
        quick="QUICK",
        draw="draw_grid",
        caption="caption_grid",
        table="A",
    ),
    FigureSpec(
        name="A-as-published",
        title="Distribution evolution, as published",
        experiment="paper_checks.experiments.figure_a",
        drawing="figures.figure_a",
        settings="AS_PUBLISHED",
        draw="draw_as_published",
        caption="caption_as_published",
    ),
    FigureSpec(
        name="A-grid-as-published",
        title="Distribution evolution for every λ, as published",
        experiment="paper_checks.experiments.figure_a",
        drawing="figures.figure_a",
        settings="AS_PUBLISHED",
        draw="draw_grid",
        caption="caption_as_published",
        table="A-as-published",
    ),
    FigureSpec(
        name="B",
        title="Moment matching with a linear mean, corrected protocol",
        experiment="paper_checks.experiments.figure_b",
        drawing="figures.figure_b",
        settings="CORRECTED",
        quick="QUICK",
    ),
    FigureSpec(
        name="B-as-published",
        title="Moment matching with a linear mean, as published",
        experiment="paper_checks.experiments.figure_b",
        drawing="figures.figure_b",
        settings="AS_PUBLISHED",
        quick="QUICK_AS_PUBLISHED",
        draw="draw_as_published",
        caption="caption_as_published",
        summary="summary_as_published",
    ),
    FigureSpec(
        name="C",
        title="Full covariance, with the reward the theory asks for",
        experiment="paper_checks.experiments.figure_c",
        drawing="figures.figure_c",
        settings="CORRECTED",
        quick="QUICK",
    ),
    FigureSpec(
        name="C-as-published",
        title="Full covariance, as published",
        experiment="paper_checks.experiments.figure_c",
        drawing="figures.figure_c",
        settings="AS_PUBLISHED",
        quick="QUICK_AS_PUBLISHED",
        draw="draw_as_published",
        caption="caption_as_published",
        summary="summary_as_published",
    ),
    FigureSpec(
        name="D",
        title="Tabular classification: accuracy, likelihood and calibration over 20 splits",
        experiment="paper_checks.experiments.figure_d",
        drawing="figures.figure_d",
        settings="CORRECTED",
        quick="QUICK",
    ),
    FigureSpec(
        name="D-as-published",
        title="Tabular classification, as published",
        experiment="paper_checks.experiments.figure_d",
        drawing="figures.figure_d",
        settings="AS_PUBLISHED",
        draw="draw_as_published",
        caption="caption_as_published",
        summary="summary_as_published",
    ),
    FigureSpec(
        name="R",
        title="Real data: the cost in nats of the wrong covariance, predicted and measured",
        experiment="paper_checks.experiments.figure_r",
        drawing="figures.figure_r",
        takes_data=True,
    ),
    FigureSpec(
        name="F",
        title="Error of hypergradients against their cost, with predicted rates",
        experiment="paper_checks.experiments.figure_f",
        drawing="figures.figure_f",
        quick="QUICK",
    ),
    FigureSpec(
        name="G",
        title="Outer trajectories on the cone of SPD matrices, by algorithm",
        experiment="paper_checks.experiments.figure_g",
        drawing="figures.figure_g",
        quick="QUICK",
    ),
    FigureSpec(
        name="H",
        title="Binary classification: learned probabilities by reward, derived and trained",
        experiment="paper_checks.experiments.figure_h",
        drawing="figures.figure_h",
    ),
)


def find(name: str) -> FigureSpec:
    """Return the figure called `name`.

    Raises:
        UnknownFigure: there is none.
    """
    for spec in CATALOGUE:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in CATALOGUE)
    raise UnknownFigure(f"unknown figure {name!r}; known figures: {known}")
