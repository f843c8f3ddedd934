"""The methods that experiments compare: what each is, and its name in tables and legends."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from solvers.errors import InputError
from solvers.families.baselines import Baseline
from solvers.training.estimators import Analytic, Estimator, ScoreFunction

OfVectors = Literal["identity", "optimal", "fixed", "fixed, scaled", "ray", "isotropic"]
OfTable3 = Literal["implicit", "marginal scalar", "marginal full"]
OfClasses = Literal["heuristic scalar", "exact scalar", "exact diagonal", "learned"]


@dataclass(frozen=True)
class Arm:
    """A loss without a reward, or policy gradient on a reward `-(ŷ - y)ᵀU(ŷ - y)`.

    Attributes:
        label: its name in tables and legends, and the key of its random streams.
        reward: how its `U` is found; None: a loss without a reward, and without λ.
        scale: what multiplies that `U`.
        estimator: of the policy gradient, "analytic" or a baseline of the score function; None: the
            one that its experiment gives to all that have none of their own.
    """

    label: str
    reward: OfVectors | OfTable3 | OfClasses | None = None
    scale: float = 1.0
    estimator: Baseline | Literal["analytic"] | None = None

    def __str__(self) -> str:
        return self.label

    def estimate(self, M: int, baseline: Baseline) -> Estimator:
        """Return its estimator, of `M` generations; `baseline` is that of its experiment."""
        own = self.estimator or baseline
        return Analytic() if own == "analytic" else ScoreFunction(M, own)


def labels(arms: Iterable[Arm]) -> tuple[str, ...]:
    """Return the names of arms."""
    return tuple(arm.label for arm in arms)


def check_arms(arms: Iterable[Arm], known: Collection[Arm]) -> None:
    """Raise `InputError` unless an experiment knows these arms."""
    if others := [arm for arm in arms if arm not in known]:
        raise InputError(f"arms has {others}: pass some of {list(known)}")


MSE, NLL = Arm("MSE"), Arm("NLL")

PG_IDENTITY = Arm("PG(I)", "identity")
# The best U of the policy's structure:
PG_OPTIMAL = Arm("PG(U*)", "optimal")
PG_OPTIMAL_LOO = Arm("PG(U*), leave-one-out", "optimal", estimator="leave-one-out")
PG_OPTIMAL_ANALYTIC = Arm("PG(U*), analytic", "optimal", estimator="analytic")

# On multiples of one fixed matrix M, or of I: full covariance. What is published there as U* is a
# multiple of M.
PG_FIXED = Arm("PG(M)", "fixed")
PG_FIXED_SCALED = Arm("PG(U*)", "fixed, scaled")
PG_RAY = Arm("PG(ray)", "ray", estimator="analytic")
PG_ISOTROPIC = Arm("PG(isotropic)", "isotropic", estimator="analytic")

# Table 3: a learned scalar, and the best U for the marginal covariance.
PG_IMPLICIT = Arm("PG(implicit)", "implicit")
PG_MARGINAL_SCALAR = Arm("PG(marginal scaled)", "marginal scalar")
PG_MARGINAL_FULL = Arm("PG(marginal full)", "marginal full")

# Of classes.
PG_BETA = Arm("PG(β*)", "heuristic scalar")
PG_TWICE_BETA = Arm("PG(2β*)", PG_BETA.reward, scale=2.0)
PG_SCALAR = Arm("PG(u*)", "exact scalar")
PG_DIAGONAL = Arm("PG(diag)", "exact diagonal")
PG_LEARNED = Arm("PG(learned)", "learned")
