"""Categorical laws over `C` classes, labelled data, and policies that return such laws.

Leading dimensions are batch dimensions, then inputs `N`, the last one is the class. Tensors may
be stored with classes ahead of inputs: then reductions over a few classes run along long rows of
memory, an order of magnitude faster than along short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from solvers.errors import InputError, ShapeError, check_finite, check_same_n
from solvers.policies import MLP, Params, init_members


@dataclass(frozen=True)
class Categorical:
    """`p(c) ∝ exp(z_c)`.

    Attributes:
        logits: `z`, shape `(*b, N, C)`; a constant added to all of an input changes nothing.
        log_p: `log p(c) = z_c - log Σ_k exp z_k`.
        p: class probabilities. Both are computed at once, not when first asked for: what is cached
            then has no gradient if that is asked under `torch.no_grad`.
    """

    logits: Float[Tensor, "*b N C"]
    log_p: Float[Tensor, "*b N C"] = field(init=False)
    p: Float[Tensor, "*b N C"] = field(init=False)

    def __post_init__(self) -> None:
        log_p = self.logits - self.logits.logsumexp(-1, keepdim=True)
        object.__setattr__(self, "log_p", log_p)
        object.__setattr__(self, "p", log_p.exp())

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.logits.shape[-1]

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `H = -Σ_c p(c) log p(c)`."""
        return -(self.p * self.log_p).sum(-1)

    def cross_entropy(self, pi: Float[Tensor, "*#b N C"]) -> Float[Tensor, "*b N"]:
        """Return `-Σ_c π_c log p(c)`, the expected negative log-likelihood."""
        return -(pi * self.log_p).sum(-1)


@dataclass(frozen=True)
class LabelledData:
    """Inputs, and the distribution of the class at each; build it with `of` or `soft`.

    Attributes:
        x: inputs, `(*b, N, d)`.
        pi: `π`, probabilities of the classes at each input, `(*b, N, C)`; one-hot for labels.
    """

    x: Float[Tensor, "*b N d"]
    pi: Float[Tensor, "*b N C"]

    @classmethod
    def of(cls, x: Float[Tensor, "*b N d"], labels: Int[Tensor, "*b N"], C: int) -> LabelledData:
        """Check labels `0 .. C-1` and store them one-hot.

        Raises:
            InputError: fewer than two classes, or a label outside the range.
            ShapeError: empty data, or `x` and `labels` that disagree.
            NonFiniteError: NaN or infinity in `x`.
        """
        if labels.shape != x.shape[:-1]:
            raise ShapeError(
                f"x is {tuple(x.shape)}, labels {tuple(labels.shape)}: pass x (*b, N, d) and "
                f"labels (*b, N)"
            )
        outside = (labels < 0) | (labels >= C)
        if bool(outside.any()):
            index = tuple(outside.nonzero()[0].tolist())
            raise InputError(
                f"labels{list(index)} is {int(labels[index])}, outside 0 .. {C - 1}: "
                f"pass C = {int(labels.max()) + 1} or encode the labels from 0"
            )
        return cls.soft(x, torch.nn.functional.one_hot(labels.long(), C).to(x.dtype))

    @classmethod
    def soft(cls, x: Float[Tensor, "*b N d"], pi: Float[Tensor, "*b N C"]) -> LabelledData:
        """Check class probabilities, such as the estimates of another classifier.

        Raises:
            InputError: fewer than two classes, a negative probability, or a sum that is not 1.
            ShapeError: empty data, or `x` and `pi` that disagree.
            NonFiniteError: NaN or infinity.
        """
        if pi.shape[:-1] != x.shape[:-1] or x.ndim < 2:
            raise ShapeError(
                f"x is {tuple(x.shape)}, pi {tuple(pi.shape)}: pass x (*b, N, d), pi (*b, N, C)"
            )
        if x.numel() == 0:
            raise ShapeError(f"data are empty: x has shape {tuple(x.shape)}; pass rows and columns")
        if x.dtype != pi.dtype:
            raise ShapeError(f"x is {x.dtype} and pi is {pi.dtype}: convert both to one dtype")
        check_finite("x", x)
        check_probabilities("pi", pi)
        return cls(x, pi)

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.pi.shape[-1]

    def rows(self, index: Int[Tensor, "*i B"]) -> LabelledData:
        """Return the inputs `index` of data without batch dimensions, `(*i, B, ...)`."""
        if self.x.ndim != 2:
            raise ShapeError(f"x has shape {tuple(self.x.shape)}: rows are taken from x (N, d)")
        return LabelledData(self.x[index], self.pi[index])


def check_probabilities(name: str, pi: Float[Tensor, "*b C"]) -> None:
    """Raise unless the last dimension holds probabilities of two or more classes."""
    if pi.shape[-1] < 2:
        raise InputError(f"{name} has {pi.shape[-1]} classes: pass at least 2")
    check_finite(name, pi)
    if bool((pi < 0).any()):
        raise InputError(f"{name} has an entry {pi.min().item():.6g}: pass probabilities >= 0")
    off = (pi.sum(-1) - 1).abs().max().item()
    if off > 1e3 * torch.finfo(pi.dtype).eps:
        raise InputError(f"{name} sums to 1 ± {off:.3g}: divide it by its sum over classes")


@dataclass(frozen=True)
class CategoricalPolicy:
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
        if self.inputs < 1 or self.classes < 2:
            raise InputError(
                f"inputs is {self.inputs}, classes {self.classes}: pass at least 1 and 2"
            )

    def init(
        self,
        generators: Sequence[torch.Generator],
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Draw the parameters of every member; as `GaussianPolicy.init`."""
        return init_members(
            lambda generator: self.network.init(generator, self.inputs, self.classes),
            generators,
            batch,
            dtype,
        )

    def zeros(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return the parameters of the uniform law (a stationary point of deeper networks)."""
        shapes = self.network.shapes(self.inputs, self.classes)
        return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Categorical:
        """Return the law at each input, logits `(*b, N, C)`."""
        check_same_n("x (columns)", x.shape[-1], "the policy (inputs)", self.inputs)
        return Categorical(self.network(params, "", x))


def accuracy(law: Categorical, data: LabelledData) -> Float[Tensor, "*b"]:
    """Return the probability that the most likely class of the law is the outcome."""
    return data.pi.expand_as(law.logits).gather(-1, _mode(law))[..., 0].mean(-1)


def calibration_error(law: Categorical, data: LabelledData, bins: int = 15) -> Float[Tensor, "*b"]:
    """Return the expected calibration error `Σ_B (n_B/N) |accuracy_B - confidence_B|`.

    Bins `B` are of equal width in the confidence `max_c p(c)`.
    """
    mode = _mode(law)
    confidence = law.p.gather(-1, mode)[..., 0]
    gap = data.pi.expand_as(law.logits).gather(-1, mode)[..., 0] - confidence
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    sums = torch.zeros((*gap.shape[:-1], bins), dtype=gap.dtype).scatter_add(-1, bin_of, gap)
    return sums.abs().sum(-1) / gap.shape[-1]


def _mode(law: Categorical) -> Int[Tensor, "*b N 1"]:
    return law.logits.argmax(-1, keepdim=True)
