"""Networks as policies over sequences: a gated recurrent unit, or a module of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    ShapeError,
    check_broadcast,
    check_columns,
    check_count,
    check_instance,
    check_precision,
)
from ..numerics.values import same
from .categorical import check_logits
from .law import Params
from .module import copied, evaluated, loaded
from .networks import init_members, parameter
from .sequences import Autoregressive, Stepwise

WORDS = 4  # sequences that a module of one's own is tried on


@checked_class
@dataclass(frozen=True)
class RecurrentPolicy:
    """`p_θ(y | x)` of a gated recurrent unit that starts from `tanh(xA + a)`; members stacked.

    Attributes:
        inputs: input dimension `d`.
        V: number of symbols.
        T: length of the sequences.
        width: of the state.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
    """

    inputs: int
    V: int
    T: int
    width: int = 16

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("V", self.V, 2)
        check_count("T", self.T)
        check_count("width", self.width)

    def init(
        self,
        generators: Sequence[torch.Generator],
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Draw `U(-1/√width, 1/√width)` for every member, PyTorch's default for recurrent units."""
        return init_members(self._init, generators, batch, dtype)

    def _init(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = {
            name: torch.rand(
                shape, generator=generator, dtype=torch.float64, device=generator.device
            )
            for name, shape in _shapes(self).items()
        }
        return {name: (2 * uniform - 1) / self.width**0.5 for name, uniform in drawn.items()}

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Autoregressive:
        """Return the law at each input."""
        return Autoregressive(Recurrent(self, params, x), self.V, self.T, x.shape[-2], x.device)


def _shapes(policy: RecurrentPolicy) -> dict[str, tuple[int, ...]]:
    """Return the shapes of one member's parameters."""
    w = policy.width
    return {
        "start": (policy.inputs, w),
        "start_bias": (w,),
        "symbols": (policy.V, 3 * w),
        "state": (w, 3 * w),
        "state_bias": (3 * w,),
        "out": (w, policy.V),
        "out_bias": (policy.V,),
    }


@checked_class
@dataclass(frozen=True, eq=False)
class Recurrent(Stepwise):
    """What follows by a gated recurrent unit, as `RecurrentPolicy` has it.

    Attributes:
        policy: which it is.
        params: of the policy.
        x: the inputs.

    Raises:
        ShapeError: parameters or inputs of other shapes than the policy's, or of two precisions.
    """

    policy: RecurrentPolicy
    params: Params
    x: Float[Tensor, "*#b N d"]

    def __post_init__(self) -> None:
        policy, params, x = self.policy, self.params, self.x
        check_columns(x, "the policy", policy.inputs)
        batch = parameter(params, "start").shape[:-2]
        for name, shape in _shapes(policy).items():
            found = parameter(params, name)
            if found.shape != (*batch, *shape) or found.dtype != x.dtype:
                raise ShapeError(
                    f"{name} is {tuple(found.shape)} of {found.dtype}: pass {(*batch, *shape)}, of "
                    f"{x.dtype} as x is"
                )
        check_broadcast("the parameters", batch, "x", x.shape[:-2])

    def _bias(self, name: str) -> Tensor:
        return self.params[name].unsqueeze(-2)

    def first(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the logits of the first symbol, and the states `(*b, M N, width)` they are of."""
        h = (self.x @ self.params["start"] + self._bias("start_bias")).tanh()  # (*b, N, width)
        if h.shape[-2] != shape[-1]:
            raise ShapeError(
                f"x has {h.shape[-2]} inputs, the law N = {shape[-1]}: pass the same number"
            )
        batch = torch.broadcast_shapes(h.shape[:-2], shape[:-2])
        h = h.unsqueeze(-3).expand(*batch, *shape[-2:], h.shape[-1])
        return self._logits(h.flatten(-3, -2), shape), h.flatten(-3, -2)

    def after(self, state: Tensor, symbol: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the next symbol, and the states they are of.

        Raises:
            InputError: a symbol that the policy has not.
        """
        params, h = self.params, state
        if bool((symbol >= self.policy.V).any()):
            raise InputError(
                f"after symbol {int(symbol.max())} nothing is known: the policy has V = "
                f"{self.policy.V} symbols, use one alphabet"
            )
        one = torch.nn.functional.one_hot(symbol.flatten(-2), self.policy.V).to(h)
        from_symbol = (one @ params["symbols"]).chunk(3, -1)
        from_state = (h @ params["state"] + self._bias("state_bias")).chunk(3, -1)
        reset, update = (
            (a + b).sigmoid() for a, b in zip(from_symbol[:2], from_state[:2], strict=True)
        )
        proposed = (from_symbol[2] + reset * from_state[2]).tanh()
        h = proposed + update * (h - proposed)
        return self._logits(h, symbol.shape), h

    def _logits(self, h: Tensor, shape: tuple[int, ...]) -> Tensor:
        return (h @ self.params["out"] + self._bias("out_bias")).unflatten(-2, shape[-2:])


@checked_class
@dataclass(frozen=True, eq=False)
class CausalPolicy:
    """`p_θ(y | x)` of a module of your own; build it with `causal_policy`.

    Attributes:
        module: never changed, as by `policy`.
        V: number of symbols.
        T: length of the sequences.
    """

    module: torch.nn.Module
    V: int
    T: int

    def start(self) -> dict[str, Tensor]:
        """Return a copy of the module's parameters to start from, frozen ones as such."""
        return copied(self.module)

    def __call__(self, params: Params, x: Float[Tensor, "N d"]) -> Autoregressive:
        """Return the law at each input."""
        return Autoregressive(partial(self.logits, params, x), self.V, self.T, len(x), x.device)

    def logits(
        self, params: Params, x: Float[Tensor, "N d"], y: Int[Tensor, "M N _t"]
    ) -> Float[Tensor, "M N t1 V"]:
        """Return the logits of every symbol from those before it.

        Raises:
            ShapeError: the module returns another shape.
        """
        M, N, t = y.shape
        before = torch.nn.functional.pad(y.reshape(M * N, t), (1, 0), value=self.V)
        rows = x.expand(M, N, x.shape[-1]).reshape(M * N, -1)
        found = evaluated(self.module, params, before, rows)
        if found.shape != (M * N, t + 1, self.V):
            raise ShapeError(
                f"the module returned shape {tuple(found.shape)} for symbols "
                f"{tuple(before.shape)}: return logits {(M * N, t + 1, self.V)}, of the symbol "
                f"after each of them"
            )
        return found.reshape(M, N, t + 1, self.V)

    def load(self, params: Mapping[str, Tensor]) -> torch.nn.Module:
        """Write trained parameters into the module, and return it."""
        return loaded(self.module, params)


@checked
def causal_policy(module: torch.nn.Module, inputs: int, V: int, T: int) -> CausalPolicy:
    """Return the policy over sequences of a module that predicts the next symbol.

    Args:
        module: `module(before, x)` takes symbols `(B, t)`, integers of which the first is `V`, the
            start, and inputs `(B, d)`; it returns logits `(B, t, V)` of the symbol after each of
            them: a recurrent network, or a transformer with a causal mask, without dropout, and
            with batch normalisation only after `module.eval()`. What it writes into its buffers is
            lost, as by `policy`. It keeps no state between calls: drawing a sequence takes `T`
            calls, on all symbols so far, and so does this check.
        inputs: input dimension `d`.
        V: number of symbols.
        T: length of the sequences.

    Raises:
        InputError: on a few sequences, logits of some position change with the symbols that follow,
            with the sequences beside them, or from call to call.
        NonFiniteError: logits that are no law, such as NaN.
    """
    check_instance("module", module, torch.nn.Module, "a torch.nn.Module")
    check_count("inputs", inputs)
    check_count("V", V, 2)
    check_count("T", T)
    found = CausalPolicy(module, V, T)
    params = {name: p.detach() for name, p in module.named_parameters()}
    like = next(iter(params.values()), torch.zeros((), device=torch.get_default_device()))
    words = _different_words(V, T - 1).to(like.device).unsqueeze(1)
    x = like.new_ones(1, inputs)
    with torch.no_grad():
        logits = found.logits(params, x, words)
        check_precision("the module's logits", logits.dtype)
        check_logits(logits, "the module's logits")
        beside = found.logits(params, torch.cat([x, 2 * x]), words.expand(-1, 2, -1))[:, :1]
        if not same(logits, beside):
            raise InputError(
                f"the module's logits differ by {(logits - beside).abs().max().item():.3g} with "
                f"the sequences beside them, or from call to call: call module.eval() if it has "
                f"batch normalisation or dropout"
            )
        for t in range(T):
            seen, alone = logits[..., : t + 1, :], found.logits(params, x, words[..., :t])
            if not same(seen, alone):
                raise InputError(
                    f"the module's logits of the first {t + 1} symbols differ by "
                    f"{(seen - alone).abs().max().item():.3g} without the symbols that come after: "
                    f"mask what follows"
                )
    return found


def _different_words(V: int, T: int) -> Int[Tensor, "S T"]:
    """Return a few sequences without a pattern, of which no two agree at all positions."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(V, (T,), generator=generator, device="cpu")
    return (first + torch.arange(min(V, WORDS), device="cpu")[:, None]) % V
