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
    draw: str = "draw"
    caption: str = "caption"
    summary: str = "summary"
    """Name of the function that reduces the table to the few numbers worth a table of their own."""
    takes_data: bool = False
    """Whether ``Settings(data=..., targets=...)`` accepts a user's own table; the experiment then
    also offers ``tasks(settings)``, which reads and checks it."""


CATALOGUE = (
    FigureSpec(
        name="B",
        title="Moment matching with a linear mean, corrected protocol",
        experiment="paper_checks.experiments.figure_b",
        drawing="figures.figure_b",
        settings="CORRECTED",
    ),
    FigureSpec(
        name="B-as-published",
        title="Moment matching with a linear mean, as published",
        experiment="paper_checks.experiments.figure_b",
        drawing="figures.figure_b",
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
