"""The protocol of all families: what a law, a policy, a reward and data must offer.

A family is one file beside this one. A law that draws and knows the log-probability of what it
drew inherits `reinforce` from `Sampled`; the families of this package override it with the
explicit scores they know. Batch dimensions `*b` lead, then come inputs `N`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked_class
from ..errors import InputError, ShapeError, check_broadcast, check_offers, shown
from ..numerics.values import check_depends, real
from .baselines import Baseline, advantage, check_group

Params = Mapping[str, Tensor]
OUTCOMES = "solvers.data.Dataset.of(x, y)"


@runtime_checkable
class NormalNoise(Protocol):
    """Standard normal noise: `*b` is the batch of the members, each with its own stream."""

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return standard normal noise of shape `(*b, *shape)`."""
        ...


@runtime_checkable
class UniformNoise(Protocol):
    """Uniform noise: `*b` is the batch of the members, each with its own stream."""

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return noise in [0, 1) of shape `(*b, *shape)`."""
        ...


Noise = NormalNoise | UniformNoise  # which of them, the law says


@runtime_checkable
class Data(Protocol):
    """Inputs, and the law of the outcome at each: moments, probabilities, or points `y`."""

    @property
    def x(self) -> Float[Tensor, "*b N d"]:
        """The inputs."""
        ...

    def rows(self, index: Int[Tensor, "*i B"]) -> Any:
        """Return the data at the inputs `index`, `(*i, B, ...)`."""
        ...


@runtime_checkable
class Law(Protocol):
    """The law at every input that a policy returns."""

    def check_data(self, data: Any) -> None:
        """Raise unless the data have outcomes of this law."""
        ...

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `H(p)`."""
        ...

    def cross_entropy(self, q: Any) -> Float[Tensor, "*b N"]:
        """Return `-E_{y~q} log p(y)`, exact: `q` is a law of the family, or data, a law too."""
        ...

    def reinforce(
        self, data: Any, reward: Any, M: int, baseline: Baseline, noise: Any
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate: its gradient is the mean of `(r - b) ∇ log p(ŷ)`, `M` generations."""
        ...


@runtime_checkable
class Moments(Protocol):
    """What a quadratic reward asks of a law."""

    @property
    def mean(self) -> Float[Tensor, "*b N n"]:
        """`m`."""
        ...

    def trace(self, U: Float[Tensor, "*u n n"]) -> Float[Tensor, "*c"]:
        """Return `Tr(UP)`, `P` the covariance."""
        ...

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Raise `ShapeError` unless `mu` and `Sigma` are moments of outcomes of this law."""
        ...


@runtime_checkable
class Divergence(Protocol):
    """What a reference policy in place of the entropy asks of a law; else it is sampled."""

    def kl(self, reference: Any) -> Float[Tensor, "*b N"] | None:
        """Return `KL(p ‖ p₀)`, exact; None where only samples can tell.

        Raises:
            InputError: a law of another family, or one that excludes what this one generates.
        """
        ...


@runtime_checkable
class Quadratic(Protocol):
    """A reward of which the baselines of least variance are known: `-(ŷ - y)ᵀ U (ŷ - y)`."""

    @property
    def U(self) -> Float[Tensor, "*b n n"]:
        """The weight matrix."""
        ...

    def of(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d"]:
        """Return `r` of `ŷ - y`; the batch of `U` leads its dimensions."""
        ...

    def expected(self, law: Any, q: Any) -> Float[Tensor, "*e N"]:
        """Return `E_y E_ŷ r(ŷ, y)` per input, of outcomes `q` that have moments."""
        ...


@runtime_checkable
class Policy(Protocol):
    """From parameters and inputs to a law."""

    def __call__(self, params: Params, x: Float[Tensor, "*b N d"]) -> Any:
        """Return the law at each input."""
        ...


@runtime_checkable
class WithZeros(Protocol):
    """A policy whose parameters can all be 0."""

    def zeros(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return parameters of 0."""
        ...


@checked_class
class Sampled:
    """What every law can do that draws, knows `log p` of what it drew, and meets outcomes `y`."""

    def check_data(self, data: Any) -> None:
        """Raise `InputError` unless there are outcomes `y`; a family may ask for more."""
        check_outcomes(data)

    def draw(self, M: int, noise: Any) -> Float[Tensor, "*b M N ..."]:
        """Return `M` generations per input; differentiable where the law is reparameterised."""
        raise NotImplementedError

    def _draw(self, M: int, noise: Any) -> Tensor:
        """Return what `draw` does, where that refuses NaN: a member that diverges is NaN, alone."""
        return self.draw(M, noise)

    def log_prob(self, y: Float[Tensor, "*b M N ..."]) -> Float[Tensor, "*b M N"]:
        """Return `log p(y)` of generations."""
        raise NotImplementedError

    def cross_entropy(self, q: Any) -> Float[Tensor, "*b N"]:
        """Return `-E_y log p(y)` over the `S` outcomes `q.y` at each input."""
        self.check_data(q)
        return -self.log_prob(q.y.movedim(-2, -3)).mean(-2)

    def rewards(self, y_hat: Tensor, data: Any, reward: Any) -> Float[Tensor, "*b M N"]:
        """Return `E_y r(ŷ, y)` of every generation, over the `S` outcomes `data.y` of its input.

        Raises:
            ShapeError: generations of other outcomes or inputs, or a reward that returns something
                else than one number for each pair.
        """
        check_outcomes(data)
        _check_generations(y_hat, data.y)
        if isinstance(reward, Quadratic) and reward.U.ndim > 2:
            outcomes = data.y.movedim(-2, -3).unsqueeze(-3)  # (*b, S, 1, N, n)
            e = y_hat.unsqueeze(-4) - outcomes
            return of_members_or_inputs(reward, e, y_hat.ndim - 3).mean(-3)
        y = data.y.movedim(-2, 0).unsqueeze(-3)  # (S, *b, 1, N, n)
        y = y[(slice(None), *(None,) * (y_hat.ndim + 1 - y.ndim))]  # a batch of the law alone
        return reward_of_pairs(reward, y_hat, y).mean(0)

    def reinforce(
        self, data: Any, reward: Any, M: int, baseline: Baseline, noise: Any
    ) -> Float[Tensor, "*b N"]:
        """Return the surrogate of `Law.reinforce`, with a baseline of the group."""
        self.check_data(data)
        check_group(baseline, type(self).__name__)
        with torch.no_grad():
            y_hat = self._draw(M, noise)
            r = self.rewards(y_hat, data, reward).movedim(-2, -1)
            weights = advantage(r, baseline).movedim(-1, -2)
        return (weights * self.log_prob(y_hat)).mean(-2)


def reward_of_pairs(reward: Any, y_hat: Tensor, y: Tensor) -> Tensor:
    """Return `r(ŷ, y)` of a user's reward for broadcastable generations and outcomes.

    Raises:
        ShapeError: the reward returns something else than one number for each pair.
    """
    if not callable(reward) or isinstance(reward, type):
        raise InputError(
            f"reward is {shown(reward)}: pass a function of generations and outcomes, or a reward "
            f"of solvers.rewards"
        )
    found = reward(y_hat, y)
    if not isinstance(found, Tensor):
        raise InputError(
            f"the reward returned {shown(found)}: return a tensor, one number for each pair of "
            f"generation and outcome"
        )
    found = real("the reward", found)
    if y_hat.requires_grad:  # as pathwise estimators have it
        check_depends("the reward", found, "the generation (or pass ScoreFunction())")
    wanted = torch.broadcast_shapes(y_hat.shape, y.shape)[:-1]
    if found.shape != wanted:
        raise ShapeError(
            f"the reward returned shape {tuple(found.shape)} for generations "
            f"{tuple(y_hat.shape)} and outcomes {tuple(y.shape)}: return one number for each "
            f"pair, {tuple(wanted)}"
        )
    return found


def of_members_or_inputs(
    reward: Any, e: Float[Tensor, "*b M S N n"], batch_ndim: int
) -> Float[Tensor, "*b M S N"]:
    """Return the rewards of deviations, of one `U` for each member, or `(*b, N, n, n)`, input."""
    if isinstance(reward, Quadratic) and reward.U.ndim - 2 > batch_ndim:
        return reward.of(e.movedim(-2, batch_ndim)).movedim(batch_ndim, -1)
    return reward.of(e)


def law_at(policy: Policy, params: Params, data: Data) -> Any:
    """Return the policy's law at the inputs of the data, after checking that it is of such data.

    For what looks at parameters or data before the objective does, which checks the same.
    """
    law = policy(params, data.x)
    check_offers("what the policy returned", law, ("check_data",), "a policy that returns a law")
    law.check_data(data)
    return law


def check_one_member(name: str, data: Data) -> None:
    """Raise `ShapeError` where data have batch dimensions."""
    if data.x.ndim != 2:
        raise ShapeError(
            f"{name}.x has shape {tuple(data.x.shape)}: pass x (N, d), one member at a time"
        )


def check_outcomes(data: Any) -> None:
    """Raise `InputError` unless there are outcomes `y`."""
    if not hasattr(data, "y"):
        raise InputError(
            f"{type(data).__name__} has no outcomes y: pass {OUTCOMES}, or a reward whose "
            f"expectation is known"
        )


def _check_generations(y_hat: Tensor, y: Tensor) -> None:
    """Raise `ShapeError` unless generations and outcomes are of the same inputs and outcomes."""
    if y_hat.ndim < 3 or y_hat.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"y_hat has shape {tuple(y_hat.shape)}, the outcomes {tuple(y.shape)}: pass "
            f"(*b, M, N, {y.shape[-1]})"
        )
    of_inputs = (*y_hat.shape[:-3], y_hat.shape[-2])
    check_broadcast("y_hat", of_inputs, "the data", y.shape[:-2])


def check_law(law: Any, q: Any) -> None:
    """Raise unless `q` is a law of the same family, or data with outcomes of it."""
    if type(q) is not type(law):
        law.check_data(q)


def check_family(law: Any, reference: Any) -> None:
    """Raise `InputError` unless the reference is a law of the same family."""
    if type(reference) is not type(law):
        raise InputError(
            f"the reference returned {type(reference).__name__}, the policy {type(law).__name__}: "
            f"pass a reference of the policy's family, such as Reference(policy, params)"
        )


def check_noise(noise: Noise | None) -> Noise:
    """Return the noise, or raise `InputError` where a sampled estimator got none."""
    if noise is None:
        raise InputError(
            "the estimator samples: pass a noise source, noise=MemberNoise([generator(0)]), to "
            "train (fit draws nothing), or use Analytic()"
        )
    return noise
