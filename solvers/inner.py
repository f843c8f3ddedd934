"""Solvers of the inner problem `θ*(r) = argmax_θ J(θ; r)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import minimise
from solvers.data import Dataset
from solvers.errors import (
    InputError,
    ShapeError,
    check_finite,
    check_positive,
    check_same_n,
)
from solvers.gaussian import Gaussian
from solvers.objectives import Objective
from solvers.policies import GaussianPolicy, Params, Structure
from solvers.rewards import MahalanobisReward

Value = TypeVar("Value")


@dataclass(frozen=True)
class Solution(Generic[Value]):
    """What an inner solver found, and how far to trust it.

    Attributes:
        value: the solution.
        converged: whether `stationarity` reached the tolerance asked for.
        stationarity: largest absolute entry of the gradient of `J` at `value`.
        iterations: evaluations of gradients and Hessian-vector products (0 for a closed form).
    """

    value: Value
    converged: bool
    stationarity: float
    iterations: int


def closed_form(
    reward: MahalanobisReward,
    lam: Float[Tensor, "*b"],
    mu: Float[Tensor, "*b n"],
    structure: Structure = "full",
) -> Solution[Gaussian]:
    """Return `m* = μ` and `P*`, the inner solution of an unrestricted Gaussian policy.

    `P* = (λ/2) U⁻¹` (full), `P*_ii = λ/(2 U_ii)` (diagonal), `P* = λn/(2 Tr U) I` (isotropic).

    Args:
        reward: SPD `U`, `(*b, n, n)`.
        lam: entropy weight `λ > 0`, `(*b,)`.
        mu: mean of the data, `(*b, n)`.
        structure: of the policy's covariance.

    Returns:
        A `Solution` whose value has mean `(*b, n)` and scale `(*b, n[, n])`; its stationarity is
        measured by autograd on `J`, not assumed.

    Raises:
        InputError: `lam` is not positive, or the structure is unknown.
        NonFiniteError: `mu` is not finite.
        ShapeError: `n` differs between `mu` and the reward.

    Source: paper (full, isotropic); diagonal is new.
    """
    check_positive("lam", lam)
    check_finite("mu", mu)
    check_same_n("mu", mu.shape[-1], "the reward", reward.n)
    weights = reward.U.diagonal(dim1=-2, dim2=-1)
    if structure == "isotropic":
        variance = lam * reward.n / (2 * weights.sum(-1))
        law = Gaussian(mu, variance.sqrt().unsqueeze(-1).expand_as(weights))
    elif structure == "diagonal":
        law = Gaussian(mu, (lam.unsqueeze(-1) / (2 * weights)).sqrt())
    elif structure == "full":
        covariance = torch.cholesky_inverse(reward.cholesky) * (lam / 2)[..., None, None]
        law = Gaussian(mu, torch.linalg.cholesky(covariance))
    else:
        raise InputError(f"structure is {structure!r}: pass 'isotropic', 'diagonal' or 'full'")
    stationarity = _stationarity(reward, lam, mu, law, structure)
    scale = float(reward.U.detach().abs().amax() * law.standard_deviations().detach().amax())
    resolution = torch.finfo(mu.dtype).eps * 1e3
    return Solution(law, stationarity <= resolution * scale, stationarity, 0)


def _stationarity(
    reward: MahalanobisReward,
    lam: Tensor,
    mu: Tensor,
    law: Gaussian,
    structure: Structure,
) -> float:
    """Largest gradient entry of `J` in the mean and the free entries of the scale."""
    mean = law.mean.detach().clone().requires_grad_()
    raw = law.scale.detach()[..., :1] if structure == "isotropic" else law.scale.detach()
    raw = raw.clone().requires_grad_()
    scale = raw.expand_as(law.scale) if structure == "isotropic" else raw
    at = Gaussian(mean, scale)
    Sigma = mu.new_zeros(*mu.shape, mu.shape[-1])  # Tr(UΣ) does not depend on the policy
    fixed = MahalanobisReward(reward.cholesky.detach())
    J = fixed.expected(at, mu.detach(), Sigma) + lam.detach() * at.entropy()
    mean_gradient, gradient = torch.autograd.grad(J.sum(), [mean, raw])
    if structure == "full":
        gradient = gradient.tril()
    return float(torch.maximum(mean_gradient.abs().amax(), gradient.abs().amax()))


def gradient(
    policy: GaussianPolicy,
    params: Params,
    objective: Objective,
    data: Dataset,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> Solution[dict[str, Tensor]]:
    """Minimise a deterministic objective of one member by L-BFGS with a strong Wolfe search.

    Args:
        policy: the policy.
        params: starting point of a single member (`b = ()`); left unchanged.
        objective: analytic policy gradient, NLL or MSE; sampled estimators belong to
            `solvers.ensemble.train`.
        data: the data, without batch dimensions.
        tolerance: stop when the largest gradient entry is at most this.
        max_iterations: limit on the evaluations of the objective's gradient.

    Returns:
        A `Solution` holding new parameters. `converged` is False, never an exception, where the
        tolerance was not reached.

    Raises:
        ShapeError: the data or the parameters carry batch dimensions.
    """
    return _solve(minimise.lbfgs, policy, params, objective, data, tolerance, max_iterations)


def second_order(
    policy: GaussianPolicy,
    params: Params,
    objective: Objective,
    data: Dataset,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> Solution[dict[str, Tensor]]:
    """Minimise a deterministic objective of one member by SciPy's trust-region Newton method.

    Few iterations, each with several Hessian-vector products (method "trust-ncg"). It needs no
    line search, and follows directions of negative curvature, which a network's objective has.

    Arguments, result and errors are those of `gradient`; `iterations` counts evaluations of
    gradients and Hessian-vector products.
    """
    return _solve(minimise.trust_region, policy, params, objective, data, tolerance, max_iterations)


def _solve(
    method: minimise.Method,
    policy: GaussianPolicy,
    params: Params,
    objective: Objective,
    data: Dataset,
    tolerance: float,
    max_iterations: int,
) -> Solution[dict[str, Tensor]]:
    """Run a method from `params`, then Newton steps where function values no longer help."""
    if data.x.ndim != 2:
        raise ShapeError(
            f"x has shape {tuple(data.x.shape)}: solve one member at a time, with x (N, d)"
        )

    def loss(theta: Params) -> Tensor:
        return objective(policy(theta, data.x), data)

    return minimum(params, loss, method, tolerance=tolerance, max_iterations=max_iterations)


def minimum(
    params: Params,
    loss: Callable[[Params], Float[Tensor, ""]],
    method: minimise.Method = minimise.lbfgs,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> Solution[dict[str, Tensor]]:
    """Minimise any deterministic loss of the parameters; results and errors as for `gradient`."""
    theta = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    leaves = list(theta.values())

    def value() -> Tensor:
        found = loss(theta)
        if found.ndim:
            raise ShapeError(
                f"the objective returned shape {tuple(found.shape)}, not one number: "
                f"give the reward and lam no batch dimensions"
            )
        return found

    iterations = method(leaves, value, tolerance, max_iterations)
    polishing, stationarity = minimise.polish(leaves, value, tolerance, max_iterations - iterations)
    return Solution(
        {name: p.detach() for name, p in theta.items()},
        stationarity <= tolerance,
        stationarity,
        iterations + polishing,
    )
