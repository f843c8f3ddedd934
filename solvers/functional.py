"""Hypergradients in the outputs of a policy: no linear system, whatever its parameters.

The Hessian of the inner objective in the parameters of a network is singular. In the outputs it is
not: at each input, with `e = m - μ`,

    J_x(m, P) = -eᵀUe - Tr(UP) - Tr(UΣ) + (λ/2) log det P + const

is strictly concave, and the adjoint `(a, A)` solves `d²J(a, A; ·) + dF = 0` in closed form:

    a = (2U)⁻¹ ∂_mF,    A = (2/λ) P (∂_PF) P,    dF/dφ = ∂_φ dJ(a, A).

The inner problem is the one over all functions of the inputs. Where the policy attains its
solution this is the hypergradient of the parameters; where its class is too small, or training
stopped early, it is not, and `stationarity` says how far the policy is from the solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import (
    InputError,
    ShapeError,
    check_finite,
    check_positive,
    check_same_n,
    check_spd,
)
from solvers.gaussian import Gaussian
from solvers.hypergradient import Hypergradient, check_trust
from solvers.policies import GaussianPolicy, Params, Structure
from solvers.rewards import MahalanobisReward
from solvers.trees import Leaves, Tree

RewardOf = Callable[[Tree], MahalanobisReward]
"""`φ -> r`: a factor `(n, n)`, or `(N, n, n)` with one matrix for each inner input."""


def functional(
    policy: GaussianPolicy,
    params: Params,
    reward_of: RewardOf,
    phi: Tree,
    lam: float | Tensor,
    data: Dataset,
    outer_data: Dataset | None = None,
    *,
    distance: float = 1e-6,
    strict: bool = False,
) -> Hypergradient:
    """Return `dF/dφ = E_x ∂_φ dJ_x(a, A)`, `F` the expected log-likelihood of the outer data.

    Args:
        policy: a policy of any structure and any networks.
        params: of a single member; at its inner solution, or near it.
        reward_of: the reward of `phi`, differentiable; input-dependent if its factor is `(N, n, n)`.
        phi: outer variables, a tree of tensors.
        lam: entropy weight `λ > 0`.
        data: inner data, without batch dimensions. Rows that share an input share the outputs.
        outer_data: held-out outcomes at inputs of `data`, by default `data` itself. At inputs it
            lacks the adjoint is 0.
        distance: how far from the inner solution the outputs may be, estimated as stationarity
            over curvature, relative to `1 +` their root mean square.
        strict: raise where the default is to warn.

    Returns:
        The hypergradient. `stationarity` is the root mean square over inputs of `‖∂J_x‖` in the
        outputs: `m`, and `P` (full), its diagonal, or `s` with `P = s I`; `curvature` the smallest
        eigenvalue of `-∂²J_x` in them over all inputs. `residual` is None and `iterations` 0:
        nothing is solved iteratively.

    Raises:
        InputError: `lam` is not positive, or the outer data have an input the inner data lack:
            the inner problem does not determine the outputs there, nor how they depend on `phi`.
        ShapeError: shapes or outcome dimensions that do not fit together.
        NotPositiveDefiniteError: `U` is not positive definite at some input.
        NonFiniteError: NaN or infinity in an argument or in the result.
        HypergradientError: with `strict`, whatever is warned of otherwise.

    Warns:
        HypergradientWarning: the outputs are not the solution of the inner problem over all
            functions, so that this is not the hypergradient of the trained policy.

    Source: Petrulionyte, Mairal, Arbel, "Functional Bilevel Optimization for Machine Learning",
    2024; the closed form for Gaussian policies is new. `G` with `dF = Tr(G dU)` where `phi` is a
    symmetric `U` that enters through `torch.linalg.cholesky`.
    """
    weight = torch.as_tensor(lam, dtype=data.x.dtype, device=data.x.device).detach()
    if weight.ndim:
        raise ShapeError(f"lam has shape {tuple(weight.shape)}: pass one number")
    check_positive("lam", weight)
    held_out = data if outer_data is None else outer_data
    for name, one in (("data", data), ("outer_data", held_out)):
        if one.x.ndim != 2:
            raise ShapeError(f"{name}.x has shape {tuple(one.x.shape)}: pass one member, (N, d)")
        for part in ("x", "mean", "covariance"):
            check_finite(f"{name}.{part}", getattr(one, part))
        check_same_n(name, one.n, "the policy", policy.n)
    Leaves.of("params", dict(params))
    outer = Leaves.of("phi", phi).fresh()
    reward = reward_of(outer.tree())
    _check_reward(reward, policy.n, len(data.x))
    points = _Inputs.of(data, held_out)
    outputs = _Outputs.of(policy, params, points.x)
    at_data = outputs.rows(points.inner)
    J = reward.expected(at_data.law(), data.mean, data.covariance) + weight * at_data.law().entropy()
    slopes = torch.autograd.grad(
        J.mean(), [outputs.mean, outputs.spread], create_graph=True, materialize_grads=True
    )
    law = outputs.rows(points.outer).law()
    F = -law.cross_entropy(held_out.mean, held_out.covariance).mean()
    pulls = torch.autograd.grad(F, [outputs.mean, outputs.spread], materialize_grads=True)
    share = points.shares()
    U = points.average(reward.U.detach().expand(len(data.x), policy.n, policy.n))
    a = mean_adjoint(U, pulls[0] / share[:, None])
    spread = outputs.spread.detach()
    A = covariance_adjoint(spread, pulls[1] / _like(share, spread), weight, outputs.structure)
    linear = (slopes[0] * a).sum() + (slopes[1] * A).sum()
    if linear.requires_grad and reward.cholesky.requires_grad:
        cross = torch.autograd.grad(linear, outer.tensors, materialize_grads=True)
    else:
        raise InputError("the reward does not depend on phi: build it from the argument")
    for name, gradient in zip(outer.names, cross, strict=True):
        check_finite(f"the hypergradient in {name}", gradient)
    result = Hypergradient(
        outer.tree(cross),
        math.sqrt(sum(float((g.detach().flatten(1).square().sum(1) / share).sum()) for g in slopes)),
        None,
        0,
        min(
            2 * float(torch.linalg.eigvalsh(U).min()),
            _covariance_curvature(spread, float(weight), policy.n, outputs.structure),
        ),
    )
    size = math.sqrt(
        sum(
            float((o.flatten(1).square().sum(1) * share).sum())
            for o in (outputs.mean.detach(), spread)
        )
    )
    check_trust(result, size, math.inf, distance, strict=strict)
    return result


def mean_adjoint(U: Float[Tensor, "K n n"], pull: Float[Tensor, "K n"]) -> Float[Tensor, "K n"]:
    """Return `a = (2U)⁻¹ ∂_mF` per input."""
    return torch.cholesky_solve(pull[..., None], torch.linalg.cholesky(2 * U))[..., 0]


def covariance_adjoint(
    spread: Float[Tensor, "K ..."], pull: Float[Tensor, "K ..."], lam: Tensor, structure: Structure
) -> Float[Tensor, "K ..."]:
    """Return `A = (2/λ) P (∂_PF) P` per input, in the free entries of `P`.

    Args:
        spread: `P`, `(K, n, n)`; its diagonal, `(K, n)`; or `s` with `P = s I`, expanded to `n`
            equal columns `(K, n)`, in which case each column carries its share of `∂F/∂s`.
        pull: `∂F` in `spread`; symmetric where that is a matrix.
        lam: `λ`.
        structure: of `P`.
    """
    if structure == "full":
        return 2 / lam * spread @ pull @ spread
    if structure == "diagonal":
        return 2 / lam * spread.square() * pull
    return 2 / lam * spread.square() * pull.mean(-1, keepdim=True)
