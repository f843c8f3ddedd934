"""Estimators of the policy gradient: score function with a choice of baselines, pathwise, exact.

An estimator is called as `estimator(law, data, reward, noise)` and returns, per input, a
surrogate whose *gradient* is its estimate of the gradient of the expected reward. They serve every
family: what is special to a law is in its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..errors import InputError, check_choice, check_count
from ..families.baselines import BASELINES, Baseline, check_generations
from ..families.law import Data, Law, Noise, check_noise


@runtime_checkable
class Estimator(Protocol):
    """A policy-gradient estimator."""

    def __call__(
        self, law: Any, data: Any, reward: Any, noise: Noise | None
    ) -> Float[Tensor, "*b N"]:
        """Return the surrogate per input."""
        ...


@checked_class
@dataclass(frozen=True)
class ScoreFunction:
    """REINFORCE: the mean of `(r - b) ∇ log p(ŷ)` over `M` generations per data point.

    For classes rewards are averaged over the outcomes first: `M` generations per input.

    Attributes:
        M: number of generations.
        baseline: of the group of generations (see `families.baselines.advantage`); or, where the
            law knows them, those that minimise the variance of each entry of the score: "optimal"
            is constant over the outcomes of an input, "optimal-per-outcome" (Gaussian laws only)
            puts `E_ŷ r(ŷ, y)` in place of its average over them; where every input has one outcome
            both are the same.

    Source: baselines: new (analysis.estimators, analysis.categorical.estimators).
    """

    M: int = 5
    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, BASELINES)
        check_generations(self.M, self.baseline)

    def __call__(
        self, law: Law, data: Data, reward: Any, noise: Noise | None
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate per input; its gradient is the estimate, its value has no meaning."""
        return law.reinforce(data, reward, self.M, self.baseline, check_noise(noise))


@checked_class
@dataclass(frozen=True)
class Pathwise:
    """Reparameterised: the mean of `∇ r(ŷ, y)` along `M` generations `ŷ = ŷ(θ, ε)` per data point.

    The reward is averaged over the data and *summed* over outcome dimensions, as the entropy is.
    (The published code averages only the entropy over the dimensions: another objective, whose
    solution has too small a variance.)

    Attributes:
        M: number of generations per data point.
    """

    M: int = 5

    def __post_init__(self) -> None:
        check_count("M", self.M)

    def __call__(
        self, law: Any, data: Data, reward: Any, noise: Noise | None
    ) -> Float[Tensor, "*b N"]:
        """Return the sampled expected reward per input, differentiable along the generations.

        Raises:
            InputError: no noise, or a law whose generations do not move with its parameters.
        """
        if not hasattr(law, "pathwise"):
            raise InputError(
                f"generations of {type(law).__name__} do not move with its parameters: pass "
                f"ScoreFunction(M={self.M})"
            )
        return law.pathwise(data, reward, self.M, check_noise(noise))


@checked_class
@dataclass(frozen=True)
class Analytic:
    """The exact gradient: the surrogate is the expected reward in closed form, without noise."""

    def __call__(
        self, law: Law, data: Data, reward: Any, noise: Noise | None = None
    ) -> Float[Tensor, "*b N"]:
        """Return `E_ŷ E_y r(ŷ, y)` per input.

        Raises:
            InputError: the expectation of this reward is not known.
        """
        if not hasattr(reward, "expected"):
            raise InputError(
                f"the expectation of {type(reward).__name__} has no closed form: pass "
                f"estimator=ScoreFunction() or Pathwise() where one draws; bilevel problems are "
                f"exact, and need a reward with a method expected(law, data)"
            )
        return reward.expected(law, data)
