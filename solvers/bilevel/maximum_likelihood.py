"""The paper's problem on data of one's own: choose the reward that makes them most likely.

problem = maximum_likelihood(policy, reward, data, lam=0.5)
found = solve(problem, seed=0)
found.reward, found.law(x)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset
from ..errors import InputError, Number, as_number
from ..families.gaussian import GaussianPolicy, at_outcomes
from ..families.law import Data, Params, Policy, WithZeros
from ..hypergradients.methods import HypergradientMethod
from ..numerics.trees import Tree
from ..rewards.between_classes import FreeReward, OneHotReward
from ..rewards.learnable import ConstantReward, InputReward, Phi, RewardModel
from ..rewards.tempered import TemperedReward
from ..training.reference import ReferenceLaw
from ..training.streams import generator
from . import likelihood
from .loop import AdamSteps, Bilevel, Exact, Inexact, Outer, Result, lbfgs
from .loop import solve as climb


@dataclass(frozen=True)
class MaximumLikelihood:
    """The bilevel problem of a policy and a reward with parameters.

    Attributes:
        policy: the policy.
        reward: from `φ` and inputs to a reward.
        data: of the inner problem.
        lam: entropy weight `λ`.
        levels: both objectives, `J` and `F`.
    """

    policy: Policy
    reward: RewardModel
    data: Data
    lam: Tensor
    levels: Bilevel

    def start_policy(self, seed: int) -> Params:
        """Return `θ` to start from: drawn from the seed, or a module's own, or 0.

        What is drawn of a `GaussianPolicy` is taken in units of the outcomes' deviations, and
        moved to their mean.
        """
        policy, dtype = self.policy, self.data.x.dtype
        if hasattr(policy, "init"):
            drawn = cast(Any, policy).init([generator(seed, "policy")], dtype=dtype)
            drawn = {name: p.detach() for name, p in drawn.items()}
            if isinstance(policy, GaussianPolicy) and isinstance(self.data, Dataset):
                return at_outcomes(policy, drawn, self.data)
            return drawn
        if hasattr(policy, "start"):
            return cast(Any, policy).start()
        if isinstance(policy, WithZeros):
            return policy.zeros(dtype)
        raise InputError(f"{type(policy).__name__} has no init: pass theta to start from")

    def start_reward(self, seed: int) -> Phi:
        """Return `φ` to start from.

        A constant reward starts at `(λ/2)/Var y_i` on the diagonal, one of the inputs is drawn
        about that, free rewards of the size of `λ`: in the units of the problem.
        """
        model = self.reward.weight if isinstance(self.reward, OneHotReward) else self.reward
        drawn, dtype = generator(seed, "reward"), self.data.x.dtype
        match model:
            case ConstantReward(n):
                return model.start(self._diagonal(n))
            case InputReward(n=n) | TemperedReward(InputReward(n=n)):
                return model.start(drawn, dtype, u=self._diagonal(n).diagonal())
            case FreeReward():
                return model.start(drawn, dtype, size=float(self.lam))
            case _ if hasattr(model, "start"):
                return cast(Any, model).start(drawn, dtype=dtype)
            case _:
                raise InputError(
                    f"{type(model).__name__} has no start: pass phi, its parameters to start from"
                )

    def _diagonal(self, n: int) -> Float[Tensor, "n n"]:
        """Return `(λ/2)/Var y_i`, the variances over all data; `λI` between classes."""
        if not isinstance(self.data, Dataset):
            return self.lam * torch.eye(n, dtype=self.data.x.dtype, device=self.data.x.device)
        variances = self.data.y.flatten(0, 1).var(0, correction=0)
        if not bool((variances > 0).all()):
            column = int((variances <= 0).nonzero()[0])
            raise InputError(f"y[..., {column}] does not vary: pass phi, or leave the column out")
        return torch.diag_embed(self.lam / (2 * variances))


@dataclass(frozen=True)
class Found:
    """What `solve` found on a problem of maximum likelihood: an `Answer`, that of `result`.

    Attributes:
        problem: what was solved.
        result: the outer loop's result: points, history, why it stopped.
    """

    problem: MaximumLikelihood
    result: Result

    @property
    def value(self) -> Phi:
        """The parameters of the reward, which were looked for."""
        return self.phi

    @property
    def converged(self) -> bool:
        """Whether the hypergradient reached the tolerance."""
        return self.result.converged

    @property
    def stationarity(self) -> float:
        """Norm of the hypergradient at the last point."""
        return self.result.stationarity

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return self.result.iterations

    @property
    def reason(self) -> str:
        """Why the loop stopped."""
        return self.result.reason

    @property
    def theta(self) -> Params:
        """The trained parameters of the policy."""
        return cast(Params, self.result.theta)

    @property
    def phi(self) -> Phi:
        """The parameters of the reward."""
        return cast(Phi, self.result.phi)

    @property
    def reward(self) -> Any:
        """The learned reward, at the inputs of the data where it depends on them."""
        return self.problem.reward(self.phi, self.problem.data.x)

    def law(self, x: Float[Tensor, "N d"]) -> Any:
        """Return the trained policy's law at inputs."""
        return self.problem.policy(self.theta, x)


@checked
def maximum_likelihood(
    policy: Policy,
    reward: RewardModel,
    data: Data,
    *,
    lam: Number | Tensor,
    held_out: Data | None = None,
    weight_decay: float = 0.0,
    reference: ReferenceLaw | None = None,
) -> MaximumLikelihood:
    """Return `max_φ E log p_{θ*(φ)}(y | x)`, `θ*(φ) = argmax_θ E r_φ + λH`, ready for `solve`.

    With a reference `p₀`, `-λ KL(p ‖ p₀)` stands in place of `λH`. See `likelihood.problem`, which
    also has sampled inner gradients and batches.

    Args:
        policy: `p_θ`.
        reward: `r_φ`, from `φ` and inputs.
        data: of the inner problem, without batch dimensions.
        lam: entropy weight `λ > 0`.
        held_out: of the outer problem; the same data if not given.
        weight_decay: `ρ >= 0`, of both levels; positive for a categorical policy.
        reference: `p₀`, of a family that knows the divergence exactly.

    Raises:
        InputError: `lam` is not positive, or no weight decay for a categorical policy.
        ShapeError: data with batch dimensions.
    """
    levels = likelihood.problem(
        policy,
        reward,
        lam,
        data,
        held_out=held_out,
        weight_decay=weight_decay,
        reference=reference,
    )
    return MaximumLikelihood(policy, reward, data, as_number("lam", lam, data.x), levels)


@checked
def solve(
    problem: MaximumLikelihood,
    *,
    seed: int = 0,
    theta: Params | None = None,
    phi: Phi | None = None,
    optimiser: Outer | None = None,
    steps: int = 50,
    inner: Inexact | Exact | AdamSteps = Inexact(),
    hypergradient: HypergradientMethod | None = None,
    tolerance: float = 1e-6,
    checkpoint: Any = None,
) -> Found:
    """Choose the reward, train the policy on it, and return both.

    Args:
        problem: of `maximum_likelihood`.
        seed: of starting points that are drawn; the same seed gives the same bits.
        theta: where the policy starts; see `MaximumLikelihood.start_policy`.
        phi: where the reward starts; see `start_reward`.
        optimiser: of the reward's parameters; L-BFGS, two iterations a step, if not given.
        steps: at most this many of its steps.
        inner, hypergradient, tolerance, checkpoint: as of `bilevel.solve`.
    """
    theta = problem.start_policy(seed) if theta is None else theta
    phi = problem.start_reward(seed) if phi is None else phi
    result = climb(
        problem.levels,
        cast(Tree, dict(theta)),
        cast(Tree, dict(phi)),
        optimiser=lbfgs if optimiser is None else optimiser,
        steps=steps,
        inner=inner,
        hypergradient=hypergradient,
        tolerance=tolerance,
        checkpoint=checkpoint,
    )
    return Found(problem, result)
