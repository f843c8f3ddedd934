"""The bounded reward `r(ŷ, y) = exp(-‖ŷ - y‖²/ω)`, and when training on it has a solution.

Its inner problem is another kind than the Mahalanobis reward's: the reward stays between 0 and 1
while the entropy grows without bound, so `J` never has a global maximum, and a local one only for
small enough an entropy weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.optimize import elementwise
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_positive,
    check_batches,
    check_broadcast,
    check_count,
    check_dtype,
    check_finite,
    check_offers,
    precedent,
    warn,
)
from ..families.gaussian import Gaussian, align
from ..families.law import OUTCOMES
from ..numerics.modes import recording
from ..numerics.norms import digits, largest_entry
from ..numerics.solution import Solution
from .mahalanobis import check_pair


class NoLocalMaximumError(InputError):
    """The entropy weight is so large that the inner problem has no local maximum."""


class NoGlobalMaximumWarning(UserWarning):
    """The inner solution is a local maximum only: `J` grows without bound with the variance."""


@checked_class
@dataclass(frozen=True)
class BoundedReward:
    """`r(ŷ, y) = exp(-‖ŷ - y‖²/ω)`, a radial basis function of the deviation.

    Attributes:
        omega: width `ω > 0`, a number or `(*b,)`; it takes dtype and device of the laws and
            outcomes it meets.

    Raises:
        InputError: `omega` is not positive.
    """

    omega: Number | Float[Tensor, "*b"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", as_positive("omega", self.omega))

    def of(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d"]:
        """Return `exp(-‖e‖²/ω)`."""
        if not deviation.ndim:
            raise ShapeError("the deviation is one number: pass (*b, n)")
        squares = deviation.square().sum(-1)
        return torch.exp(-squares / self._leading(squares, squares.shape))

    def __call__(
        self, generation: Float[Tensor, "*d n"], y: Float[Tensor, "*e n"]
    ) -> Float[Tensor, "*f"]:
        """Return `r(ŷ, y)` for broadcastable generations and data points."""
        check_pair(generation, y)
        return self.of(generation - y)

    def expected(self, law: Gaussian, q: Any) -> Float[Tensor, "*e"]:
        """Return `E r = det(I + 2T/ω)^{-1/2} exp(-(m-μ)ᵀ(ωI + 2T)⁻¹(m-μ))`, `T = P + Σ`.

        Args:
            law: of the generations, of mean `m` and covariance `P`.
            q: a Gaussian law of mean `μ` and covariance `Σ`; or data, over whose outcomes, each
                with `Σ = 0`, the mean of these is taken.

        Raises:
            InputError: `q` without outcomes: two moments of them do not say what it expects.
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        if isinstance(q, Gaussian):
            return self._against_normal(law, q.mean, q.covariance)
        check_offers("q", q, ("y", "covariance"), OUTCOMES)
        points = Gaussian(
            law.mean.unsqueeze(-2), law.scale.unsqueeze(-3 if law.full else -2), check=False
        )
        nothing = torch.zeros_like(q.covariance).unsqueeze(-3)
        return self._against_normal(points, q.y, nothing).mean(-1)

    def _against_normal(self, law: Gaussian, mu: Tensor, Sigma: Tensor) -> Tensor:
        """Return `E r` against a normal outcome, which is a point where `Σ = 0`."""
        law.check_moments(mu, Sigma)
        T = law.covariance + Sigma
        batch = torch.broadcast_shapes(T.shape[:-2], law.mean.shape[:-1], mu.shape[:-1])
        omega = self._leading(T, (*batch, law.n, law.n))
        identity = torch.eye(law.n, dtype=T.dtype, device=T.device)
        factor = torch.linalg.cholesky(identity + 2 * T / omega)
        whitened = torch.linalg.solve_triangular(
            factor, (law.mean - mu).unsqueeze(-1), upper=False
        )[..., 0]
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.exp(-whitened.square().sum(-1) / omega[..., 0, 0] - log_det / 2)

    def _leading(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return `ω` of the dtype of `like`, its batch ahead, with the dimensions of `shape`."""
        omega = torch.as_tensor(self.omega).to(like)
        if omega.ndim > len(shape):
            raise ShapeError(
                f"omega has shape {tuple(omega.shape)}, the outcomes {len(shape)} batch dimensions"
                ": its batch leads, so pass outcomes of at least as many"
            )
        check_broadcast("omega", omega.shape, "the outcomes", shape[: omega.ndim])
        return align(omega, omega.ndim, len(shape))


@checked
def critical_lam(
    omega: Number | Float[Tensor, "*#b"], variance: Number | Float[Tensor, "*#b"], n: int
) -> Float[Tensor, "*b"]:
    """Return `λ_c = 2 (ω/(ω+2β²))^{n/2} n^{n/2}/(n+2)^{n/2+1}`.

    An isotropic policy in `n` dimensions, trained on data `N(μ, β²I)`, has a locally optimal
    variance iff `λ < λ_c`. Where `λ_c` is below all numbers of the dtype, it is 0.

    Args:
        omega: width `ω > 0` of the reward, `(*b,)`.
        variance: `β² > 0` of the data, `(*b,)`.
        n: outcome dimension.

    Raises:
        InputError: `omega` or `variance` is not positive.

    Source: new.
    """
    check_count("n", n)
    like = precedent(omega, variance)
    omega, variance = as_positive("omega", omega, like), as_positive("variance", variance, like)
    check_broadcast("omega", omega.shape, "variance", variance.shape)
    share = 1 / (1 + 2 * variance / omega)
    return 2 / (n + 2) * (share * (n / (n + 2))) ** (n / 2)


@checked
@recording
def inner_solution(
    reward: BoundedReward,
    lam: Number | Float[Tensor, "*#b"],
    mu: Float[Tensor, "*#b n"],
    variance: Number | Float[Tensor, "*#b"],
) -> Solution[Gaussian]:
    """Return the locally optimal isotropic policy `N(μ, sI)` on data `N(μ, β²I)`.

    `s` is the smaller root of `λ = h(s) = 2s ω^{n/2}/(ω + 2s + 2β²)^{n/2+1}`. It attracts every
    start below the larger root; from above it, the variance grows for ever.

    Args:
        reward: of width `ω`, `(*b,)`.
        lam: entropy weight `λ > 0`, `(*b,)`.
        mu: mean of the data, `(*b, n)`.
        variance: `β² > 0` of the data, `(*b,)`.

    Returns:
        A `Solution` whose value has mean `(*b, n)` and scale `(*b, n)`; its stationarity is that
        of `J` in `(m, log s)`, measured by autograd, its distance the slope in `log s` over that
        of the entropy, `λn/2`.

    Raises:
        NoLocalMaximumError: `lam >= critical_lam(...)`.
        InputError: `lam`, `omega` or `variance` is not positive.

    Warns:
        NoGlobalMaximumWarning: always, because no global maximum exists for any `λ > 0`.

    Source: new.
    """
    check_dtype("mu", mu)
    if not mu.ndim:
        raise ShapeError("mu is one number: pass (*b, n)")
    check_finite("mu", mu)
    named = {"lam": lam, "omega": reward.omega, "variance": variance}
    scalars = [as_positive(name, number, mu) for name, number in named.items()]
    batches = {name: scalar.shape for name, scalar in zip(named, scalars, strict=True)}
    check_batches({**batches, "mu": mu.shape[:-1]})
    n = mu.shape[-1]
    weight, omega, spread, _ = torch.broadcast_tensors(*scalars, mu[..., 0])
    mu = mu.expand(*weight.shape, n)
    limit = critical_lam(omega, spread, n)
    if bool((weight >= limit).any()):
        worst = int((weight / limit).argmax())
        raise NoLocalMaximumError(
            f"lam is {weight.flatten()[worst].item():.6g}, and J has a local maximum only below "
            f"{limit.flatten()[worst].item():.6g} (omega = {omega.flatten()[worst].item():.6g}, "
            f"variance = {spread.flatten()[worst].item():.6g}, n = {n}): pass a smaller lam, or a "
            "larger omega"
        )
    warn(
        "the inner solution of a bounded reward is a local maximum only: J grows without bound "
        "with the policy's variance; start training below the larger root",
        NoGlobalMaximumWarning,
    )
    s = _smaller_root(weight / limit, n) * (omega + 2 * spread) / n
    law = Gaussian(mu, s.sqrt().unsqueeze(-1).expand_as(mu))
    slopes = _slopes(BoundedReward(omega), weight, mu, spread, s)
    # J is of the size of λ, and the natural unit of the mean is sqrt(s).
    relative = (slopes[0].abs().amax(-1) * s.sqrt()).maximum(slopes[1].abs()) / (weight * n / 2)
    distance = float(relative.detach().amax())
    stationarity = max(map(largest_entry, slopes))
    converged = distance <= digits(1e-8, mu.dtype)
    return Solution(law, converged, stationarity, 0, distance, "it is the root of an equation")


def _smaller_root(q: Tensor, n: int) -> Tensor:
    """Return `t = s/s̄` in (0, 1) of the root of `λ = h(s)`; at `s̄ = (ω + 2β²)/n` `h` is largest.

    With `λ = q λ_c` and `λ_c = h(s̄)` it is `t = q ((n + 2t)/(n + 2))^{n/2+1}`, whatever `ω` and
    `β`. The power stays between `1/e` and 1.
    """

    def gap(t: Any, q: Any) -> Any:
        return t - q * ((n + 2 * t) / (n + 2)) ** (n / 2 + 1)

    numbers = q.detach().cpu().double().numpy()
    found = elementwise.find_root(gap, (0 * numbers, 0 * numbers + 1), args=(numbers,))
    return torch.as_tensor(found.x).to(q)


def _slopes(
    reward: BoundedReward, lam: Tensor, mu: Tensor, variance: Tensor, s: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradient of `J` in the mean and in `log s`."""
    mean = mu.detach().clone().requires_grad_()
    log_s = s.detach().log().requires_grad_()
    law = Gaussian(mean, (log_s / 2).exp().unsqueeze(-1).expand_as(mean), check=False)
    data = Gaussian(mu.detach(), variance.detach().sqrt().unsqueeze(-1).expand_as(mu), check=False)
    J = reward.expected(law, data) + lam.detach() * law.entropy()
    return torch.autograd.grad(J.sum(), [mean, log_s])
