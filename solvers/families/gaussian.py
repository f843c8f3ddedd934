"""Gaussian laws `N(m, P)`, and policies that return one at each input.

`P = S Sᵀ` with `S` either a vector of standard deviations (isotropic and diagonal policies) or a
lower-triangular Cholesky factor (full ones). Leading dimensions are batch dimensions, the last
one is the outcome dimension `n`; log-probabilities and entropies are summed over `n`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..data import Dataset, TwoMoments
from ..errors import (
    InputError,
    ShapeError,
    check_broadcast,
    check_choice,
    check_columns,
    check_count,
    check_factor,
    check_finite,
    check_instance,
    check_offers,
    check_positive,
    check_precision,
    check_same_n,
)
from ..numerics.modes import recording
from ..numerics.triangular import lower_triangular_by_rows
from .baselines import Baseline, advantage
from .law import (
    OUTCOMES,
    NormalNoise,
    Params,
    Quadratic,
    check_family,
    law_at,
    of_members_or_inputs,
    reward_of_pairs,
)
from .networks import MLP, check_outputs, init_members, parameter

Structure = Literal["isotropic", "diagonal", "full"]
STRUCTURES: tuple[Structure, ...] = get_args(Structure)
POSITIVE = {"exp": torch.exp, "softplus": torch.nn.functional.softplus}


@checked_class
@dataclass(frozen=True)
class Gaussian:
    """`N(m, P)` with `P = S Sᵀ`.

    Attributes:
        mean: `m`, shape `(*b, n)`.
        scale: `S`: standard deviations `(*b, n)`, or a Cholesky factor `(*b, n, n)`. Its batch
            dimensions are those of the mean, each of them of size 1 where all share one `S`: none
            is left out, so that the number of dimensions tells deviations from factors.
        check: whether to look at the numbers. Policies, which build a law at every step of a
            training, leave it out: a member that diverges is then NaN, alone.

    `diagonal` and `cholesky` broadcast as `torch.distributions` does.

    Raises:
        ShapeError: a scale of another shape.
        InputError: a factor that stands where deviations do, or deviations where a factor does;
            NaN or infinity, a deviation that is not positive, or no lower triangular factor with a
            positive diagonal; or two dtypes.
    """

    mean: Float[Tensor, "*b n"]
    scale: Float[Tensor, "..."]
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        mean, scale = self.mean.shape, self.scale.shape
        extra = len(scale) - len(mean)
        if not mean or extra not in (0, 1) or set(scale[len(mean) - 1 :]) != {mean[-1]}:
            raise ShapeError(_misfit(mean, scale))
        for many, few in zip(mean[:-1], scale, strict=False):
            if few != many and few != 1:
                raise ShapeError(_misfit(mean, scale))
        if self.mean.dtype != self.scale.dtype:
            raise InputError(f"mean is {self.mean.dtype}, scale {self.scale.dtype}: use one dtype")
        # Inside a transform of torch.func values cannot be looked at.
        if not check or torch._C._are_functorch_transforms_active():  # pyright: ignore[reportPrivateUsage]
            return
        # Deviations are positive, and a factor is 0 above the diagonal: where the shape alone would
        # let one pass for the other, as with a factor that n rows share, one entry tells.
        n = mean[-1]
        if n > 1 and scale[-2:] == (n, n) and self.scale.numel():
            corner = self.scale[(0,) * (len(scale) - 1) + (n - 1,)].abs()
            if bool(corner > 0 if extra else corner == 0):
                raise InputError(_misread(mean, scale, corner.item()))
        check_finite("mean", self.mean)
        if extra:
            check_factor("scale", self.scale)
        else:
            check_positive("scale", self.scale)

    @classmethod
    def diagonal(cls, mean: Float[Tensor, "*#b n"], s: Float[Tensor, "*#b n"]) -> Gaussian:
        """Return `N(m, diag(s²))`; batch dimensions broadcast.

        Args:
            mean: `m`.
            s: standard deviations, positive.

        Raises:
            ShapeError: shapes that do not fit.
            InputError: a deviation that is not positive, or NaN or infinity.
        """
        if not (mean.ndim and s.ndim) or s.shape[-1] != mean.shape[-1]:
            raise ShapeError(
                f"mean is {tuple(mean.shape)}, s {tuple(s.shape)}: pass mean (*b, n), s (*b, n)"
            )
        check_positive("s", s)
        return cls(*_aligned(mean, s, 1))

    @classmethod
    def cholesky(cls, mean: Float[Tensor, "*#b n"], L: Float[Tensor, "*#b n n"]) -> Gaussian:
        """Return `N(m, LLᵀ)`; batch dimensions broadcast.

        Args:
            mean: `m`.
            L: lower triangular with a positive diagonal; `(n, n)` for one that all share.

        Raises:
            ShapeError: shapes that do not fit.
            InputError: `L` is not lower triangular with a positive diagonal, or not finite.
        """
        if not mean.ndim or L.ndim < 2 or L.shape[-2:] != (mean.shape[-1],) * 2:
            raise ShapeError(
                f"mean is {tuple(mean.shape)}, L {tuple(L.shape)}: pass mean (*b, n), L (*b, n, n)"
            )
        check_factor("L", L)
        return cls(*_aligned(mean, L, 2))

    @property
    def full(self) -> bool:
        """Whether `scale` is a Cholesky factor."""
        return self.scale.ndim > self.mean.ndim

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.mean.shape[-1]

    def standard_deviations(self) -> Float[Tensor, "*c n"]:
        """Return `sqrt(P_ii)`."""
        return self.scale.norm(dim=-1) if self.full else self.scale

    @property
    def covariance(self) -> Float[Tensor, "*c n n"]:
        """`P`."""
        return self.scale @ self.scale.mT if self.full else torch.diag_embed(self.scale.square())

    def precision(self) -> Float[Tensor, "*c n n"]:
        """Return `P⁻¹`."""
        if self.full:
            return torch.cholesky_inverse(self.scale)
        return torch.diag_embed(self.scale.square().reciprocal())

    def log_det_scale(self) -> Float[Tensor, "*c"]:
        """Return `log det S = ½ log det P`."""
        diagonal = self.scale.diagonal(dim1=-2, dim2=-1) if self.full else self.scale
        return diagonal.log().sum(-1)

    def entropy(self) -> Float[Tensor, "*c"]:
        """Return `H = ½ log det P + (n/2) log 2πe`."""
        return self.log_det_scale() + 0.5 * self.n * (math.log(2 * math.pi) + 1)

    def entropies(self) -> Float[Tensor, "*c n"]:
        """Return `½ log P_ii + ½ log 2πe`, the entropy of each dimension alone.

        Their sum is `entropy()` where `P` is diagonal.
        """
        return self.standard_deviations().log() + 0.5 * (math.log(2 * math.pi) + 1)

    def whiten(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d n"]:
        """Return `S⁻¹ deviation`."""
        self._check_outcome("deviation", deviation)
        if not self.full:
            return deviation / self.scale
        return torch.linalg.solve_triangular(self.scale, deviation.unsqueeze(-1), upper=False)[
            ..., 0
        ]

    def log_prob(self, y: Float[Tensor, "*d n"]) -> Float[Tensor, "*e"]:
        """Return `log N(y; m, P) = -½‖S⁻¹(y - m)‖² - log det S - (n/2) log 2π`.

        Raises:
            ShapeError: `y` has another outcome dimension, or a batch that does not broadcast.
        """
        self._check_outcome("y", y)
        distance = self.whiten(y - self.mean).square().sum(-1)
        return -0.5 * distance - self.log_det_scale() - 0.5 * self.n * math.log(2 * math.pi)

    def cross_entropy(self, q: Any) -> Float[Tensor, "*e"]:
        """Return `-E_{y~q} log N(y; m, P)`, of any `q` by its mean `μ` and covariance `Σ`.

        Formula: `½(m-μ)ᵀP⁻¹(m-μ) + ½ Tr(P⁻¹Σ) + log det S + (n/2) log 2π`. `Σ` may be singular (an
        empirical covariance, or zero for a single point).

        Args:
            q: data, a `Gaussian`, or the `TwoMoments` of any other law.

        Raises:
            InputError: no mean or no covariance.
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        if not isinstance(q, Gaussian):
            check_offers("the data", q, ("n", "mean", "covariance"), OUTCOMES)
        check_same_n("the policy", self.n, "the data", q.n)
        mu, Sigma = q.mean, q.covariance
        self.check_moments(mu, Sigma)
        if self.full:
            spread = torch.cholesky_solve(Sigma, self.scale).diagonal(dim1=-2, dim2=-1)
            terms = self.whiten(mu - self.mean).square() + spread
        else:
            precise = self.scale.reciprocal()  # its square may not exist where that of Σ does not
            spread = Sigma.diagonal(dim1=-2, dim2=-1) * precise * precise
            terms = ((mu - self.mean) * precise).square() + spread
        return 0.5 * terms.sum(-1) + self.log_det_scale() + 0.5 * self.n * math.log(2 * math.pi)

    def kl(self, reference: Any) -> Float[Tensor, "*e"]:
        """Return `KL(N(m, P) ‖ N(m₀, P₀)) = E_p[log p - log p₀]`.

        Raises:
            InputError: a reference that is not Gaussian.
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        check_family(self, reference)
        check_same_n("the reference", reference.n, "the policy", self.n)
        return reference.cross_entropy(self) - self.entropy()

    def check_data(self, data: Any) -> None:
        """Raise `ShapeError` unless the outcomes have the dimension of this law."""
        check_offers("the data", data, ("n", "y", "mean", "covariance"), OUTCOMES)
        check_same_n("the policy", self.n, "the data", data.n)

    def trace(self, U: Float[Tensor, "*u n n"]) -> Float[Tensor, "*c"]:
        """Return `Tr(UP)`."""
        check_same_n("U", U.shape[-1], "the policy", self.n)
        check_broadcast("U", U.shape[:-2], "the policy", self.mean.shape[:-1])
        if self.full:
            return (self.covariance * U).sum((-2, -1))
        return (self.scale.square() * U.diagonal(dim1=-2, dim2=-1)).sum(-1)

    def reinforce(
        self, data: Any, reward: Any, M: int, baseline: Baseline, noise: NormalNoise
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate whose gradient is the mean of `(r - b) ∇ log p(ŷ)`.

        The scores are explicit: for `ŷ = m + Sε`, `∇_m log p = S⁻ᵀε` and
        `∇_S log p = S⁻ᵀ(εεᵀ - I)`, so the weighted noise is reduced to a few numbers per input
        before any gradient flows. Of a Mahalanobis reward the baselines that minimise the variance
        of each entry of `ε` and `εεᵀ - I` are known: `E r - 2A_jj` and `E r - 2A_ii - 2A_jj` with
        `A = SᵀUS`.
        """
        self.check_data(data)
        with torch.no_grad():
            mean_score, scale_score = _scores(self, data, reward, M, baseline, noise)
        surrogate = (mean_score * self.mean).sum(-1)
        if self.full:
            return surrogate + (scale_score * self.scale).sum((-2, -1))
        return surrogate + (scale_score * self.scale).sum(-1)

    def pathwise(self, data: Any, reward: Any, M: int, noise: NormalNoise) -> Float[Tensor, "*b N"]:
        """Return the mean reward of `M` generations `m + Sε`, differentiable along them."""
        self.check_data(data)
        _, deviation = draw_deviations(self, data, M, noise)
        return _rewards(deviation, data, reward).mean((-3, -2))

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Raise `ShapeError` unless `mu` and `Sigma` are moments of outcomes of this law."""
        self._check_outcome("mu", mu)
        if Sigma.shape[-2:] != (self.n, self.n):
            raise ShapeError(
                f"Sigma has shape {tuple(Sigma.shape)}, and the law n = {self.n}: pass a "
                f"covariance (*b, n, n)"
            )
        for name, batch in (("mu", mu.shape[:-1]), ("the mean", self.mean.shape[:-1])):
            check_broadcast("Sigma", Sigma.shape[:-2], name, batch)

    def _check_outcome(self, name: str, y: Tensor) -> None:
        """Raise unless `y` is a batch of outcomes of this law."""
        if not y.ndim or y.shape[-1] != self.n:
            raise ShapeError(
                f"{name} has shape {tuple(y.shape)}, the mean {tuple(self.mean.shape)}: pass "
                f"{name} (*b, n) with n = {self.n} as its last dimension"
            )
        check_broadcast(name, y.shape[:-1], "the mean", self.mean.shape[:-1])


def _misfit(mean: torch.Size, scale: torch.Size) -> str:
    return (
        f"mean has shape {tuple(mean)}, scale {tuple(scale)}: pass mean (*b, n) and standard "
        f"deviations (*b, n) or a Cholesky factor (*b, n, n), with a 1 for each dimension of *b "
        f"that shares one scale, or use Gaussian.diagonal and Gaussian.cholesky, which broadcast"
    )


def _misread(mean: torch.Size, scale: torch.Size, corner: float) -> str:
    place = f"scale[..., 0, {scale[-1] - 1}] is {corner:.6g}"
    if len(scale) > len(mean):
        return (
            f"{place}, above the diagonal of a Cholesky factor {tuple(scale)}: pass a lower "
            f"triangular one, or, for standard deviations of shape {tuple(scale)} beside a mean "
            f"{tuple(mean)}, Gaussian.diagonal(mean, s)"
        )
    return (
        f"{place}, no standard deviation of shape {tuple(scale)}: pass positive ones, or, for a "
        f"Cholesky factor that all rows share, Gaussian.cholesky(mean, L)"
    )


def _aligned(mean: Tensor, scale: Tensor, own: int) -> tuple[Tensor, Tensor]:
    """Return both with the same number of batch dimensions, the mean with the whole batch."""
    batch = scale.shape[: scale.ndim - own]
    check_broadcast("the scale", batch, "the mean", mean.shape[:-1])
    whole = torch.broadcast_shapes(batch, mean.shape[:-1])
    ones = (1,) * (len(whole) - len(batch))
    return mean.expand(*whole, mean.shape[-1]), scale.reshape(ones + scale.shape)


def draw_deviations(
    law: Gaussian, data: Any, M: int, noise: NormalNoise
) -> tuple[Float[Tensor, "*c n M S N"], Float[Tensor, "*d n M S N"]]:
    """Draw noise `ε` and return it with the deviations `ŷ - y = (m - y) + Sε`.

    Inputs come last: then every operation on these tensors runs along long rows of memory, while
    sums and broadcasts over n, M or S, which may be 1 to 5 long, only repeat whole rows.
    """
    check_count("M", M)
    check_broadcast("the policy", law.mean.shape[:-1], "the data", data.y.shape[:-2])
    N, S = data.y.shape[-3:-1]
    epsilon = noise.normal((law.n, M, S, N), law.mean.dtype)
    y = data.y.movedim(-1, -3).mT.contiguous()
    gap = (law.mean.mT.unsqueeze(-2) - y).unsqueeze(-3)
    if law.full:
        return epsilon, gap + torch.einsum("...Nij,...jMSN->...iMSN", law.scale, epsilon)
    return epsilon, torch.addcmul(gap, law.scale.mT[..., None, None, :], epsilon)


def _rewards(
    deviation: Float[Tensor, "*b n M S N"], data: Any, reward: Any
) -> Float[Tensor, "*b M S N"]:
    """Return the rewards of generations that deviate from the outcomes by `ŷ - y`.

    Rewards of this package take the deviation; any other function takes generations and outcomes,
    `(*b, M, S, N, n)`.
    """
    e = deviation.movedim(-4, -1)
    if hasattr(reward, "of"):
        return of_members_or_inputs(reward, e, deviation.ndim - 4)
    y = data.y.transpose(-3, -2).unsqueeze(-4)
    return reward_of_pairs(reward, y + e, y)


def _scores(
    law: Gaussian, data: Any, reward: Any, M: int, baseline: Baseline, noise: NormalNoise
) -> tuple[Float[Tensor, "*b N n"], Float[Tensor, "..."]]:
    """Return the advantage-weighted means of `∇_m log p` and `∇_S log p` per input."""
    epsilon, deviation = draw_deviations(law, data, M, noise)
    weights = _rewards(deviation, data, reward)
    if baseline == "optimal" or baseline == "optimal-per-outcome":
        first, second = _least_variance(law, data, reward, baseline, epsilon, weights)
    else:
        weights = advantage(weights.movedim(-3, -1), baseline).movedim(-1, -3)
        first, second = _whitened(epsilon, weights, law.full)
    if not law.full:
        return first / law.scale, second / law.scale
    # inv_ex: a member whose scale has vanished is NaN, alone
    inverse_transpose = torch.linalg.inv_ex(law.scale).inverse.mT
    return (inverse_transpose @ first.unsqueeze(-1))[..., 0], inverse_transpose @ second


def _least_variance(
    law: Gaussian, data: Any, reward: Any, baseline: Baseline, epsilon: Tensor, rewards: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the means of `(r - b)ε` and `(r - b)(εεᵀ - I)` with the optimal baselines."""
    if not isinstance(reward, Quadratic):
        raise InputError(
            f"the optimal baselines are known for MahalanobisReward, not "
            f"{type(reward).__name__}: pass baseline='leave-one-out'"
        )
    expected = reward.expected(law, data)[..., None, None, :]
    if baseline == "optimal-per-outcome":
        # E_ŷ r(ŷ, y) of each outcome: a data set of one outcome has no spread of its own
        points = Gaussian(
            law.mean.unsqueeze(-2), law.scale.unsqueeze(-3 if law.full else -2), check=False
        )
        nothing = torch.zeros_like(data.covariance).unsqueeze(-3)
        expected = reward.expected(points, TwoMoments(data.y, nothing)).mT.unsqueeze(-3)
    first, second = _whitened(epsilon, rewards - expected, law.full)
    plain_first, plain_second = _whitened(epsilon, torch.ones_like(rewards), law.full)
    U = align(reward.U.to(law.mean), reward.U.ndim - 2, law.mean.ndim + 1)
    if not law.full:
        A = law.scale.square() * U.diagonal(dim1=-2, dim2=-1)
        return first + 2 * A * plain_first, second + 4 * A * plain_second
    A = (law.scale.mT @ U @ law.scale).diagonal(dim1=-2, dim2=-1)
    pairs = 2 * (A.unsqueeze(-1) + A.unsqueeze(-2))
    return first + 2 * A * plain_first, second + pairs * plain_second


def align(batched: Tensor, batch_ndim: int, ndim: int) -> Tensor:
    """Insert singleton dimensions behind the batch dimensions until `batched` has `ndim`."""
    ones = (1,) * (ndim - batched.ndim)
    return batched.reshape(batched.shape[:batch_ndim] + ones + batched.shape[batch_ndim:])


def _whitened(
    epsilon: Float[Tensor, "*#b n M S N"], weights: Float[Tensor, "*#b M S N"], full: bool
) -> tuple[Float[Tensor, "*b N n"], Float[Tensor, "..."]]:
    """Return the means of `w ε` and `w (εεᵀ - I)`, or its diagonal, over generations and data."""
    n, M, S = epsilon.shape[-4:-1]
    weights = weights / (S * M)
    total = weights.sum((-3, -2)).unsqueeze(-1)
    weighted = weights.unsqueeze(-4) * epsilon
    first = weighted.sum((-3, -2)).mT
    if not full:
        return first, weighted.mul_(epsilon).sum((-3, -2)).mT - total
    second = torch.einsum("...iMSN,...jMSN->...Nij", weighted, epsilon)
    identity = torch.eye(n, dtype=first.dtype, device=first.device)
    return first, second - total.unsqueeze(-1) * identity


@checked_class
@dataclass(frozen=True)
class GaussianPolicy:
    """`p_θ(. | x) = N(m(x), P(x))`, `P = S Sᵀ` of the given structure, `S_ii > 0`.

    Attributes:
        inputs: input dimension `d`.
        n: outcome dimension.
        structure: of `P`: "isotropic" (`s I`), "diagonal" or "full" (Cholesky factor).
        mean: network of the mean.
        scale: network of the scale; "shared" adds the scale's outputs to the mean's network,
            "constant" makes it one free parameter for all inputs.
        positive: the map that makes `S_ii` positive.
    """

    inputs: int
    n: int
    structure: Structure = "full"
    mean: MLP = MLP()
    scale: MLP | Literal["shared", "constant"] = "constant"
    positive: Literal["exp", "softplus"] = "exp"

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("n", self.n)
        check_choice("structure", self.structure, STRUCTURES)
        check_choice("positive", self.positive, POSITIVE)
        check_instance("mean", self.mean, MLP, "an MLP, such as MLP((64,), 'tanh')")
        if self.scale not in ("shared", "constant"):
            check_instance("scale", self.scale, MLP, "'shared', 'constant' or an MLP")

    @property
    def networks(self) -> dict[str, MLP]:
        """The networks, by the prefixes of their parameters' names."""
        own = {"scale.": self.scale} if isinstance(self.scale, MLP) else {}
        return {"mean.": self.mean, **own}

    @property
    def scale_outputs(self) -> int:
        """Number of free parameters of `S`."""
        return {"isotropic": 1, "diagonal": self.n, "full": self.n * (self.n + 1) // 2}[
            self.structure
        ]

    def init(
        self,
        generators: Sequence[torch.Generator],
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Draw the parameters of every member, each from its own generator.

        Args:
            generators: one per member, in row-major order of `batch`.
            batch: batch shape `*b`.
            dtype: of the parameters; the draws are the same for every dtype.

        Returns:
            Tensors of shape `(*b, ...)` that require gradients. A constant scale starts with all
            parameters 0 (`S = I` for "exp", `S = log 2 I` for "softplus").
        """
        return init_members(self._init_one, generators, batch, dtype)

    def zeros(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return parameters of 0: `m = 0`, and `S = I` for "exp" (stationary for deep networks)."""
        check_precision("dtype", dtype)
        drawn = self._init_one(torch.Generator().manual_seed(0))
        return {name: torch.zeros_like(value, dtype=dtype) for name, value in drawn.items()}

    def _init_one(self, generator: torch.Generator) -> dict[str, Tensor]:
        outputs = self.n + (self.scale_outputs if self.scale == "shared" else 0)
        params = {
            f"mean.{k}": v for k, v in self.mean.init(generator, self.inputs, outputs).items()
        }
        if self.scale == "constant":
            params["scale.raw"] = torch.zeros(
                self.scale_outputs, dtype=torch.float64, device=generator.device
            )
        elif isinstance(self.scale, MLP):
            drawn = self.scale.init(generator, self.inputs, self.scale_outputs)
            params |= {f"scale.{k}": v for k, v in drawn.items()}
        return params

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Gaussian:
        """Return the law at each input: mean `(*b, N, n)`, scale `(*b, N or 1, n[, n])`."""
        check_columns(x, "the policy", self.inputs)
        output = self.mean(params, "mean.", x)
        if self.scale == "shared":
            check_outputs("mean and scale", output, self.n + self.scale_outputs)
            output, raw = output.split([self.n, self.scale_outputs], dim=-1)
        elif isinstance(self.scale, MLP):
            raw = self.scale(params, "scale.", x)
        else:
            raw = self._constant(params, output)
        check_outputs("the mean", output, self.n)
        check_outputs("the scale", raw, self.scale_outputs)
        return Gaussian(output, self._scale(raw), check=False)

    def _constant(self, params: Params, mean: Float[Tensor, "*b N n"]) -> Float[Tensor, "*b 1 k"]:
        """Return the parameter of a scale that all inputs share."""
        raw = parameter(params, "scale.raw")
        if raw.shape != (*raw.shape[:-1], self.scale_outputs) or raw.ndim >= mean.ndim:
            raise ShapeError(
                f"scale.raw has shape {tuple(raw.shape)}: pass ({self.scale_outputs},), behind the "
                f"batch of the members"
            )
        check_broadcast("scale.raw", raw.shape[:-1], "the mean", mean.shape[:-2])
        return raw.reshape(*(1,) * (mean.ndim - 1 - raw.ndim), *raw.shape).unsqueeze(-2)

    def _scale(self, raw: Float[Tensor, "*b k"]) -> Float[Tensor, "..."]:
        positive = POSITIVE[self.positive]
        if self.structure == "isotropic":
            return positive(raw).expand(*raw.shape[:-1], self.n)
        if self.structure == "diagonal":
            return positive(raw)
        return lower_triangular_by_rows(raw, self.n, positive)


@recording
def at_outcomes(policy: GaussianPolicy, params: Params, data: Dataset) -> dict[str, Tensor]:
    """Return `in_units` of the outcomes' deviations, with a mean law that has their mean.

    Points to start from: no gradient goes through them.
    """
    params = {name: p.detach() for name, p in params.items()}
    mean = law_at(policy, params, data).mean.detach()
    y, s = data.y.detach().flatten(0, 1), _deviations(data)
    centre = y.mean(0) - s * mean.mean(0)
    return in_units(policy, params, centre, s)


def _deviations(data: Dataset) -> Float[Tensor, "n"]:
    """Return those of the outcomes, 1 where there is none."""
    s = data.y.detach().flatten(0, 1).std(0, correction=0)
    return torch.where(s > 0, s, 1.0)


def units(policy: GaussianPolicy, data: Dataset) -> dict[str, Tensor]:
    """Return the units in which a law's parameters are searched for, by name.

    Those of the last layers that have units of outcomes, the mean and what stands beside the
    diagonal of a factor, have these, from the deviations; what is made positive keeps 1, also for
    "softplus", where a step of the size of a large deviation would end behind 0. Powers of two, so
    that no digit changes with them.
    """
    s = _deviations(data)
    rows, columns = torch.tril_indices(policy.n, policy.n).unbind()
    on, size = torch.ones(policy.scale_outputs, dtype=torch.bool, device=s.device), s
    if policy.structure == "isotropic":
        size = s.log().mean().exp().reshape(1)
    elif policy.structure == "full":
        on, size = rows == columns, s[rows]
    raw = torch.where(on, torch.ones_like(size), size)
    mean = torch.cat([s, raw]) if policy.scale == "shared" else s
    found = {f"mean.{name}": mean for name in policy.mean.last}
    if policy.scale == "constant":
        found["scale.raw"] = raw
    elif isinstance(policy.scale, MLP):
        found |= {f"scale.{name}": raw for name in policy.scale.last}
    return {name: size.log2().round().exp2() for name, size in found.items()}


def in_units(
    policy: GaussianPolicy, params: Params, mean: Float[Tensor, "n"], s: Float[Tensor, "n"]
) -> dict[str, Tensor]:
    """Return the parameters whose law is that of `mean + s y`, `y` of the law of `params`.

    For a single member. Only last layers change: outputs of the mean, and rows of `S`, by the
    factors `s`. Isotropic policies take the geometric mean of `s`, and what networks add to a
    "softplus" stays as it is: the law is then about that.
    """
    check_positive("s", s)
    rows, columns = torch.tril_indices(policy.n, policy.n).unbind()
    on = torch.ones(policy.scale_outputs, dtype=torch.bool, device=s.device)
    size = s.log().mean().exp().reshape(1) if policy.structure == "isotropic" else s
    if policy.structure == "full":
        on, size = rows == columns, s[rows]

    def bias(raw: Tensor) -> Tensor:
        if policy.positive == "exp":
            return torch.where(on, raw + size.log(), size * raw)
        wide = size * POSITIVE["softplus"](raw)
        return torch.where(on, wide + (-(-wide).expm1()).log(), size * raw)

    weight = torch.where(on, 1.0, size)
    moved = dict(params)
    first, last = (f"mean.{name}" for name in policy.mean.last)
    if policy.scale == "shared":
        m, raw = params[last].split([policy.n, policy.scale_outputs])
        moved[first] = params[first] * torch.cat([s, weight])
        moved[last] = torch.cat([mean + s * m, bias(raw)])
        return moved
    moved[first], moved[last] = params[first] * s, mean + s * params[last]
    if policy.scale == "constant":
        moved["scale.raw"] = bias(params["scale.raw"])
    else:
        first, last = (f"scale.{name}" for name in policy.scale.last)
        moved[first], moved[last] = params[first] * weight, bias(params[last])
    return moved
