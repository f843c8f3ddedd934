"""Categorical laws over `C` classes, and policies that return one at each input.

Leading dimensions are batch dimensions, then inputs `N`, the last one is the class. Tensors may
be stored with classes ahead of inputs: then reductions over a few classes run along long rows of
memory, an order of magnitude faster than along short ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..errors import (
    InputError,
    NonFiniteError,
    ShapeError,
    check_broadcast,
    check_columns,
    check_count,
    check_dtype,
    check_instance,
    check_offers,
    check_same_classes,
)
from .baselines import Baseline, check_group, standardise
from .law import Params, Quadratic, UniformNoise, check_family, check_law, reward_of_pairs
from .networks import MLP, NetworkPolicy, check_outputs

# Below these logarithms a probability is 0 in any precision: 0 · log 0 = 0 is 0 times a number.
ENTROPY_FLOOR = -1e4
LOG_FLOOR = -1e30
NEARLY_CERTAIN = -0.1  # the logarithm of a probability above which digits of it are lost
SERIES = 16  # powers of ½ over their factorials that matter in double precision
FORBIDDEN = (
    "the reward of a class is -inf where the policy generates it: J is -inf; pass a policy whose "
    "logit is -inf there, or a large finite penalty"
)


@checked_class
@dataclass(frozen=True)
class Categorical:
    """`p(c) ∝ exp(z_c)`, with `0 log 0 = 0`.

    Attributes:
        logits: `z`, shape `(*b, N, C)`; a constant added to all of an input changes nothing. A
            class of logit -inf has probability 0, and is never generated.
        check: whether to look for logits that are no law. Policies, which build a law at every
            step of a training, leave it out: a member that diverges is then NaN, alone.
        log_p: `log p(c) = z_c - log Σ_k exp z_k`.
        p: class probabilities. Both are computed at once, not when first asked for: what is cached
            then has no gradient if that is asked under `torch.no_grad`.

    Raises:
        ShapeError: no classes.
        NonFiniteError: an input with NaN or +inf among its logits, or with nothing but -inf.
    """

    logits: Float[Tensor, "*b N C"]
    check: InitVar[bool] = field(default=True, kw_only=True)
    log_p: Float[Tensor, "*b N C"] = field(init=False)
    p: Float[Tensor, "*b N C"] = field(init=False)

    def __post_init__(self, check: bool) -> None:
        if check:
            check_logits(self.logits)
        if self.logits.ndim > 1 and self.logits.stride(-1) > self.logits.stride(-2):
            log_p = log_softmax(self.logits.mT, -2).mT  # along the long rows of memory
        else:
            log_p = log_softmax(self.logits)
        object.__setattr__(self, "log_p", log_p)
        object.__setattr__(self, "p", log_p.exp())

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.logits.shape[-1]

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `H = -Σ_c p(c) log p(c)`."""
        return -(self.p * self.log_p.clamp(min=ENTROPY_FLOOR)).sum(-1)

    def cross_entropy(self, q: Any) -> Float[Tensor, "*b N"]:
        """Return `-Σ_c π_c log p(c)`, with `π` the mean of the one-hot outcomes of `q`.

        It is +inf where the law excludes a class that `q` has.

        Args:
            q: labelled data, or a `Categorical`.

        Raises:
            InputError: no classes.
            ShapeError: another number of classes, or batches that do not broadcast.
        """
        check_law(self, q)
        pi = q.mean
        self.check_classes("pi", pi)
        floor = torch.where(pi == 0, LOG_FLOOR, -torch.inf)
        return -(pi * self.log_p.clamp(min=floor)).sum(-1)

    def kl(self, reference: Any) -> Float[Tensor, "*b N"]:
        """Return `KL(p ‖ p₀) = Σ_c p(c) log(p(c)/p₀(c))`, to the last digits also of near laws.

        Raises:
            InputError: a reference of another family, or one that excludes a class the law has.
            ShapeError: another number of classes, or batches that do not broadcast.
        """
        check_family(self, reference)
        check_same_classes("the policy", self.classes, "the reference", reference.classes)
        check_broadcast(
            "the policy", self.logits.shape[:-1], "the reference", reference.logits.shape[:-1]
        )
        zeros = reference.log_p == -torch.inf
        if bool(zeros.any()) and bool((excluded := zeros & (self.p > 0)).any()):
            *at, c = excluded.nonzero()[0].tolist()
            p = self.p.expand(excluded.shape)[(*at, c)].item()
            raise InputError(
                f"the reference gives class {c} probability 0, the policy {p:.6g}: KL(p ‖ p₀) is "
                f"infinite; pass a reference with positive probabilities, or a policy whose logit "
                f"is -inf there"
            )
        return _divergence(self, reference)

    def check_data(self, data: Any) -> None:
        """Raise `ShapeError` unless the data have these classes."""
        check_offers("the data", data, ("classes", "pi"), "solvers.data.LabelledData")
        check_same_classes("the policy", self.classes, "the data", data.classes)

    @property
    def mean(self) -> Float[Tensor, "*b N C"]:
        """Of the one-hot outcome: `p`."""
        return self.p

    @property
    def covariance(self) -> Float[Tensor, "*b N C C"]:
        """Of the one-hot outcome: `diag p - ppᵀ`."""
        return torch.diag_embed(self.p) - self.p.unsqueeze(-1) * self.p.unsqueeze(-2)

    def trace(self, U: Float[Tensor, "*u C C"]) -> Float[Tensor, "*c"]:
        """Return `Tr(UP) = Σ_c p_c U_cc - pᵀUp`."""
        check_same_classes("the policy", self.classes, "U", U.shape[-1])
        check_broadcast("U", U.shape[:-2], "the policy", self.p.shape[:-1])
        U = U.to(self.p)
        own = U.diagonal(dim1=-2, dim2=-1)
        return (self.p * own).sum(-1) - ((U @ self.p.unsqueeze(-1))[..., 0] * self.p).sum(-1)

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Raise `ShapeError` unless `mu` and `Sigma` are moments of one-hot outcomes."""
        self.check_classes("mu", mu)
        check_same_classes(
            "the policy", self.classes, "Sigma", Sigma.shape[-1] if Sigma.ndim else 0
        )
        check_broadcast("Sigma", Sigma.shape[:-2], "the policy", self.logits.shape[:-1])

    def reinforce(
        self, data: Any, reward: Any, M: int, baseline: Baseline, noise: UniformNoise
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate whose gradient is the mean of `(r̄(ŷ) - b) ∇ log p(ŷ)`.

        Only how often each class was generated matters, so the estimate is a weighted sum over
        classes: `∂/∂z_j` is the mean of `(r̄(ŷ) - b)(1[ŷ = j] - p_j)`. The constants of least
        variance, for each entry, are `b_j = (1-p_j) r̄_j + p_j Σ_{c≠j} p_c r̄_c / (1-p_j)`. (As they
        differ, an estimate then does not sum to 0 over classes, only its mean does.)
        """
        self.check_data(data)
        if baseline != "optimal":
            check_group(baseline, "Categorical")
        with torch.no_grad():
            r = _by_class(self, data, reward)
            here = self._expanded(r.shape)
            share = draw_counts(here, M, noise) / M
            slopes = _slopes(here.p, r, share, M, baseline)
        return (slopes * self.logits.clamp(min=LOG_FLOOR)).sum(-1)

    def _expanded(self, shape: Sequence[int]) -> Categorical:
        """Return the law at as many inputs, of as many members, as `shape` (*b, N, C) has."""
        whole = torch.broadcast_shapes(self.logits.shape, shape)
        return self if whole == self.logits.shape else Categorical(self.logits.expand(whole))

    def check_classes(self, name: str, pi: Tensor) -> None:
        """Raise `ShapeError` unless `pi` has a row of these classes for each input, or for all."""
        check_same_classes("the policy", self.classes, name, pi.shape[-1] if pi.ndim else 0)
        check_broadcast("the policy", self.logits.shape[:-1], name, pi.shape[:-1])


def check_logits(logits: Float[Tensor, "*b C"], name: str = "logits") -> None:
    """Raise unless every input has a largest logit, and a finite one."""
    check_dtype(name, logits)
    if not logits.ndim or not logits.shape[-1]:
        raise ShapeError(f"{name} have shape {tuple(logits.shape)}: pass (*b, N, C)")
    largest = logits.detach().amax(-1)
    bad = ~torch.isfinite(largest)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        at = f"{name}{list(index)}" if index else name
        raise NonFiniteError(
            f"{at} are {logits[index].tolist()}, which is no law: pass finite logits, and -inf "
            f"for some of the classes, not for all"
        )


def log_softmax(z: Float[Tensor, "*b"], dim: int = -1) -> Float[Tensor, "*b"]:
    """Return `z_c - log Σ_k exp z_k`, to the last digits also of a class that is nearly certain.

    Of such a class torch rounds `log Σ` to units of the last place of 1: the other probabilities,
    whose sum is all there is to tell, vanish in it. It is `log(1 - Σ_{k≠c} p_k)`.
    """
    log_p = z.log_softmax(dim)
    sure = log_p > NEARLY_CERTAIN
    if not bool(sure.any()):
        return log_p
    rest = log_p.exp().masked_fill(sure, 0.0).sum(dim, keepdim=True)
    return torch.where(sure, torch.log1p(0.0 - rest * sure), log_p)  # of a certain one 0, not -0


def _divergence(law: Categorical, reference: Categorical) -> Float[Tensor, "*b N"]:
    """Return `Σ_c p(c) φ(d_c)`, `φ(d) = e^{-d} - 1 + d >= 0`, `d = log p - log p₀`.

    No term cancels. `d` is the difference `δ` of the logits, made 0 at a class that both have, less
    the constant `log Σ_c p₀(c) e^δ(c)`; of near laws that is `log(1 + Σ_c p₀(c) (e^δ(c) - 1))`.
    """
    log_p, log_p0 = torch.broadcast_tensors(law.log_p, reference.log_p)
    p, p0 = log_p.exp(), log_p0.exp()
    none = (log_p == -torch.inf) | (log_p0 == -torch.inf)
    z, z0 = law.logits.masked_fill(none, 0.0), reference.logits.masked_fill(none, 0.0)
    apart = z - z0
    back = apart - z
    rounded = (z - (apart - back)) - (z0 + back)  # z - z0 is exactly apart + rounded
    both = torch.minimum(log_p, log_p0).argmax(-1, keepdim=True)
    delta = (apart - apart.gather(-1, both)) + (rounded - rounded.gather(-1, both))
    limit = math.log(torch.finfo(delta.dtype).max) / 2
    growth = (p0 * torch.expm1(delta.clamp(max=limit))).masked_fill(none, 0.0)
    growth = (growth - p0 * none).sum(-1, keepdim=True)
    near = (growth.abs() <= 0.5) & (delta <= limit).all(-1, keepdim=True)
    constant = torch.where(
        near, torch.log1p(growth * near), log_p0.gather(-1, both) - log_p.gather(-1, both)
    )
    d = delta - constant
    small = d.abs() <= 0.5
    up, down = d.clamp(min=0), d.clamp(max=0)
    terms = p * (up + torch.expm1(-up)) + p0 * (down * down.exp() - torch.expm1(down))
    terms = torch.where(small, p * _second_order(-d * small), terms)
    return torch.where(none, p0, terms).sum(-1)


def _second_order(d: Tensor) -> Tensor:
    """Return `e^d - 1 - d = d²/2 + d³/6 + ...` of `|d| <= ½`."""
    rest = torch.ones_like(d)
    for k in range(SERIES, 2, -1):
        rest = 1 + d / k * rest
    return d * d / 2 * rest


def _by_class(law: Categorical, data: Any, reward: Any) -> Float[Tensor, "*b N C"]:
    """Return `r̄(c) = E_y r(e_c, y)`: of a reward between classes, or of one-hot outcomes.

    Raises:
        InputError: a class that the law generates is forbidden.
    """
    if hasattr(reward, "where_possible"):
        r = reward.where_possible(law, data)
        if reward.may_forbid and bool((r == -torch.inf).any()):
            raise InputError(FORBIDDEN)
        return r
    one = torch.eye(law.classes, dtype=law.p.dtype, device=law.p.device)
    if isinstance(reward, Quadratic) and (batch := reward.U.ndim - 2):
        table = reward.of((one.unsqueeze(-2) - one).expand(*reward.U.shape[:-2], *(len(one),) * 3))
        of_members = batch <= law.p.ndim - 2
        return ((table.unsqueeze(-3) if of_members else table) @ data.pi.unsqueeze(-1))[..., 0]
    table = reward_of_pairs(reward, one.unsqueeze(-2), one)
    return data.pi @ table.mT


def _slopes(
    p: Float[Tensor, "*b N C"],
    r: Float[Tensor, "*#b N C"],
    share: Float[Tensor, "..."],
    M: int,
    baseline: Baseline,
) -> Float[Tensor, "*b N C"]:
    """Return the estimates of the slopes in the logits, from the share of every class."""
    if baseline == "optimal":
        rest = (p * r).sum(-1, keepdim=True) - p * r
        # where p_j is 1 in floating point, r_j is all there is
        b = torch.where(p < 1, (1 - p) * r + p * rest / (1 - p), r)
        return share * (r - b) - p * ((share * r).sum(-1, keepdim=True) - b)
    advantage = r.expand_as(p)
    if baseline == "minimum":
        drawn = torch.where(share > 0, advantage, torch.inf)
        advantage = advantage - drawn.amin(-1, keepdim=True)
    elif baseline == "standardised":
        advantage = standardise(advantage, share, M)
    elif baseline != "none":
        advantage = advantage - (share * r).sum(-1, keepdim=True)
        if baseline == "leave-one-out":
            advantage = advantage * (M / (M - 1))
    weights = share * advantage
    return weights - p * weights.sum(-1, keepdim=True)


def draw_counts(law: Categorical, M: int, noise: UniformNoise) -> Float[Tensor, "*b N C"]:
    """Return how often each class is drawn in `M` generations per input, by inverting the CDF.

    A class of probability 0 never is: its edges of the CDF coincide, and in units of the last one
    the edges behind all classes that are possible are 1, above any noise.
    """
    check_count("M", M)
    p = law.p.detach().mT
    uniform = noise.uniform((M, p.shape[-1]), p.dtype).unsqueeze(-3)
    cdf = p.cumsum(-2)
    edges = (cdf[..., :-1, :] / cdf[..., -1:, :]).unsqueeze(-2)
    # 1 where the edge is above the noise, else 0: their difference is in (-1, 1]
    below = (edges - uniform).ceil_().sum(-2)
    first, last = below[..., :1, :], M - below[..., -1:, :]
    return torch.cat([first, below.diff(dim=-2), last], -2).mT


@checked_class
@dataclass(frozen=True)
class CategoricalPolicy(NetworkPolicy):
    """`p_θ(. | x)` with logits from a network; without hidden layers, logistic regression.

    Attributes:
        inputs: input dimension `d`.
        classes: number of classes `C`.
        network: from inputs to logits.
    """

    inputs: int
    classes: int
    network: MLP = MLP()

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("classes", self.classes, 2)
        check_instance("network", self.network, MLP, "an MLP, such as MLP((64,), 'tanh')")

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.classes

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Categorical:
        """Return the law at each input, logits `(*b, N, C)`."""
        check_columns(x, "the policy", self.inputs)
        logits = self.network(params, "", x)
        check_outputs("the policy", logits, self.classes)
        return Categorical(logits, check=False)
