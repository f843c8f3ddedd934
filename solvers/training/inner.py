"""Solvers of the inner problem `θ*(r) = argmax_θ J(θ; r)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset, TwoMoments
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_positive,
    check_batches,
    check_choice,
    check_count,
    check_dtype,
    check_finite,
    check_number,
    check_same_n,
)
from ..families.gaussian import Gaussian, GaussianPolicy, Structure, at_outcomes, units
from ..families.law import Data, Params, Policy, WithZeros, check_one_member, law_at
from ..families.networks import check_moves
from ..numerics import minimise
from ..numerics.derivatives import slopes
from ..numerics.modes import recording
from ..numerics.norms import digits, largest_entry
from ..numerics.solution import Solution
from ..numerics.trees import Leaves
from ..numerics.values import check_depends, check_repeats, finite_number, number, real
from ..rewards.mahalanobis import MahalanobisReward
from .existence import check_bounded, judged
from .objectives import NLL, Objective, PolicyGradient

__all__ = ["Solution", "closed_form", "decay", "fit", "gradient", "minimum", "second_order"]


@checked
@recording
def closed_form(
    reward: MahalanobisReward,
    lam: Number | Float[Tensor, "*b"],
    mu: Float[Tensor, "*b n"],
    structure: Structure = "full",
) -> Solution[Gaussian]:
    """Return `m* = μ` and `P*`, the inner solution of an unrestricted Gaussian policy.

    `P* = (λ/2) U⁻¹` (full), `P*_ii = λ/(2 U_ii)` (diagonal), `P* = λn/(2 Tr U) I` (isotropic).

    Args:
        reward: SPD `U`, `(*b, n, n)`.
        lam: entropy weight `λ > 0`, a number or `(*b,)`.
        mu: mean of the data, `(*b, n)`.
        structure: of the policy's covariance.

    Returns:
        A `Solution` whose value has mean `(*b, n)` and scale `(*b, n[, n])`. Its stationarity is
        measured by autograd on `J`, not assumed; its distance is the largest entry of
        `(2/λ) SᵀUS - I`, `P = SSᵀ` (full), and likewise in the free entries of the others.

    Raises:
        InputError: `lam` is not positive, or the structure is unknown.
        NonFiniteError: `mu` is not finite.
        ShapeError: `n` differs between `mu` and the reward, or batches do not broadcast.

    Source: paper (full, isotropic); diagonal is new.
    """
    check_dtype("mu", mu)
    check_finite("mu", mu)
    lam = as_positive("lam", lam, mu)
    check_same_n("mu", mu.shape[-1], "the reward", reward.n)
    check_choice("structure", structure, get_args(Structure))
    reward = MahalanobisReward(reward.cholesky.to(mu), check=False)
    batches = {"lam": lam.shape, "mu": mu.shape[:-1], "the reward": reward.cholesky.shape[:-2]}
    check_batches(batches)
    batch = torch.broadcast_shapes(*batches.values())
    lam, mu = lam.expand(batch), mu.expand(*batch, reward.n)
    weights = reward.U.diagonal(dim1=-2, dim2=-1)
    if structure == "isotropic":
        variance = lam * reward.n / (2 * weights.sum(-1))
        law = Gaussian(mu, variance.sqrt().unsqueeze(-1).expand_as(mu))
    elif structure == "diagonal":
        law = Gaussian(mu, (lam.unsqueeze(-1) / (2 * weights)).sqrt())
    else:
        law = Gaussian(mu, (lam / 2).sqrt()[..., None, None] * _inverse_factor(reward.cholesky))
    distance = _distance(reward, lam, law, structure)
    stationarity = _stationarity(reward, lam, mu, law, structure)
    tolerance = digits(1e-8, mu.dtype)
    return Solution(law, distance <= tolerance, stationarity, 0, distance, "it is a closed form")


def _inverse_factor(C: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """Return the lower triangular `S` with `SSᵀ = (CCᵀ)⁻¹`, without forming a square.

    `C = RQ` with `R` upper triangular and `Q` orthogonal is a QR decomposition of `C` upside down,
    and `S = R⁻ᵀ`: right to the root of the condition number of `CCᵀ`, not to that itself.
    """
    upside_down = torch.linalg.qr(C.flip(-2).mT).R.mT.flip((-2, -1))
    R = upside_down * upside_down.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    identity = torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)
    return torch.linalg.solve_triangular(R.mT, identity.expand_as(C), upper=False)


def _distance(reward: MahalanobisReward, lam: Tensor, law: Gaussian, structure: Structure) -> float:
    """Return how far `∂J/∂S` is from 0, in the units of `S` and `λ`."""
    C, S = reward.cholesky.detach(), law.scale.detach()
    lam = lam.detach()
    if structure == "full":
        Z = (2 / lam).sqrt()[..., None, None] * (C.mT @ S)
        return float((Z.mT @ Z - torch.eye(law.n, dtype=Z.dtype, device=Z.device)).abs().amax())
    reached = 2 * S.square() * C.square().sum(-1) / lam[..., None]
    reached = reached.mean(-1) if structure == "isotropic" else reached
    return float((reached - 1).abs().amax())


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
    at = Gaussian(mean, scale, check=False)
    Sigma = mu.new_zeros(*mu.shape, mu.shape[-1])  # Tr(UΣ) does not depend on the policy
    fixed = MahalanobisReward(reward.cholesky.detach(), check=False)
    J = fixed.expected(at, TwoMoments(mu.detach(), Sigma)) + lam.detach() * at.entropy()
    mean_gradient, gradient = torch.autograd.grad(J.sum(), [mean, raw])
    if structure == "full":
        gradient = gradient.tril()
    return float(torch.maximum(mean_gradient.abs().amax(), gradient.abs().amax()))


@checked
@recording
def gradient(
    policy: Policy,
    params: Params,
    objective: Objective,
    data: Data,
    *,
    tolerance: float | None = None,
    max_iterations: int = 2000,
    weight_decay: float = 0.0,
) -> Solution[dict[str, Tensor]]:
    """Minimise a deterministic objective of one member by L-BFGS, finished by Newton steps.

    Args:
        policy: the policy.
        params: starting point of a single member (`b = ()`); left unchanged.
        objective: analytic policy gradient, NLL or MSE; sampled estimators belong to
            `solvers.training.ensemble.train`.
        data: the data, without batch dimensions.
        tolerance: stop when the distance is at most this (see `Solution`): of a likelihood or a
            policy gradient one of laws, else a relative one, right whatever the units of rewards,
            `λ` and data; by default 1e-8, and as large a share of the digits of another dtype.
        max_iterations: limit on the evaluations of gradients and Hessian-vector products.
        weight_decay: `ρ` of a penalty `(ρ/2)‖θ‖²`, in nats: `λ(ρ/2)‖θ‖²` of a policy gradient.

    Returns:
        A `Solution` holding new parameters. `converged` is False, never an exception, where the
        tolerance was not reached; `reason` says what happened. Frozen parameters (see
        `trees.Leaves`) stay as they are.

    Raises:
        InputError: a likelihood that has no maximum; the message says why (see `existence`). Or an
            objective that changes from call to call, as of a module with dropout.
        ShapeError: the data or the parameters carry batch dimensions.
    """
    methods = [minimise.lbfgs]
    return _solved(
        policy, params, objective, data, methods, tolerance, max_iterations, weight_decay
    )


@checked
@recording
def second_order(
    policy: Policy,
    params: Params,
    objective: Objective,
    data: Data,
    *,
    tolerance: float | None = None,
    max_iterations: int = 2000,
    weight_decay: float = 0.0,
) -> Solution[dict[str, Tensor]]:
    """Minimise a deterministic objective of one member by SciPy's trust-region Newton method.

    Few iterations, each with a Hessian ("trust-exact") or, of many parameters, with several
    Hessian-vector products ("trust-ncg"). It needs no line search, and follows directions of
    negative curvature, which a network's objective has.

    Arguments, result and errors are those of `gradient`; `iterations` counts evaluations of
    gradients and Hessian-vector products.
    """
    methods = [minimise.trust_region]
    return _solved(
        policy, params, objective, data, methods, tolerance, max_iterations, weight_decay
    )


@checked
@recording
def fit(
    policy: Policy,
    data: Data,
    objective: Objective | None = None,
    *,
    params: Params | None = None,
    weight_decay: float = 0.0,
    tolerance: float | None = None,
) -> Solution[dict[str, Tensor]]:
    """Minimise a deterministic objective: the likelihood, if no other is given.

    With `PolicyGradient` this is the inner solution near the start, `argmax_θ J - λ(ρ/2)‖θ‖²`; with
    the likelihood `argmax_θ E log p_θ(y | x) - (ρ/2)‖θ‖²`. L-BFGS is followed by a trust region.

    Args:
        policy: the policy; of a logistic regression with `ρ > 0` there is one solution.
        data: the data, without batch dimensions.
        objective: `NLL()` if not given.
        params: starting point; if not given `policy.zeros`, of a `GaussianPolicy` in units of the
            outcomes' deviations, from their mean. Networks with hidden layers need one: from
            parameters of 0 they do not move.
        weight_decay: `ρ >= 0`, as for `gradient`. Without it logits have a free constant, along
            which nothing has a slope.
        tolerance: as for `gradient`.

    Raises:
        InputError: no starting point for a policy without `zeros` or with hidden layers, or a
            likelihood that has no maximum; the message says why (see `existence`). Or an objective
            that changes from call to call, as of a module with dropout.
    """
    check_one_member("data", data)
    start = params
    if start is None:
        if not isinstance(policy, WithZeros):
            raise InputError(f"{type(policy).__name__} has no zeros: pass params to start from")
        start = policy.zeros(data.x.dtype)
    sizes = None
    if isinstance(policy, GaussianPolicy) and isinstance(data, Dataset):
        if params is None:
            start = at_outcomes(policy, start, data)
        else:
            law_at(policy, start, data)  # units are of what fits together, as `at_outcomes` sees
        sizes = units(policy, data)
    objective = NLL() if objective is None else objective
    return _solved(policy, start, objective, data, None, tolerance, 2000, weight_decay, sizes)


def decay(theta: Params, rho: float) -> Float[Tensor, ""]:
    """Return `(ρ/2)‖θ‖²`."""
    return rho / 2 * torch.stack([p.square().sum() for p in theta.values()]).sum()


def _solved(
    policy: Policy,
    params: Params,
    objective: Objective,
    data: Data,
    methods: Sequence[minimise.Method] | None,
    tolerance: float | None,
    max_iterations: int,
    weight_decay: float,
    sizes: Params | None = None,
) -> Solution[dict[str, Tensor]]:
    """Return the minimum of an objective of one member."""
    loss = _loss(policy, objective, data, weight_decay)
    check_moves(policy, params)
    nat = _nat(objective)
    if weight_decay or not isinstance(objective, NLL):
        return _minimum(params, loss, methods, tolerance, max_iterations, nat, sizes)

    check = partial(check_bounded, policy, params, data)
    found = _minimum(params, loss, methods, tolerance, max_iterations, nat, sizes, check)
    return judged(found, policy, data)


def _loss(
    policy: Policy, objective: Objective, data: Data, weight_decay: float
) -> Callable[[Params], Tensor]:
    """Return the loss of the parameters of one member, with its penalty."""
    rho = check_number("weight_decay", weight_decay, 0.0)
    check_one_member("data", data)
    nat = torch.as_tensor(objective.lam if isinstance(objective, PolicyGradient) else 1.0)

    def loss(theta: Params) -> Tensor:
        found = real("the objective", objective(policy(theta, data.x), data))
        return found + nat.to(found) * decay(theta, rho) if rho else found

    return loss


def _nat(objective: Objective) -> Number | Tensor:
    """Return a nat in units of the objective; 0 where it is not measured in nats."""
    if isinstance(objective, PolicyGradient):
        return objective.lam
    return 1.0 if isinstance(objective, NLL) else 0.0


@checked
@recording
def minimum(
    params: Params,
    loss: Callable[[Params], Float[Tensor, ""]],
    methods: Sequence[minimise.Method] | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 2000,
) -> Solution[dict[str, Tensor]]:
    """Minimise any deterministic loss of the parameters; results and errors as for `gradient`.

    Args:
        params: starting point, left unchanged.
        loss: of such parameters, one number.
        methods: from `numerics.minimise`, of the search far from the minimum; L-BFGS and then a
            trust region if not given.
        tolerance: as for `gradient`.
        max_iterations: as for `gradient`.
    """
    return _minimum(params, loss, methods, tolerance, max_iterations, 0.0)


def _minimum(
    params: Params,
    loss: Callable[[Params], Tensor],
    methods: Sequence[minimise.Method] | None,
    tolerance: float | None,
    max_iterations: int,
    unit: Number | Tensor,
    sizes: Params | None = None,
    check: Callable[[], None] | None = None,
) -> Solution[dict[str, Tensor]]:
    """Return the minimum, searched for in units of parameters, where these are given by name."""
    if tolerance is not None:
        tolerance = check_number("tolerance", tolerance, 0.0)
    check_count("max_iterations", max_iterations)
    leaves = Leaves.of("params", dict(params)).fresh()
    scales: list[Tensor] = []
    if sizes is not None:
        of = {f"params[{name!r}]": size for name, size in sizes.items()}
        one = leaves.tensors[0].new_ones(())
        scales = [of.get(name, one) for name in leaves.names]
        leaves = leaves.replaced(
            [t.detach() / s for t, s in zip(leaves.tensors, scales, strict=True)]
        )

    def point() -> dict[str, Tensor]:
        if not scales:
            return leaves.tree()
        return leaves.tree([t * s for t, s in zip(leaves.tensors, scales, strict=True)])

    def value() -> Tensor:
        found = loss(point())
        if isinstance(found, Tensor) and found.ndim:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ShapeError(
                f"the objective returned shape {tuple(found.shape)}, not one number: "
                f"give the reward and lam no batch dimensions"
            )
        found = number("the objective", found)
        check_depends("the objective", found, "the parameters")
        return found

    tolerance = digits(1e-8, leaves.tensors[0].dtype) if tolerance is None else tolerance
    at = "the starting point"
    check_repeats("the objective", finite_number("the objective", value(), at), value(), at)
    if check is not None:  # once it is known that parameters and data fit together
        check()
    nat = torch.as_tensor(unit).item()
    stop = minimise.search(
        leaves.tensors, value, tolerance, max_iterations, methods=methods, unit=nat
    )
    steep = stop.stationarity
    if scales:
        found = slopes(value(), leaves.tensors)
        steep = max(largest_entry(g / s) for g, s in zip(found, scales, strict=True))
    return Solution(
        {name: p.detach() if p.requires_grad else p for name, p in point().items()},
        stop.converged,
        steep,
        stop.evaluations,
        stop.distance,
        stop.reason,
    )
