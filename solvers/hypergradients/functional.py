"""Hypergradients in the outputs of a policy: no linear system, whatever its parameters.

The Hessian of the inner objective in the parameters of a network is singular. In the outputs it is
not: at each input, with `e = m - μ`,

    J_x(m, P) = -eᵀUe - Tr(UP) - Tr(UΣ) + (λ/2) log det P + const

is strictly concave, and the adjoint `(a, A)` solves `d²J(a, A; ·) + dF = 0` in closed form:

    a = (2U)⁻¹ ∂_mF,    A = (2/λ) P (∂_PF) P,    dF/dφ = ∂_φ dJ(a, A).

With `-λ KL(p ‖ p₀)` in place of `λH`, `p₀ = N(m₀, P₀)`, only `a = (2U + λP₀⁻¹)⁻¹ ∂_mF` is another.

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

from ..arguments import checked
from ..data import Dataset
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_number,
    check_finite,
    check_instance,
    check_limit,
    check_positive,
    check_same_n,
    check_spd,
)
from ..families.gaussian import Gaussian, GaussianPolicy
from ..families.law import Params, check_one_member
from ..numerics.modes import recording
from ..numerics.norms import digits
from ..numerics.trees import Leaves, Tree, flat
from ..rewards.mahalanobis import MahalanobisReward
from ..training.reference import ReferenceLaw
from .implicit import Hypergradient, check_derivatives, judged, largest_of

RewardOf = Callable[[Tree], MahalanobisReward]
"""`φ -> r`: a factor `(n, n)`, or `(N, n, n)` with one matrix for each inner input."""


@checked
@recording
def functional(
    policy: GaussianPolicy,
    params: Params,
    reward_of: RewardOf,
    phi: Tree,
    lam: Number | Tensor,
    data: Dataset,
    outer_data: Dataset | None = None,
    *,
    reference: ReferenceLaw | None = None,
    distance: float | None = None,
    strict: bool = False,
) -> Hypergradient:
    """Return `dF/dφ = E_x ∂_φ dJ_x(a, A)`, `F` the expected log-likelihood of the outer data.

    Args:
        policy: a policy of any structure and any networks.
        params: of a single member; at its inner solution, or near it.
        reward_of: the reward of `phi`; one for each row of `data` if its factor is `(N, n, n)`.
        phi: outer variables, a tree of tensors.
        lam: entropy weight `λ > 0`.
        data: inner data, without batch dimensions. Rows that share an input share the outputs.
        outer_data: held-out outcomes at inputs of `data`, by default `data` itself. At inputs it
            lacks the adjoint is 0.
        reference: Gaussian `p₀`, with which `-λ KL(p ‖ p₀)` stands in place of `λH`.
        distance: how far from the inner solution the outputs may be, as a Newton step predicts
            it, in standard deviations of the policy: root mean square over inputs of `‖a‖` in the
            norm of `P⁻¹`, `a` the step of the mean, and of `‖P⁻¹A‖`, `A` that of `P`. By default
            1e-6. It has no units.
        strict: raise where the default is to warn.

    Returns:
        The hypergradient. `stationarity` is the root mean square over inputs of `‖∂J_x‖` in the
        outputs: `m`, and `P` (full), its diagonal, or `s` with `P = s I`; `curvature` the smallest
        eigenvalue of `-∂²J_x` in them over all inputs. `residual` is None and `iterations` 0:
        nothing is solved iteratively.

    Raises:
        InputError: `lam` is not positive, `distance` no number >= 0, or the outer data have an
            input the inner data lack: the inner problem does not determine the outputs there, nor
            how they depend on `phi`.
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
    check_limit("distance", distance)
    weight = as_number("lam", lam, data.x).detach()
    held_out = data if outer_data is None else outer_data
    for name, one in (("data", data), ("outer_data", held_out)):
        check_one_member(name, one)
        for part in ("x", "mean", "covariance"):
            check_finite(f"{name}.{part}", getattr(one, part))
        check_same_n(name, one.n, "the policy", policy.n)
    inner = Leaves.of("params", {name: p.detach() for name, p in params.items()})
    outer = Leaves.of("phi", phi).fresh()
    reward = reward_of(outer.tree())
    check_instance("what reward_of returned", reward, MahalanobisReward, "a MahalanobisReward")
    _check_reward(reward, policy.n, len(data.x))
    check_derivatives({"U": reward.U}, inner, outer)
    check_spd(f"U at {largest_of(outer)}", reward.U.detach())
    points = _Inputs.of(data, held_out)
    outputs = _Outputs.of(policy, params, points.x)
    at_data = outputs.law(points.inner)
    base = None if reference is None else reference(data.x)
    kept = at_data.entropy() if base is None else -at_data.kl(base)
    J = reward.expected(at_data, data) + weight * kept
    free = [outputs.mean, outputs.spread]
    slopes = torch.autograd.grad(J.mean(), free, create_graph=True, materialize_grads=True)
    F = -outputs.law(points.outer).cross_entropy(held_out).mean()
    pulls = torch.autograd.grad(F, free, materialize_grads=True)
    share = points.shares()
    spread = outputs.spread.detach()
    bend = reward.U.detach()
    if base is not None:
        bend = bend + weight / 2 * base.precision()
    U = points.average(bend.expand(len(data.x), policy.n, policy.n))
    a = mean_adjoint(U, _per_input(pulls[0], share))
    A = covariance_adjoint(spread, _per_input(pulls[1], share), weight, policy)
    linear = (slopes[0] * a).sum() + (slopes[1] * A).sum()
    cross = torch.autograd.grad(linear, outer.tensors, materialize_grads=True)
    check_derivatives({"dF/dφ": flat(cross)}, inner, outer)
    steep = [_per_input(g.detach(), share) for g in slopes]
    away = _whitened(
        spread, mean_adjoint(U, steep[0]), covariance_adjoint(spread, steep[1], weight, policy)
    )
    in_mean = 2 * float(torch.linalg.eigvalsh(U).min())
    result = Hypergradient(
        value=outer.tangent(cross),
        stationarity=math.sqrt(sum(_mean_square(g, share) for g in steep)),
        residual=None,
        iterations=0,
        curvature=min(in_mean, covariance_curvature(spread, float(weight), policy)),
    )
    distance = digits(1e-6, data.x.dtype) if distance is None else float(distance)
    far = math.sqrt(sum(_mean_square(step, share) for step in away))
    reasons: list[str] = []
    if not far <= distance:
        reasons.append(
            f"the inner gradient is {result.stationarity:.3g}: the outputs are about {far:.3g} "
            f"standard deviations from the inner solution over all functions; train on, take a "
            f"policy that can be there, or pass distance={far:.1g}"
        )
    return judged(result, reasons, strict=strict)


def _whitened(
    spread: Float[Tensor, "K ..."], mean: Float[Tensor, "K n"], covariance: Float[Tensor, "K ..."]
) -> tuple[Float[Tensor, "K ..."], Float[Tensor, "K ..."]]:
    """Return steps of the mean and of `P` in units of `P`: `L⁻¹a`, `L⁻¹AL⁻ᵀ`, `P = LLᵀ`."""
    if spread.ndim == 2:
        return mean / spread.sqrt(), covariance / spread
    L = torch.linalg.cholesky(spread)

    def inverse(x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(L, x, upper=False)

    return inverse(mean[..., None])[..., 0], inverse(inverse(covariance).mT).mT


def mean_adjoint(U: Float[Tensor, "K n n"], pull: Float[Tensor, "K n"]) -> Float[Tensor, "K n"]:
    """Return `a = (2U)⁻¹ ∂_mF` for each input."""
    return torch.cholesky_solve(pull[..., None], torch.linalg.cholesky(2 * U))[..., 0]


def covariance_adjoint(
    spread: Float[Tensor, "K ..."],
    pull: Float[Tensor, "K ..."],
    lam: Float[Tensor, ""],
    policy: GaussianPolicy,
) -> Float[Tensor, "K ..."]:
    """Return `A = (2/λ) P (∂_PF) P` for each input, in the free entries of `P`.

    Args:
        spread: `P`, `(K, n, n)` (full); its diagonal, `(K, n)` (diagonal), where `A` is
            `(2/λ) P_ii² ∂F/∂P_ii`; `s`, `(K, 1)` (isotropic), where it is `(2/(λn)) s² ∂F/∂s`.
        pull: derivative of `F` in `spread`, symmetric where that is a matrix.
        lam: `λ`.
        policy: tells the structure.
    """
    if policy.structure == "full":
        return 2 / lam * spread @ pull @ spread
    copies = policy.n if policy.structure == "isotropic" else 1
    return 2 / (lam * copies) * spread.square() * pull


def covariance_curvature(
    spread: Float[Tensor, "K ..."], lam: float, policy: GaussianPolicy
) -> float:
    """Return the smallest eigenvalue of `-∂²J` in the free entries of `P`, over all inputs.

    `(λ/2)/max eig(P)²`; for an isotropic policy `λn/(2s²)`.
    """
    if policy.structure == "full":
        return lam / 2 / float(torch.linalg.eigvalsh(spread).max()) ** 2
    copies = policy.n if policy.structure == "isotropic" else 1
    return lam / 2 * copies / float(spread.max()) ** 2


@dataclass(frozen=True)
class _Inputs:
    """The distinct inputs, and which of them each row has.

    Attributes:
        x: distinct inputs.
        inner: index into `x` of each row of the inner data.
        outer: index of each row of the outer data.
    """

    x: Float[Tensor, "K d"]
    inner: Int[Tensor, "N"]
    outer: Int[Tensor, "M"]

    @classmethod
    def of(cls, data: Dataset, held_out: Dataset) -> _Inputs:
        """Match the rows.

        Raises:
            InputError: an outer input is not among the inner ones.
            ShapeError: inputs of another width or dtype.
        """
        if held_out.x.shape[1] != data.x.shape[1] or held_out.x.dtype != data.x.dtype:
            raise ShapeError(
                f"outer_data.x is {held_out.x.dtype} with {held_out.x.shape[1]} columns, data.x "
                f"{data.x.dtype} with {data.x.shape[1]}: pass the same inputs"
            )
        rows = torch.cat([data.x, held_out.x])
        x, index = torch.unique(rows, dim=0, return_inverse=True)
        inner, outer = index.split([len(data.x), len(held_out.x)])
        missing = ~torch.isin(outer, inner)
        if bool(missing.any()):
            first = int(missing.nonzero()[0])
            raise InputError(
                f"outer_data.x[{first}] is no input of data ({int(missing.sum())} of {len(outer)} "
                "rows are not): the inner problem says nothing about the outputs there; pass other "
                "outcomes at the inputs of data, or use hypergradients.implicit, which goes "
                "through the parameters"
            )
        return cls(x, inner, outer)

    def shares(self) -> Float[Tensor, "K"]:
        """Return the fraction of inner rows at each distinct input."""
        return torch.bincount(self.inner, minlength=len(self.x)).to(self.x) / len(self.inner)

    def average(self, values: Float[Tensor, "N n n"]) -> Float[Tensor, "K n n"]:
        """Return the mean over the inner rows at each distinct input."""
        total = values.new_zeros(len(self.x), *values.shape[1:]).index_add(0, self.inner, values)
        return _per_input(total / len(self.inner), self.shares())


@dataclass(frozen=True)
class _Outputs:
    """The outputs of the policy at the distinct inputs, as variables of their own.

    Attributes:
        mean: `m`.
        spread: the free entries of `P`: the matrix, its diagonal, or `s`, `(K, 1)`.
        policy: tells the structure.
    """

    mean: Float[Tensor, "K n"]
    spread: Float[Tensor, "K ..."]
    policy: GaussianPolicy

    @classmethod
    def of(cls, policy: GaussianPolicy, params: Params, x: Float[Tensor, "K d"]) -> _Outputs:
        """Evaluate the policy; a scale it shares among inputs becomes one for each."""
        with torch.no_grad():
            law = policy(params, x)
            if law.mean.ndim != 2:
                raise ShapeError(
                    f"the policy's mean has shape {tuple(law.mean.shape)}: pass the params of one "
                    f"member"
                )
            spread = law.covariance if law.full else law.scale.square()
            if policy.structure == "isotropic":
                spread = spread[..., :1]
            spread = spread.expand(len(x), *spread.shape[1:]).clone()
        check_finite("the policy's mean", law.mean)
        check_finite("the policy's covariance", spread)
        variances = spread.diagonal(dim1=-2, dim2=-1) if law.full else spread
        check_positive("the policy's variances", variances)  # whose squares may be 0
        return cls(law.mean.clone().requires_grad_(), spread.requires_grad_(), policy)

    def law(self, index: Int[Tensor, "N"]) -> Gaussian:
        """Return the law at each of the rows."""
        mean, spread = self.mean[index], self.spread[index]
        if self.policy.structure == "full":
            return Gaussian(mean, torch.linalg.cholesky(spread), check=False)
        return Gaussian(mean, spread.sqrt().expand_as(mean), check=False)


def _check_reward(reward: MahalanobisReward, n: int, rows: int) -> None:
    """Raise unless the reward fits and depends on `phi`."""
    shape = tuple(reward.cholesky.shape)
    if shape not in ((n, n), (1, n, n), (rows, n, n)):
        raise ShapeError(
            f"the factor of the reward has shape {shape}: return {(n, n)}, or {(rows, n, n)} with "
            "one matrix for each input"
        )
    if not reward.cholesky.requires_grad:
        raise InputError("the reward does not depend on phi: build it from the argument")


def _per_input(total: Float[Tensor, "K *s"], share: Float[Tensor, "K"]) -> Float[Tensor, "K *s"]:
    """Return the entries of each input divided by its share."""
    return total / share.reshape(-1, *(1,) * (total.ndim - 1))


def _mean_square(values: Float[Tensor, "K *s"], share: Float[Tensor, "K"]) -> float:
    """Return `E_x ‖values‖²`."""
    return float((share * values.flatten(1).square().sum(1)).sum())
