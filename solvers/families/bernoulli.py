"""Independent binary outcomes: `n` bits with logits `z(x)`, and policies that return such laws.

The whole family is this file: the law with its moments, the exact expectation of quadratic rewards
through them, and the score function that every law inherits from `Sampled`.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    NonFiniteError,
    Number,
    ShapeError,
    as_positive,
    check_batches,
    check_broadcast,
    check_columns,
    check_count,
    check_instance,
    check_offers,
    check_same_n,
)
from .categorical import ENTROPY_FLOOR, LOG_FLOOR, Categorical
from .law import OUTCOMES, Params, Sampled, UniformNoise, check_family, check_law
from .networks import MLP, NetworkPolicy, check_outputs


@checked_class
@dataclass(frozen=True)
class Bernoulli(Sampled):
    """`n` independent bits, `P(y_i = 1) = σ(z_i)`, with `0 log 0 = 0`.

    Attributes:
        logits: `z`, shape `(*b, n)`; of a policy `(*b, N, n)`, one law per input. A bit of logit
            inf or -inf is certain.
        check: whether to look for NaN; policies leave it out, as for `Gaussian`.

    Raises:
        NonFiniteError: NaN among the logits.
    """

    logits: Float[Tensor, "*b n"]
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        if check:
            check_bit_logits("logits", self.logits)

    @property
    def n(self) -> int:
        """Number of bits."""
        return self.logits.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "*b n"]:
        """`m = σ(z)`."""
        return self.logits.sigmoid()

    @property
    def covariance(self) -> Float[Tensor, "*b n n"]:
        """`diag(m(1-m))`."""
        return torch.diag_embed(self._variances())

    def standard_deviations(self) -> Float[Tensor, "*b n"]:
        """Return `√(m_i(1-m_i))`."""
        return self._variances().sqrt()

    def trace(self, U: Float[Tensor, "*u n n"]) -> Float[Tensor, "*c"]:
        """Return `Tr(UP) = Σ_i U_ii m_i(1-m_i)`."""
        check_same_n("U", U.shape[-1], "the policy", self.n)
        check_broadcast("U", U.shape[:-2], "the policy", self.logits.shape[:-1])
        return (self._variances() * U.diagonal(dim1=-2, dim2=-1)).sum(-1)

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Raise `ShapeError` unless `mu` and `Sigma` are moments of `n` outcomes."""
        check_same_n("the policy", self.n, "mu", mu.shape[-1] if mu.ndim else 0)
        check_same_n("the policy", self.n, "Sigma", Sigma.shape[-1] if Sigma.ndim else 0)

    def check_data(self, data: Any) -> None:
        """Raise unless there are `n` outcomes, every one 0 or 1, or the probabilities of each."""
        check_offers("the data", data, ("x", "n", "mean"), OUTCOMES)
        check_same_n("the policy", self.n, "the data", data.n)
        if not hasattr(data, "y"):
            check_bit_means("the mean", data.mean)
            return
        check_bits(data.y)

    def entropy(self) -> Float[Tensor, "*b"]:
        """Return `H = -Σ_i [m_i log m_i + (1-m_i) log(1-m_i)] = Σ_i [a_i σ(-a_i) - log σ(a_i)]`.

        `a_i = |z_i|`: of the likelier value, so that nothing cancels.
        """
        z = self.logits.clamp(ENTROPY_FLOOR, -ENTROPY_FLOOR)
        a = torch.where(z < 0, -z, z)  # unlike `abs`, with second derivatives at 0
        return ((-a).sigmoid() * a - logsigmoid(a)).sum(-1)

    def cross_entropy(self, q: Any) -> Float[Tensor, "*b"]:
        """Return `-E_{y~q} log p(y) = -Σ_i [μ_i log m_i + (1-μ_i) log(1-m_i)]`.

        `μ` is the mean of `q`. It is +inf where the law excludes a value that `q` has.

        Args:
            q: data of bits, or a `Bernoulli`.

        Raises:
            InputError: outcomes that are no bits.
            ShapeError: another number of bits, or batches that do not broadcast.
        """
        check_law(self, q)
        check_same_n("q", q.n, "the policy", self.n)
        check_broadcast("q", q.mean.shape[:-1], "the policy", self.logits.shape[:-1])
        mu, z = q.mean, self.logits
        rest = (-q.logits).sigmoid() if isinstance(q, Bernoulli) else 1 - mu
        return (_cross_terms(mu, z) + _cross_terms(rest, -z)).sum(-1)

    def kl(self, reference: Any) -> Float[Tensor, "*b"]:
        """Return `KL(p ‖ p₀) = Σ_i [m_i log(m_i/m₀_i) + (1-m_i) log((1-m_i)/(1-m₀_i))]`.

        To the last digits also of near laws: of every bit it is that of two classes.

        Raises:
            InputError: a reference of another family, or one that excludes a value the law has.
            ShapeError: another number of bits, or batches that do not broadcast.
            NonFiniteError: NaN among the logits of the reference.
        """
        check_family(self, reference)
        check_same_n("the reference", reference.n, "the policy", self.n)
        check_broadcast(
            "the reference", reference.logits.shape[:-1], "the policy", self.logits.shape[:-1]
        )
        check_bit_logits("the reference's logits", reference.logits)
        z, z0 = self.logits, reference.logits
        p = torch.where(z0 > 0, -z, z).sigmoid()  # of the less likely value of the reference
        excluded = z0.isinf() & (p > 0)
        if bool(excluded.any()):
            index = tuple(excluded.nonzero()[0].tolist())
            value = int(z0.expand(excluded.shape)[index] < 0)
            raise InputError(
                f"the reference gives {value} as bit {index[-1]} probability 0, the policy "
                f"{p[index].item():.6g}: KL(p ‖ p₀) is infinite; pass a reference with finite "
                f"logits, or a policy that is certain there, too"
            )
        return _two_classes(z).kl(_two_classes(z0)).sum(-1)

    def draw(self, M: int, noise: UniformNoise) -> Float[Tensor, "*b M N n"]:
        """Return `M` generations of 0 and 1 per input.

        Raises:
            NonFiniteError: NaN among the logits.
        """
        check_bit_logits("logits", self.logits)
        return self._draw(M, noise)

    @checked
    def _draw(self, M: int, noise: UniformNoise) -> Float[Tensor, "*b M N n"]:
        check_count("M", M)
        self._check_inputs()
        uniform = noise.uniform((M, *self.logits.shape[-2:]), self.logits.dtype)
        return (uniform < self.mean.detach().unsqueeze(-3)).to(self.logits)

    def log_prob(self, y: Float[Tensor, "*b M N n"]) -> Float[Tensor, "*b M N"]:
        """Return `log p(y) = Σ_i log σ((2y_i - 1) z_i)`: -inf of what has probability 0.

        Raises:
            InputError: outcomes that are no bits.
            ShapeError: another number of bits, or batches that do not broadcast.
        """
        self._check_inputs()
        z = self.logits.unsqueeze(-3)
        check_same_n("y", y.shape[-1] if y.ndim else 0, "the policy", self.n)
        check_broadcast("y", y.shape[:-1], "the policy", z.shape[:-1])
        check_bits(y)
        return logsigmoid((2 * y - 1) * z).sum(-1)

    def _check_inputs(self) -> None:
        """Raise `ShapeError` unless there is a law for each input."""
        if self.logits.ndim < 2:
            raise ShapeError(f"logits have shape {tuple(self.logits.shape)}: pass (*b, N, n)")

    def _variances(self) -> Float[Tensor, "*b n"]:
        return self.mean * (-self.logits).sigmoid()


def check_bit_means(name: str, mean: Tensor) -> None:
    """Raise `InputError` unless all are in [0, 1]."""
    outside = ~((mean >= 0) & (mean <= 1))
    if bool(outside.any()):
        first = mean[outside][0].item()
        raise InputError(f"{name} holds {first:.6g}: that of bits is in [0, 1]")


def check_bit_logits(name: str, logits: Tensor) -> None:
    """Raise `NonFiniteError` where there is NaN among logits of bits."""
    bad = logits.isnan()
    if bool(bad.any()):
        raise NonFiniteError(
            f"{name} hold {int(bad.sum())} NaN of {bad.numel()}: pass numbers, infinite ones for "
            f"certain bits"
        )


def check_bits(y: Tensor) -> None:
    """Raise `InputError` unless outcomes are 0 or 1."""
    if not torch.equal(y, (y == 1).to(y)):
        wrong = y[(y != 0) & (y != 1)][0].item()
        raise InputError(f"y holds {wrong:.6g}: binary outcomes are 0 or 1")


def _two_classes(z: Float[Tensor, "*b n"]) -> Categorical:
    """Return the law of each bit over the classes 1 and 0; the likelier one has logit 0."""
    negative = z < 0
    logits = torch.stack([torch.where(negative, z, 0.0), torch.where(negative, 0.0, -z)], -1)
    return Categorical(logits, check=False)


def _cross_terms(q: Float[Tensor, "*#b n"], z: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b n"]:
    """Return `-q log σ(z)`, with `0 log 0 = 0`."""
    floor = torch.where(q == 0, LOG_FLOOR, -torch.inf)
    return -q * logsigmoid(z).clamp(min=floor)


@checked_class
@dataclass(frozen=True)
class BernoulliPolicy(NetworkPolicy):
    """`p_θ(. | x)`: `n` independent bits with logits from a network.

    Attributes:
        inputs: input dimension `d`.
        n: number of bits.
        network: from inputs to logits.
    """

    inputs: int
    n: int
    network: MLP = MLP()

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("n", self.n)
        check_instance("network", self.network, MLP, "an MLP, such as MLP((64,), 'tanh')")

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.n

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Bernoulli:
        """Return the law at each input, logits `(*b, N, n)`."""
        check_columns(x, "the policy", self.inputs)
        logits = self.network(params, "", x)
        check_outputs("the policy", logits, self.n)
        return Bernoulli(logits, check=False)


@checked
def inner_solution(
    U: Float[Tensor, "*#b n n"], lam: Number | Float[Tensor, "*#b"], mu: Float[Tensor, "*b n"]
) -> Bernoulli:
    """Return the inner solution for a diagonal `U` and free logits, `z_i = U_ii(2μ_i - 1)/λ`.

    Args:
        U: weight matrix, of which only the diagonal may differ from 0.
        lam: entropy weight `λ > 0`.
        mu: mean of the data, in [0, 1].

    Raises:
        InputError: `lam` is not positive, `mu` outside [0, 1]; or `U` is not diagonal: then
            `z = (2Uμ - diag U - 2 offdiag(U) m)/λ` couples the bits, and has no closed form.
        ShapeError: batches that do not broadcast.

    Source: new (analysis.bernoulli.inner.solution).
    """
    check_bit_means("mu", mu)
    weights = U.diagonal(dim1=-2, dim2=-1)
    if bool((U - torch.diag_embed(weights)).any()):
        raise InputError(
            "U has entries beside its diagonal, which couple the bits: solve by training.inner.fit"
        )
    lam = as_positive("lam", lam, mu)
    check_batches({"lam": lam.shape, "mu": mu.shape[:-1], "U": weights.shape[:-1]})
    return Bernoulli(weights * (2 * mu - 1) / lam[..., None])
