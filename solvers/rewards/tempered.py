"""A reward with the temperature it is meant for: `λ(x)` as an outer variable.

The entropy weight `λ(x)` chooses between likelihood and mean error where one mean has to serve
several inputs: `U(x)` weighs their errors, and only `U(x)/λ(x)` shapes the variance. Of a diagonal
reward of weights `u(x)`, whose inner solution has the variances `P(x) = λ/(2u(x))`,

    U(x) = u(x)^(1-β),    λ(x) = λ u(x)^-β

has the same variances for every `β`, and `λ(x) ∝ P(x)^β`: the mean of likelihood at `β = 0`, of
squared error at `β = 1`, of β-NLL between (`analysis.gaussian.temperature`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..errors import InputError, Number, ShapeError, as_positive, as_tensor
from ..families.networks import MLP, parameter
from .learnable import InputReward, Phi
from .mahalanobis import DiagonalReward


@checked_class
@dataclass(frozen=True)
class Tempered:
    """The diagonal reward of weights `u(x)^(1-β)`, and its temperature `τ(x) = u(x)^-β`.

    Attributes:
        u: weights `u > 0` at `β = 0`, `(N, n)`; the variances are `λ/(2u)` for every `β`.
        power: `β`, one number of any sign.

    Raises:
        InputError: weights that are not positive, or whose powers leave the range of numbers.
        ShapeError: `power` is not one number.

    Source: new (`analysis.gaussian.temperature`).
    """

    u: Float[Tensor, "N n"]
    power: Number | Float[Tensor, ""]

    def __post_init__(self) -> None:
        object.__setattr__(self, "u", as_positive("u", self.u))
        power = as_tensor("power", self.power, self.u)
        if power.ndim:
            raise ShapeError(f"power has shape {tuple(power.shape)}: pass one number")
        object.__setattr__(self, "power", power)
        self._check_powers()

    def _check_powers(self) -> None:
        with torch.no_grad():
            for name, values in (("1 - power", self._weights), ("-power", self.temperature)):
                bad = ~(torch.isfinite(values) & (values > 0))
                if bool(bad.any()):
                    at = tuple(bad.nonzero()[0].tolist())
                    raise InputError(
                        f"u{list(at)} is {self.u[at].item():.6g}, and to the power {name}, with "
                        f"power = {float(self.power):.6g}, it is {values[at].item():.6g}: pass a "
                        f"power nearer to 0, or outcomes in units in which u is nearer to 1"
                    )

    @property
    def _weights(self) -> Float[Tensor, "N n"]:
        return self.u ** (1 - torch.as_tensor(self.power))

    @property
    def reward(self) -> DiagonalReward:
        """The reward without its temperature."""
        return DiagonalReward(self._weights)

    @property
    def temperature(self) -> Float[Tensor, "N n"]:
        """`τ(x)`: the entropy weight is `λ(x) = λ τ(x)`, of each outcome dimension."""
        return self.u ** -torch.as_tensor(self.power)

    def expected(self, law: Any, q: Any) -> Float[Tensor, "*e N"]:
        """Return `E r` per input (see `DiagonalReward.expected`)."""
        return self.reward.expected(law, q)


@checked_class
@dataclass(frozen=True)
class TemperedReward:
    """A reward `U(x)` whose temperature `τ(x) = u(x)^-β` is learned with it.

    The likelihood of the outer level says which `β` is best. That of the inner data is largest at
    `β = 0`; one of other inputs, or of other noise, than the inner level has is not: between two
    inputs the best `τ(x)` is the ratio of their densities, outer over inner. Where the policy's
    mean attains that of the data `β` is not identified: every one has the same inner solution,
    the hypergradient is 0 along it, and `solve` leaves it where it starts. Learned together with
    the weights, start from some whose variances have the right order, such as those of residuals
    (`bilevel.cross_fitted`): no finite `β` gives two temperatures to inputs of one variance, so
    that an order that is wrong stays wrong, and `β` grows without a bound.

    Attributes:
        weight: `InputReward(d, n, network, "diagonal")`, of the weights `u(x)`. To learn `β` alone
            freeze its parameters: `phi` in which "power" alone requires gradients.

    Raises:
        InputError: a `weight` of another kind.

    Source: new (`analysis.gaussian.temperature`).
    """

    weight: InputReward

    def __post_init__(self) -> None:
        if self.weight.kind != "diagonal":
            raise InputError(
                f"weight has kind {self.weight.kind!r}, and a temperature for each outcome "
                f"dimension needs its variance: pass kind='diagonal'"
            )

    @property
    def networks(self) -> dict[str, MLP]:
        """Those of `weight`."""
        return self.weight.networks

    def start(
        self,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        *,
        u: Float[Tensor, "n"] | None = None,
    ) -> dict[str, Tensor]:
        """Return `β = 0` under the name "power", and the weights' parameters, drawn about `u`."""
        return {"power": torch.zeros((), dtype=dtype), **self.weight.start(generator, dtype, u=u)}

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> Tempered:
        """Return the reward and its temperature at these inputs."""
        return Tempered(self.weight.weights(phi, x), parameter(phi, "power"))
