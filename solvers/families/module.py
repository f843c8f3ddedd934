"""Any `torch.nn.Module` that returns a `torch.distributions.Distribution`, as a policy."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..arguments import checked, checked_class
from ..errors import InputError, ShapeError, check_broadcast, check_count
from .baselines import Baseline
from .law import NormalNoise, Params, Sampled, UniformNoise, check_family

ALONE = threading.RLock()
"""Held by the thread that draws from torch's global generator, or evaluates a module, whose tensors
torch exchanges in place: another would draw its numbers, or compute with its parameters."""


@checked_class
@dataclass(frozen=True)
class Wrapped(Sampled):
    """A law of `torch.distributions`, one at each of `N` inputs.

    Attributes:
        distribution: of batch shape `(N,)`, over numbers or vectors `(n,)`, or `(N, n)` for
            independent dimensions, which are then taken together.

    Raises:
        ShapeError: a distribution of another shape.
    """

    distribution: Distribution

    def __post_init__(self) -> None:
        if not self.distribution.batch_shape or len(self._shape) > 2:
            raise ShapeError(
                f"the law is {_named(self.distribution)}: pass batch shape (N,), or (N, n) for "
                f"independent outcome dimensions"
            )

    @property
    def N(self) -> int:
        """Number of inputs."""
        return self._shape[0]

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return 1 if self._scalar else self._shape[1]

    @property
    def _shape(self) -> torch.Size:
        """`(N,)` or `(N, n)`."""
        return self.distribution.batch_shape + self.distribution.event_shape

    @property
    def _scalar(self) -> bool:
        """Whether outcomes are numbers to the distribution, without a last axis."""
        return len(self._shape) == 1

    def check_data(self, data: Any) -> None:
        """Raise unless there are outcomes `y`, `(N, S, n)`, at the inputs of this law.

        Raises:
            InputError: no outcomes.
            ShapeError: another number of inputs, or another outcome dimension.
        """
        super().check_data(data)
        y = data.y
        if y.ndim != 3 or y.shape[0] != self.N:
            raise ShapeError(
                f"the outcomes have shape {tuple(y.shape)}, and the law is "
                f"{_named(self.distribution)}: pass y ({self.N}, S, {self.n}), at the inputs of "
                f"the law"
            )
        self._check_n("the data have", y)

    def entropy(self) -> Float[Tensor, "N"]:
        """Return `H`, summed over outcome dimensions.

        Raises:
            InputError: the distribution has no entropy in closed form.
        """
        try:
            return _summed(self.distribution.entropy())
        except NotImplementedError:
            raise InputError(
                f"torch knows no entropy of {type(self.distribution).__name__}: give it a method "
                f"entropy, or use another distribution"
            ) from None

    def kl(self, reference: Any) -> Float[Tensor, "N"] | None:
        """Return `KL(p ‖ p₀)`, summed over outcome dimensions; None where torch knows no formula.

        Raises:
            InputError: a reference that is no module's law.
            ShapeError: a reference of another shape.
        """
        check_family(self, reference)
        if reference._shape != self._shape:
            raise ShapeError(
                f"the reference is {_named(reference.distribution)}, the policy "
                f"{_named(self.distribution)}: pass a reference of the policy's shape"
            )
        try:
            return _summed(kl_divergence(self.distribution, reference.distribution))
        except NotImplementedError:
            return None

    def log_prob(self, y: Float[Tensor, "M N n"]) -> Float[Tensor, "M N"]:
        """Return `log p(y)`, summed over outcome dimensions.

        Raises:
            InputError: outcomes outside the support of the distribution.
            ShapeError: another outcome dimension, or inputs that do not broadcast.
        """
        self._check_n("y has", y)
        check_broadcast("y", y.shape[:-1], "the law", self._shape[:1])
        outcomes = y[..., 0] if self._scalar else y
        self._check_support(outcomes)
        return _summed(self.distribution.log_prob(outcomes), 2)

    def draw(self, M: int, noise: NormalNoise | UniformNoise) -> Float[Tensor, "M N n"]:
        """Return `M` generations per input; they move with the parameters if they can.

        Whole numbers, as a `Categorical` draws them, come in the dtype of their log-probabilities.
        torch draws from global generators: they are seeded from the noise, and put back after,
        by one thread at a time.
        """
        check_count("M", M)
        with ALONE, torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
            torch.manual_seed(_seed(noise))
            shape = torch.Size((M,))
            law = self.distribution
            y = law.rsample(shape) if law.has_rsample else law.sample(shape)
        if not y.is_floating_point():
            y = y.to(law.log_prob(y[:1]).dtype)
        return y.unsqueeze(-1) if self._scalar else y

    def reinforce(
        self,
        data: Any,
        reward: Any,
        M: int,
        baseline: Baseline,
        noise: NormalNoise | UniformNoise,
    ) -> Float[Tensor, "N"]:
        """Return the surrogate of `Law.reinforce`.

        Raises:
            InputError: a support that moves with the parameters, as that of a `Uniform`: what the
                reward gains at its edge is in no score.
        """
        if _moves(self.distribution):
            raise InputError(
                f"the support of {type(self.distribution).__name__} moves with its parameters, and "
                f"the score function does not see its edge: pass Pathwise(M={M}), or a "
                f"distribution of a fixed support"
            )
        return super().reinforce(data, reward, M, baseline, noise)

    def pathwise(
        self, data: Any, reward: Any, M: int, noise: NormalNoise | UniformNoise
    ) -> Float[Tensor, "N"]:
        """Return the mean reward of `M` generations, differentiable along them."""
        self.check_data(data)
        if not self.distribution.has_rsample:
            raise InputError(
                f"generations of {type(self.distribution).__name__} do not move with its "
                f"parameters: pass ScoreFunction(M={M})"
            )
        return self.rewards(self.draw(M, noise), data, reward).mean(-2)

    def _check_n(self, owner: str, y: Tensor) -> None:
        """Raise `ShapeError` unless outcomes have the dimension of this law."""
        if y.shape[-1] != self.n:
            raise ShapeError(
                f"{owner} n = {y.shape[-1]}, and the law is {_named(self.distribution)}, of n = "
                f"{self.n}: use a distribution over (N, {y.shape[-1]})"
            )

    def _check_support(self, outcomes: Tensor) -> None:
        """Raise `InputError` unless the distribution, where it knows its support, has these."""
        try:
            support: Any = self.distribution.support
        except NotImplementedError:
            return
        outside = ~support.check(outcomes)
        if bool(outside.any()):
            raise InputError(
                f"y holds {_shown(outcomes[outside][0])}, outside the support {support} of "
                f"{type(self.distribution).__name__}: pass outcomes that it can draw"
            )


@checked_class
@dataclass(frozen=True, eq=False)
class ModulePolicy:
    """`p_θ(. | x)` of a module: its parameters, by name, are `θ`.

    Build it with `policy(module)`. Frozen parameters (`requires_grad` False) stay as they are.

    Attributes:
        module: returns a `Distribution` for inputs `(N, d)`; never changed, nor are its buffers.
    """

    module: torch.nn.Module

    def start(self) -> dict[str, Tensor]:
        """Return a copy of the module's parameters to start from, frozen ones as such."""
        return copied(self.module)

    def __call__(self, params: Params, x: Float[Tensor, "N d"]) -> Wrapped:
        """Return the law at each input.

        Raises:
            InputError: the module returns no distribution.
            ShapeError: its distribution is of another shape than `Wrapped` takes, or of another
                number of inputs.
        """
        found = evaluated(self.module, params, x)
        if not isinstance(found, Distribution):
            raise InputError(
                f"the module returned {type(found).__name__}: return a torch.distributions object, "
                f"such as Normal(mean, scale)"
            )
        law = Wrapped(found)
        if len(x) != law.N:
            raise ShapeError(
                f"the module returned {_named(found)} at {len(x)} inputs: return batch shape "
                f"({len(x)},), or ({len(x)}, n) for independent outcome dimensions"
            )
        return law

    def load(self, params: Mapping[str, Tensor]) -> torch.nn.Module:
        """Write trained parameters into the module, and return it; its buffers stay as they are."""
        return loaded(self.module, params)


@checked
def policy(module: torch.nn.Module) -> ModulePolicy:
    """Return the policy of a module that returns a `torch.distributions.Distribution`.

    It trains on any reward `r(ŷ, y)` by score function or, where the distribution has `rsample`,
    pathwise: `ŷ` and `y` have the outcome dimension last, also for `n = 1`, and are floating-point
    numbers, also where the distribution draws whole ones.

    The law is a function of parameters and inputs, the same whenever it is evaluated: every
    evaluation starts from the module's buffers as they are, and what it writes into them is lost.
    So batch normalisation takes the statistics of the inputs it is given after `module.train()`,
    those that the module holds after `module.eval()`; to renew these, run the module itself once it
    is loaded. What else a module does at random is its own: call `module.eval()` if it has dropout.

    Args:
        module: takes inputs `(N, d)`; its own parameters are where training starts.
    """
    return ModulePolicy(module)


def copied(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's parameters, frozen ones as such (see `trees.Leaves`)."""
    with ALONE:
        held = dict(module.named_parameters())
        copies = {name: p.detach().clone() for name, p in held.items()}
    return {
        name: copies[name].requires_grad_()
        if p.requires_grad
        else torch.nn.Parameter(copies[name], requires_grad=False)
        for name, p in held.items()
    }


def loaded(module: torch.nn.Module, params: Mapping[str, Tensor]) -> torch.nn.Module:
    """Write parameters into a module, and return it."""
    with ALONE, torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(params[name])
    return module


def evaluated(module: torch.nn.Module, params: Params, *inputs: Tensor) -> Any:
    """Return what a module returns with these parameters, and leave it as it is.

    Buffers are handed over as copies: what it writes into them is lost. Every part is handed each
    tensor once, however many names it has: torch would leave one that has two with another's.
    Attention is computed by the one of torch's kernels that has second derivatives.

    Raises:
        InputError: a parameter of the module is missing, in whose place its own would stand; torch
            knows no such law, as one whose scale underflows to 0; or the module fails on inputs in
            another precision than its parameters.
    """
    with ALONE:
        missing = [name for name, _ in module.named_parameters() if name not in params]
        if missing:
            raise InputError(
                f"params lack {', '.join(map(repr, missing))}, parameters of the module: pass "
                f"those of `start()`, trained or not"
            )
        buffers = {name: params.get(name, b).clone() for name, b in module.named_buffers()}
        held = {**params, **buffers}
        first = {id(t): name for name, t in _tensors(module, recurse=True)}
        given = {
            f"{prefix}{'.' if prefix else ''}{name}": held[first[id(t)]]
            for prefix, part in module.named_modules()
            for name, t in _tensors(part, recurse=False)
        }
        try:
            with sdpa_kernel(SDPBackend.MATH):
                return functional_call(module, given, inputs, tie_weights=False)
        except ValueError as error:
            if not _by_torch(error):
                raise
            raise InputError(
                f"the module has no law at these parameters: {error}; keep its outputs inside the "
                f"domain, as by softplus(raw) + 1e-6 for a scale"
            ) from error
        except RuntimeError as error:
            own, theirs = _precisions(params.values()), _precisions(inputs)
            if own <= theirs:
                raise
            raise InputError(
                f"the module fails on inputs in {' and '.join(sorted(theirs))} with parameters in "
                f"{' and '.join(sorted(own))}: {error}; pass both in one precision, as by "
                f"module.to(x.dtype)"
            ) from error


def _precisions(tensors: Iterable[Tensor]) -> set[str]:
    return {str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()}


def _tensors(module: torch.nn.Module, *, recurse: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, those of other parts by their first name alone."""
    yield from module.named_parameters(recurse=recurse, remove_duplicate=recurse)
    yield from module.named_buffers(recurse=recurse, remove_duplicate=recurse)


def _by_torch(error: ValueError) -> bool:
    """Whether an error comes from the checks of `torch.distributions`, not from the module."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals["__name__"].startswith("torch.distributions")


def _named(law: Distribution) -> str:
    """Return what a distribution is, with its shapes."""
    batch, event = tuple(law.batch_shape), tuple(law.event_shape)
    over = f" over {event}" if event else ""
    return f"{type(law).__name__} of batch shape {batch}{over}"


def _moves(law: Distribution) -> bool:
    """Whether a bound of the support, where torch knows it, depends on what is differentiated."""
    try:
        support: Any = law.support
    except NotImplementedError:
        return False
    while (base := getattr(support, "base_constraint", None)) is not None:
        support = base
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return any(isinstance(bound, Tensor) and bound.requires_grad for bound in bounds)


def _shown(outcome: Tensor) -> str:
    return f"{outcome.item():.6g}" if not outcome.ndim else str(outcome.tolist())


def _summed(values: Tensor, ndim: int = 1) -> Tensor:
    return values.flatten(ndim).sum(-1) if values.ndim > ndim else values


def _seed(noise: NormalNoise | UniformNoise) -> int:
    """Draw a seed from the noise."""
    if isinstance(noise, UniformNoise):
        return int(noise.uniform((), torch.float64) * 2**53)
    return int(noise.normal((), torch.float64).abs() * 2**48)
