"""Which figures there are. Their names say where they come from.

Nothing is imported from there before a figure is computed or drawn, so that listing figures and
finding that nothing changed stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from paper_checks.experiments import FORMER

PUBLISHED = "as-published"


class UnknownFigure(ValueError):
    """No figure has the given name; the message lists the names there are."""


@dataclass(frozen=True)
class FigureSpec:
    """One picture.

    ``paper_checks.experiments.<subject>`` offers ``run(settings, *, seed, progress) -> table`` and
    the settings ``AS_PUBLISHED`` and ``CORRECTED``, or ``Settings()`` where nothing was published;
    ``figures.<subject>`` offers ``draw(table)``, ``caption(table)`` and ``summary(table)``, of a
    variant ``draw_<variant>`` and so on.
    """

    subject: str
    title: str
    seconds: int
    """About how long it takes on two cores, the gate apart."""
    variant: str = ""
    quick: bool = False
    """Whether there are smaller settings for a first look, ``QUICK`` or ``QUICK_AS_PUBLISHED``."""
    full: bool = False
    """Whether there are settings of a longer protocol, ``FULL``."""
    takes_data: bool = False
    """Whether ``Settings(data=..., targets=...)`` accepts a user's own table; the experiment then
    also offers ``tasks(settings)``, which reads and checks it."""
    on_device: bool = False
    """Whether ``Settings(device=...)`` says where its networks are trained."""

    @property
    def name(self) -> str:
        """What it is called on the command line, and its files."""
        return f"{self.subject}-{self.variant}" if self.variant else self.subject

    @property
    def published(self) -> bool:
        """Whether it shows the experiment as published."""
        return self.variant.endswith(PUBLISHED)

    @property
    def table(self) -> str:
        """Name of its table: variants that draw the same one share it."""
        return f"{self.subject}-{PUBLISHED}" if self.published else self.subject

    @property
    def experiment(self) -> str:
        """Module of the experiment."""
        return f"paper_checks.experiments.{self.subject.replace('-', '_')}"

    @property
    def drawing(self) -> str:
        """Module of the picture."""
        return f"figures.{self.subject.replace('-', '_')}"

    def function(self, kind: str) -> str:
        """Return the name of its function ``draw``, ``caption`` or ``summary``."""
        return f"{kind}_{self.variant.replace('-', '_')}" if self.variant else kind

    @property
    def time(self) -> str:
        """About how long it takes, in words."""
        if self.seconds < 60:
            return f"about {self.seconds} s"
        return f"about {self.seconds / 60:.0f} min"


CATALOGUE = (
    FigureSpec("figure-1", "Moments of a linear mean, corrected protocol", 75, quick=True),
    FigureSpec("figure-1", "Moments of a linear mean, as published", 20, PUBLISHED, quick=True),
    FigureSpec("figure-2", "Distributions, unbiased; where the shift settles", 10, quick=True),
    FigureSpec("figure-2", "Distributions for every λ, unbiased", 10, "grid", quick=True),
    FigureSpec("figure-2", "Distributions, as published", 5, PUBLISHED),
    FigureSpec("figure-2", "Distributions for every λ, as published", 5, f"grid-{PUBLISHED}"),
    FigureSpec("figure-3", "The implicit solver, exact, from several starts", 15, quick=True),
    FigureSpec("figure-3", "The implicit solver, as published", 25, PUBLISHED, quick=True),
    FigureSpec(
        "tables-1-2",
        "Tabular classification, corrected, over 10 splits",
        175,
        quick=True,
        full=True,
    ),
    FigureSpec("tables-1-2", "Tabular classification, as published", 25, PUBLISHED),
    FigureSpec(
        "table-3",
        "Models for model-based RL, corrected, over 20 splits",
        400,
        quick=True,
        full=True,
        on_device=True,
    ),
    FigureSpec(
        "table-3",
        "Models for model-based RL, as published",
        20,
        PUBLISHED,
        quick=True,
        on_device=True,
    ),
    FigureSpec("full-covariance", "Full covariance, the reward of the theory", 20, quick=True),
    FigureSpec("full-covariance", "Full covariance, as published", 5, PUBLISHED, quick=True),
    FigureSpec(
        "wrong-covariance", "Its cost on real data or on yours, in nats", 5, takes_data=True
    ),
    FigureSpec("how-much-data", "What rewards learned from N rows lose", 10, quick=True),
    FigureSpec("hypergradient-error", "Hypergradients: error against cost", 20, quick=True),
    FigureSpec("who-is-faster", "Policy gradient or NLL, from every start", 20, quick=True),
    FigureSpec("outer-paths", "Learned rewards on the cone of SPD matrices", 30, quick=True),
    FigureSpec("reference-policy", "KL to a reference, and GRPO's division", 40, quick=True),
    FigureSpec("bounded-reward", "A bounded reward: who stays, who runs away", 15, quick=True),
    FigureSpec("estimator-variance", "How noisy policy gradients are", 20, quick=True),
    FigureSpec("sequences", "Sequences: windows, total correlation, a text", 30, quick=True),
    FigureSpec("forgetting", "What is forgotten, by NLL and by policy gradient", 60, quick=True),
    FigureSpec("overshoot", "Two classes: probabilities learned, by reward", 10),
)


def find(name: str) -> FigureSpec:
    """Return the figure called `name`.

    Raises:
        UnknownFigure: there is none; of a former name, a letter, the message says the new one.
    """
    specs = {spec.name: spec for spec in CATALOGUE}
    if name in specs:
        return specs[name]
    letter, dash, variant = name.partition("-")
    if (now := f"{FORMER.get(letter.lower())}{dash}{variant}") in specs:
        raise UnknownFigure(f"unknown figure {name!r}: it is called {now!r} now")
    raise UnknownFigure(f"unknown figure {name!r}; known figures: {', '.join(specs)}")
