"""Rewards `r(ŷ, y)` between classes, and the scalar and diagonal ones of the theory.

A one-hot Mahalanobis reward is `r_U(c, k) = -(e_c - e_k)ᵀ U (e_c - e_k)`. Against class
probabilities `π` its inner solution is the Gibbs law `p*(c) ∝ exp((2(Uπ)_c - U_cc)/λ)`.
Every formula for a reward between classes that training uses stands here, once.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked, checked_class
from ..data import LabelledData, as_places, check_probabilities
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_positive,
    check_broadcast,
    check_choice,
    check_columns,
    check_count,
    check_dtype,
    check_finite,
    check_instance,
    check_number,
    check_offers,
    check_positive,
    check_precision,
    check_same_classes,
    check_spd,
)
from ..families.categorical import Categorical, check_logits
from ..families.networks import MLP, check_outputs, networks_of
from .learnable import Phi, RewardModel
from .mahalanobis import isotropic_weight, representable


@checked_class
@dataclass(frozen=True)
class ClassReward:
    """`r(c, k | x)`: the reward of generating class `c` when the outcome is class `k`.

    Attributes:
        table: `(*b, N, C, C)`, generations ahead of outcomes; `N` is 1 where the reward does not
            depend on the input, the last dimension where it does not depend on the outcome. Batch
            dimensions broadcast with those of the ensemble. Where it does not depend on the
            outcome it may be -inf for some classes: those are forbidden. It takes dtype and device
            of the laws and data it meets.
        check: whether to look at the numbers.

    Raises:
        ShapeError: a table of another shape.
        NonFiniteError: NaN, infinity, or -inf that stands for no forbidden class.
    """

    table: Float[Tensor, "*b N C K"]
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        check_dtype("table", self.table)
        shape = self.table.shape
        if len(shape) < 3 or shape[-1] not in (1, shape[-2]):
            raise ShapeError(
                f"table has shape {tuple(shape)}: pass (*b, N, C, C), or (*b, N, C, 1) where the "
                f"outcome does not matter, with N = 1 where the input does not"
            )
        if check and shape[-1] == 1:
            check_logits(self.table[..., 0])
        elif check:
            check_finite("table", self.table)

    @classmethod
    def scalar(cls, u: Number | Float[Tensor, "*b"], C: int) -> ClassReward:
        """Return the Mahalanobis reward of `U = u I`, `u > 0`: `-2u` unless the classes agree."""
        u = as_positive("u", u)
        check_count("C", C, 2)
        return cls.mahalanobis(torch.diag_embed(u[..., None, None].expand(*u.shape, 1, C)))

    @classmethod
    def diagonal(cls, u: Float[Tensor, "*b N C"]) -> ClassReward:
        """Return the Mahalanobis reward of `U(x) = diag(u(x))`, `u > 0`; `N = 1` for one `U`."""
        u = as_positive("u", u)
        if u.ndim < 2:
            raise ShapeError(f"u has shape {tuple(u.shape)}: pass (*b, N, C), N = 1 for one U")
        return cls.mahalanobis(torch.diag_embed(u))

    @classmethod
    def full(cls, U: Float[Tensor, "*b N C C"]) -> ClassReward:
        """Return the Mahalanobis reward of SPD `U(x)`; `N = 1` for one `U`.

        Raises:
            NotPositiveDefiniteError: `U` is not symmetric or not positive definite.
        """
        check_spd("U", U)
        return cls.mahalanobis(U)

    @classmethod
    def mahalanobis(cls, U: Float[Tensor, "*b N C C"]) -> ClassReward:
        """Return `r(c, k) = 2U_ck - U_cc - U_kk` of a symmetric `U`, without a check."""
        own = U.diagonal(dim1=-2, dim2=-1)
        return cls(2 * U - own.unsqueeze(-1) - own.unsqueeze(-2))

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.table.shape[-2]

    @property
    def may_forbid(self) -> bool:
        """Whether the table may hold -inf."""
        return self.table.shape[-1] == 1

    def by_class(self, pi: Float[Tensor, "*#b N C"]) -> Float[Tensor, "*d N C"]:
        """Return `r̄(c) = Σ_k π_k r(c, k)` for every class `c`.

        Raises:
            ShapeError: another number of classes or inputs.
        """
        check_same_classes("the reward", self.classes, "pi", pi.shape[-1] if pi.ndim else 0)
        *b, N, C, K = self.table.shape
        if pi.ndim < 2 or N not in (1, pi.shape[-2]):
            raise ShapeError(
                f"the reward has a table {tuple(self.table.shape)}, pi shape {tuple(pi.shape)}: "
                f"pass pi (*b, N, C) with the N inputs of the reward"
            )
        check_broadcast("the reward", b, "pi", pi.shape[:-2])
        table = self.table.to(pi)
        if K == 1:
            return table[..., 0].expand(*b, pi.shape[-2], C)
        return (table @ pi.unsqueeze(-1))[..., 0]

    def where_possible(self, law: Categorical, data: LabelledData) -> Float[Tensor, "*e N C"]:
        """Return `r̄(c)`, and 0 for forbidden classes that the law never generates.

        Raises:
            ShapeError: another number of classes or inputs.
        """
        r = self.by_class(data.pi)
        check_broadcast("the reward", r.shape, "the policy", law.logits.shape)
        return torch.where(law.p > 0, r, 0.0) if self.may_forbid else r

    def rows(self, index: Int[Tensor, "*i B"]) -> ClassReward:
        """Return the reward at the inputs `index`; itself where it does not depend on the input.

        The batch of the index, one order of the rows for each member, broadcasts with its own.
        """
        b, N = self.table.shape[:-3], self.table.shape[-3]
        if N == 1:
            return self
        places = as_places(index, N)
        if index.ndim == 1:
            return ClassReward(self.table[..., places, :, :], check=False)
        check_broadcast("the reward", b, "the rows", index.shape[:-1])
        more = index.ndim - 1 - len(b)  # take_along_dim broadcasts as many dimensions only
        table, chosen = self.table[(None,) * more], places[(None,) * -more][..., None, None]
        return ClassReward(table.take_along_dim(chosen, -3), check=False)

    def expected(self, law: Categorical, data: LabelledData) -> Float[Tensor, "*e N"]:
        """Return `E_y E_ŷ r(ŷ, y) = Σ_c p(c) r̄(c)` per input."""
        return (law.p * self.where_possible(law, data)).sum(-1)


@checked
def gibbs(
    reward: ClassReward, lam: Number | Float[Tensor, "*#b"], pi: Float[Tensor, "*#b N C"]
) -> Categorical:
    """Return the inner solution of an unrestricted policy, `p*(c) ∝ exp(r̄(c)/λ)`.

    Args:
        reward: between `C` classes.
        lam: entropy weight `λ > 0`.
        pi: class probabilities of the data at each input.

    Source: new.
    """
    check_probabilities("pi", pi)
    lam = as_positive("lam", lam, pi)
    r = reward.by_class(pi)
    check_broadcast("lam", lam.shape, "the reward", r.shape[:-2])
    return Categorical(r / lam[..., None, None])


@checked
def heuristic_scale(
    pi: Float[Tensor, "*#b C"], lam: Number | Float[Tensor, "*#b"], samples: int | None = None
) -> Float[Tensor, "*b"]:
    """Return the published `β* = λC/(2 Tr Σ)`, `Tr Σ = 1 - Σ_c π_c²`, right for Gaussians only.

    Args:
        pi: class probabilities.
        lam: entropy weight `λ > 0`.
        samples: number `N` of labels that `pi` was counted on, to divide `Tr Σ` by `N - 1`
            instead of `N`, as published.

    Raises:
        InputError: a class that is certain (`Tr Σ = 0`), or a scale beyond the dtype.

    Source: paper.
    """
    check_probabilities("pi", pi)
    lam = as_positive("lam", lam, pi)
    probable = pi > 0.5  # 1 - π would lose the digits of what is left
    rest = torch.where(probable, 0.0, pi).sum(-1, keepdim=True)
    trace = (pi * torch.where(probable, rest, 1 - pi)).sum(-1)
    if samples is not None:
        check_count("samples", samples, 2)
        trace = trace * samples / (samples - 1)
    return isotropic_weight(trace, pi.shape[-1], lam)


@checked
def exact_scale(
    pi: Float[Tensor, "*#b N C"], lam: Number | Float[Tensor, "*#b"]
) -> Float[Tensor, "*b"]:
    """Return the `u` of `U = uI` whose inner solutions `p*(c | x)` are likeliest under `π(c | x)`.

    It solves `E_x Σ_c (π_c - p*_c) π_c = 0`, `p*_c ∝ exp(2uπ_c/λ)`, by bisection to the last bit.
    For one input and two classes, `u* = λ log(π/(1-π)) / (2(2π-1))`.

    Args:
        pi: class probabilities at each input.
        lam: entropy weight `λ > 0`.

    Raises:
        InputError: no `u` is optimal: every `π(x)` is uniform over its most likely classes (the
            likelihood then grows with `u` for ever, or does not depend on it); equal is what
            agrees to rounding. Or `u` lies beyond the dtype.

    Source: new.
    """
    check_probabilities("pi", pi)
    if pi.ndim < 2:
        raise ShapeError(f"pi has shape {tuple(pi.shape)}: pass (*b, N, C), N = 1 for one input")
    lam = as_positive("lam", lam, pi)
    check_broadcast("lam", lam.shape, "pi", pi.shape[:-2])

    # With d_c = π_max - π_c, and p_c ∝ π_c + g_c, where g_c = π_max e^(-v d_c) - π_c is 0 at the
    # most likely class: the slope is Σ_c (d_c - d̄) g_c / Σ_c (π_c + g_c), of which no term cancels.
    largest = pi.amax(-1, keepdim=True)
    gap = largest - pi
    close = 2 * gap <= largest
    log_ratio = torch.where(close, (-gap / largest).log1p(), 0.0)  # log(π_c/π_max)
    deviation = gap - (pi * gap).sum(-1, keepdim=True) / pi.sum(-1, keepdim=True)

    def slope(v: Tensor) -> Tensor:
        """E_x Σ_c (π_c - p_c) π_c at v = 2u/λ: decreasing, positive at 0."""
        exponent = -v[..., None, None] * gap
        weight = largest * exponent.exp()
        g = torch.where(close, pi * (exponent - log_ratio).expm1(), weight - pi)
        return ((deviation * g).sum(-1) / weight.sum(-1)).sum(-1)

    differs = (pi > 0) & (gap > 8 * torch.finfo(pi.dtype).eps * largest)
    flat = ~differs.any(-1).any(-1)
    if bool(flat.any()):
        raise InputError(
            f"pi is uniform over the most likely classes at every input ({int(flat.sum())} of "
            f"{flat.numel()} members): no finite u is best; pass estimates, not labels"
        )
    low, high = pi.new_zeros(flat.shape), pi.new_ones(flat.shape)
    while bool((rising := slope(high) > 0).any()):
        low, high = torch.where(rising, high, low), torch.where(rising, 2 * high, high)
    while True:
        middle = (low + high) / 2
        if bool(((middle == low) | (middle == high)).all()):
            return representable("u", lam / 2 * middle)
        rising = slope(middle) > 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)


@checked
def exact_diagonal(
    pi: Float[Tensor, "*#b C"], lam: Number | Float[Tensor, "*#b"]
) -> Float[Tensor, "*b C"]:
    """Return `u > 0` such that `U = diag(u)` has the inner solution `p* = π`.

    `u_c = λ(log π_c + k)/(2π_c - 1)` for any `k` that makes it positive; here
    `k = 2π_max - 1 - log π_max`, which always does, gives the most likely class `u = λ`, and is
    continuous where a probability passes ½.

    Args:
        pi: class probabilities, all positive.
        lam: entropy weight `λ > 0`.

    Raises:
        InputError: a class of probability 0, whose best weight is infinite; `lam` is not positive,
            or a weight lies beyond the dtype.

    Source: new.
    """
    check_probabilities("pi", pi)
    check_positive("pi", pi)
    lam = as_positive("lam", lam, pi)
    check_broadcast("lam", lam.shape, "pi", pi.shape[:-1])
    largest = pi.amax(-1, keepdim=True)
    gap, above = largest - pi, 2 * largest - 1
    close = 2 * gap <= largest
    near = -torch.where(close, -gap / largest, 0.0).log1p()
    fall = torch.where(close, near, largest.log() - pi.log())  # log(π_max/π_c)
    below = 1 - 2 * pi
    even = below == 0
    ratio = torch.where(even, 1.0, (fall - above) / torch.where(even, 1.0, below))  # 1: limit at ½
    return representable("u", lam[..., None] * ratio)


@checked_class
@dataclass(frozen=True)
class OneHotReward:
    """The one-hot Mahalanobis reward of a learnable `U` or `U(x)` (see `learnable`).

    Attributes:
        weight: `ConstantReward(C, kind)` or `InputReward(d, C, network)`.
    """

    weight: RewardModel

    @property
    def networks(self) -> dict[str, MLP]:
        """Those of `weight`."""
        return networks_of(self.weight)

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> ClassReward:
        """Return the reward at these inputs."""
        found = self.weight(phi, x)
        check_offers("weight(phi, x)", found, ("U",), "a weight that returns a MahalanobisReward")
        U = found.U
        return ClassReward.mahalanobis(U if U.ndim == 3 else U.unsqueeze(0))


@checked_class
@dataclass(frozen=True)
class FreeReward:
    """Any reward: a network from inputs to `r_φ(ŷ, y | x)`, or to `r_φ(ŷ | x)`.

    Attributes:
        inputs: input dimension `d`.
        classes: number of classes `C`.
        network: from inputs to `C²` numbers, or to `C`.
        compares: "outcome" compares a generation with the outcome; "nothing" judges generations
            by themselves, as a reward model of prompts and answers does.
    """

    inputs: int
    classes: int
    network: MLP = MLP()
    compares: Literal["outcome", "nothing"] = "nothing"

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("classes", self.classes, 2)
        check_instance("network", self.network, MLP, "an MLP, such as MLP((64,), 'tanh')")
        check_choice("compares", self.compares, ("outcome", "nothing"))

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        return self.classes**2 if self.compares == "outcome" else self.classes

    @property
    def networks(self) -> dict[str, MLP]:
        """The network, by the prefix of its parameters' names."""
        return {"": self.network}

    def start(
        self,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        *,
        size: float = 1.0,
    ) -> dict[str, Tensor]:
        """Draw the parameters of the network, of rewards about as large as `size`."""
        check_precision("dtype", dtype)
        size = check_number("size", size, 0.0)
        drawn = self.network.init(generator, self.inputs, self.outputs)
        for name in self.network.last:
            drawn[name] *= size
        return {name: p.to(dtype) for name, p in drawn.items()}

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> ClassReward:
        """Return the reward at these inputs, `(N, C, C)`."""
        check_columns(x, "the reward", self.inputs)
        raw, C = self.network(phi, "", x), self.classes
        check_outputs("the reward", raw, self.outputs)
        if self.compares == "outcome":
            return ClassReward(raw.reshape(*raw.shape[:-1], C, C))
        return ClassReward(raw.unsqueeze(-1))
