"""The paper's problem on data of one's own: choose the reward that makes them most likely.

problem = maximum_likelihood(policy, reward, data, lam=0.5)
found = solve(problem, seed=0)
found.reward, found.law(x)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked, checked_class
from ..data import Dataset
from ..errors import InputError, Number, as_number
from ..families.gaussian import GaussianPolicy, Structure, at_outcomes
from ..families.law import Data, Params, Policy, WithZeros, check_one_member, law_at
from ..families.networks import InputUnits, check_moves, networks_of
from ..hypergradients.methods import HypergradientMethod
from ..numerics.modes import recording
from ..numerics.trees import Leaves, Tree
from ..rewards.between_classes import FreeReward, OneHotReward
from ..rewards.learnable import ConstantReward, InputReward, Phi, RewardModel
from ..rewards.tempered import TemperedReward
from ..training.reference import ReferenceLaw
from ..training.residuals import Residuals
from ..training.streams import generator
from . import likelihood
from .coordinates import SAME, Coordinates, of_factor, of_inputs, relative
from .inner_solve import AdamSteps, Exact, Inexact
from .lbfgs import lbfgs
from .loop import Outer, Result
from .loop import solve as climb
from .problem import Bilevel


@checked_class
@dataclass(frozen=True)
class MaximumLikelihood:
    """The bilevel problem of a policy and a reward with parameters.

    Attributes:
        policy: the policy.
        reward: from `φ` and inputs to a reward.
        data: of the inner problem.
        lam: entropy weight `λ`.
        levels: both objectives, `J` and `F`.
        held_out: data of the outer problem.
        penalised: whether a weight decay or a reference bounds the likelihood.
    """

    policy: Policy
    reward: RewardModel
    data: Data
    lam: Tensor
    levels: Bilevel
    held_out: Data
    penalised: bool = False

    def __post_init__(self) -> None:
        check_one_member("data", self.data)
        check_one_member("held_out", self.held_out)

    def start_policy(self, seed: int) -> Params:
        """Return `θ` to start from: drawn from the seed, or a module's own, or 0.

        What is drawn of networks is taken relative to the means and deviations of the inputs, and
        of a `GaussianPolicy` in units of the outcomes' deviations, and moved to their mean.
        """
        policy, dtype = self.policy, self.data.x.dtype
        if hasattr(policy, "init"):
            drawn = cast(Any, policy).init([generator(seed, "policy")], dtype=dtype)
            drawn = {name: p.detach() for name, p in drawn.items()}
            drawn = self._at_inputs(policy, drawn)
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
        about that, free rewards of the size of `λ`: in the units of the problem. What is drawn is
        taken relative to the means and deviations of the inputs.
        """
        return self._at_inputs(self.reward, self._start_reward(seed))

    def _start_reward(self, seed: int) -> Phi:
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

    def residuals(self) -> Residuals | None:
        """Return those of a Gaussian policy with a reward of its own; None of another problem."""
        policy, data, outer = self.policy, self.data, self.held_out
        if not isinstance(policy, GaussianPolicy):
            return None
        if not isinstance(self.reward, ConstantReward | InputReward):
            return None
        if not (isinstance(data, Dataset) and isinstance(outer, Dataset)):
            return None
        return Residuals.of(data, outer, inputs=not policy.mean.hidden)

    def structure(self) -> Structure:
        """Return that of the covariances that the rewards lead a Gaussian policy to."""
        kinds = (getattr(self.policy, "structure", "full"), getattr(self.reward, "kind", "full"))
        if "isotropic" in kinds or "scalar" in kinds:
            return "isotropic"
        return "diagonal" if "diagonal" in kinds else "full"

    def _at_inputs(self, owner: object, drawn: Params) -> Params:
        """Return parameters whose networks were drawn for inputs in units of their own."""
        own = networks_of(owner)
        return InputUnits.of(self.data.x).raw(drawn, tuple(own)) if own else drawn

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
    return MaximumLikelihood(
        policy,
        reward,
        data,
        as_number("lam", lam, data.x),
        levels,
        data if held_out is None else held_out,
        weight_decay > 0 or reference is not None,
    )


@checked
@recording
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
        optimiser: of the reward's parameters; L-BFGS, two iterations a step, if not given. Then
            `θ` and `φ` are searched for relative to the inputs, a full constant reward to the
            residuals (see `coordinates`), and so is the hypergradient that `stationarity` is the
            norm of.
        steps: at most this many of its steps.
        inner, hypergradient, tolerance, checkpoint: as of `bilevel.solve`.

    Raises:
        InputError: the inputs say a combination of the outcomes exactly, so that their likelihood
            has no maximum; the message names it. Other errors are those of `bilevel.solve`.
    """
    theta = problem.start_policy(seed) if theta is None else theta
    for data in (problem.data, problem.held_out):  # residuals are of what fits together
        law_at(problem.policy, theta, data)
    check_moves(problem.policy, theta)
    left = problem.residuals()
    if left is not None and not problem.penalised:
        left.check_unknown(problem.structure())
    phi = problem.start_reward(seed) if phi is None else phi
    inner_variables, outer_variables = cast(Tree, dict(theta)), cast(Tree, dict(phi))
    levels, of_theta, of_phi = problem.levels, SAME, SAME
    if optimiser is None:
        problem.reward(phi, problem.data.x)  # coordinates are of what fits together
        of_theta = _of_networks(problem.policy, inner_variables, problem.data.x)
        of_phi = _of_networks(problem.reward, outer_variables, problem.data.x)
        if left is not None and _whitened(problem, left, outer_variables):
            of_phi = of_factor((problem.lam / 2).sqrt() * left.precision_factor())
        levels = relative(levels, of_theta, of_phi)
    result = climb(
        levels,
        of_theta.there(inner_variables),
        of_phi.there(outer_variables),
        optimiser=lbfgs if optimiser is None else optimiser,
        steps=steps,
        inner=inner,
        hypergradient=hypergradient,
        tolerance=tolerance,
        checkpoint=checkpoint,
    )
    theta, phi = of_theta.back(result.theta), of_phi.back(result.phi)
    return Found(problem, replace(result, theta=theta, phi=phi))


def _of_networks(owner: object, params: Tree, x: Float[Tensor, "N d"]) -> Coordinates:
    """Return coordinates relative to the inputs, and `SAME` where there are no networks of these.

    So it is where some parameters are frozen, which would not stay as they are.
    """
    own = networks_of(owner)
    frozen = own and Leaves.of("theta or phi", params).frozen
    return of_inputs(x, tuple(own)) if own and not frozen else SAME


def _whitened(problem: MaximumLikelihood, left: Residuals, phi: Tree) -> bool:
    """Whether the problem is one of all `U`, none frozen, and its residuals have a precision."""
    full = isinstance(problem.reward, ConstantReward) and problem.structure() == "full"
    return full and left.known("full") is None and not Leaves.of("phi", phi).frozen
