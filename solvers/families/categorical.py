"""Categorical laws over `C` classes, labelled data, and policies that return such laws.

Leading dimensions are batch dimensions, then inputs `N`, the last one is the class. Tensors may
be stored with classes ahead of inputs: then reductions over a few classes run along long rows of
memory, an order of magnitude faster than along short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import (
    InputError,
    NonFiniteError,
    ShapeError,
    check_broadcast,
    check_columns,
    check_count,
    check_dtype,
    check_finite,
    check_index,
    check_instance,
    check_precision,
    check_same_classes,
)
from .networks import MLP, Params, init_members

# Below these logarithms a probability is 0 in any precision: 0 · log 0 = 0 is 0 times a number.
ENTROPY_FLOOR = -1e4
LOG_FLOOR = -1e30


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
    check: InitVar[bool] = True
    log_p: Float[Tensor, "*b N C"] = field(init=False)
    p: Float[Tensor, "*b N C"] = field(init=False)

    def __post_init__(self, check: bool) -> None:
        if check:
            check_logits(self.logits)
        if self.logits.ndim > 1 and self.logits.stride(-1) > self.logits.stride(-2):
            log_p = self.logits.mT.log_softmax(-2).mT  # along the long rows of memory
        else:
            log_p = self.logits.log_softmax(-1)
        object.__setattr__(self, "log_p", log_p)
        object.__setattr__(self, "p", log_p.exp())

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.logits.shape[-1]

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `H = -Σ_c p(c) log p(c)`."""
        return -(self.p * self.log_p.clamp(min=ENTROPY_FLOOR)).sum(-1)

    def cross_entropy(self, pi: Float[Tensor, "*#b N C"]) -> Float[Tensor, "*b N"]:
        """Return `-Σ_c π_c log p(c)`, the expected negative log-likelihood.

        It is +inf where the law excludes a class that the data have.

        Raises:
            ShapeError: another number of classes, or batches that do not broadcast.
        """
        self.check_classes("pi", pi)
        floor = torch.where(pi == 0, LOG_FLOOR, -torch.inf)
        return -(pi * self.log_p.clamp(min=floor)).sum(-1)

    def check_classes(self, name: str, pi: Tensor) -> None:
        """Raise `ShapeError` unless `pi` has a row of these classes for each input, or for all."""
        check_same_classes("the policy", self.classes, name, pi.shape[-1] if pi.ndim else 0)
        check_broadcast("the policy", self.logits.shape[:-1], name, pi.shape[:-1])


def check_logits(logits: Float[Tensor, "*b C"]) -> None:
    """Raise unless every input has a largest logit, and a finite one."""
    check_dtype("logits", logits)
    if not logits.ndim or not logits.shape[-1]:
        raise ShapeError(f"logits have shape {tuple(logits.shape)}: pass (*b, N, C)")
    largest = logits.detach().amax(-1)
    bad = ~torch.isfinite(largest)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        at = f"logits{list(index)}" if index else "logits"
        raise NonFiniteError(
            f"{at} are {logits[index].tolist()}, which is no law: pass finite logits, and -inf "
            f"for some of the classes, not for all"
        )


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
        check_count("C", C, 2)
        check_index("labels", labels, f"a tensor of integers 0 .. {C - 1}")
        if labels.shape != x.shape[:-1]:
            raise ShapeError(
                f"x is {tuple(x.shape)}, labels {tuple(labels.shape)}: pass x (*b, N, d) and "
                f"labels (*b, N)"
            )
        labels = labels.long()
        outside = (labels < 0) | (labels >= C)
        if bool(outside.any()):
            index = tuple(outside.nonzero()[0].tolist())
            raise InputError(
                f"labels{list(index)} is {int(labels[index])}, outside 0 .. {C - 1}: "
                f"pass C = {max(int(labels.max()) + 1, 2)} or encode the labels from 0"
            )
        return cls.soft(x, torch.nn.functional.one_hot(labels, C).to(x.dtype))

    @classmethod
    def soft(cls, x: Float[Tensor, "*b N d"], pi: Float[Tensor, "*b N C"]) -> LabelledData:
        """Check class probabilities, such as the estimates of another classifier.

        Raises:
            InputError: fewer than two classes, a negative probability, or a sum that is not 1.
            ShapeError: empty data, or `x` and `pi` that disagree.
            NonFiniteError: NaN or infinity.
        """
        check_dtype("x", x)
        check_dtype("pi", pi)
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
    check_dtype(name, pi)
    if not pi.ndim or pi.shape[-1] < 2:
        raise InputError(f"{name} has shape {tuple(pi.shape)}: pass (*b, C), at least 2 classes")
    if not pi.numel():
        raise ShapeError(f"{name} is empty: it has shape {tuple(pi.shape)}; pass rows")
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
        check_count("inputs", self.inputs)
        check_count("classes", self.classes, 2)
        check_instance("network", self.network, MLP, "an MLP, such as MLP((64,), 'tanh')")

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
        check_precision("dtype", dtype)
        shapes = self.network.shapes(self.inputs, self.classes)
        return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Categorical:
        """Return the law at each input, logits `(*b, N, C)`."""
        check_columns(x, "the policy", self.inputs)
        return Categorical(self.network(params, "", x), check=False)


def accuracy(law: Categorical, data: LabelledData) -> Float[Tensor, "*b"]:
    """Return the probability that the most likely class of the law is the outcome."""
    _check_data(law, data)
    return data.pi.expand_as(law.logits).gather(-1, _mode(law))[..., 0].mean(-1)


def calibration_error(law: Categorical, data: LabelledData, bins: int = 15) -> Float[Tensor, "*b"]:
    """Return the expected calibration error `Σ_B (n_B/N) |accuracy_B - confidence_B|`.

    Bins `B` are of equal width in the confidence `max_c p(c)`.
    """
    check_count("bins", bins)
    _check_data(law, data)
    mode = _mode(law)
    confidence = law.p.gather(-1, mode)[..., 0]
    gap = data.pi.expand_as(law.logits).gather(-1, mode)[..., 0] - confidence
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    sums = gap.new_zeros((*gap.shape[:-1], bins)).scatter_add(-1, bin_of, gap)
    return sums.abs().sum(-1) / gap.shape[-1]


def _check_data(law: Categorical, data: LabelledData) -> None:
    """Raise unless the law has the inputs of the data, whose batch may be smaller, and classes."""
    check_same_classes("the policy", law.classes, "the data", data.classes)
    here, there = law.logits.shape[:-1], data.pi.shape[:-1]
    if here[-1:] != there[-1:] or len(there) > len(here):
        raise ShapeError(
            f"the policy has logits {tuple(law.logits.shape)}, the data pi {tuple(data.pi.shape)}: "
            f"evaluate the policy at the inputs of the data"
        )
    check_broadcast("the policy", here, "the data", there)


def _mode(law: Categorical) -> Int[Tensor, "*b N 1"]:
    return law.logits.argmax(-1, keepdim=True)
