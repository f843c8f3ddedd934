"""A bilevel problem with a network of the user's own: seconds, and the ratio to plain PyTorch.

The network's mean and one scale are trained on a scalar reward weight, which the outer level
chooses by 15 steps of Adam. Plain PyTorch differentiates each of them through 100 steps of Adam,
from where the last ones ended, as a user without an implicit solver would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from benchmarks.measure import Record
from solvers import bilevel
from solvers.bilevel import Bilevel
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.training import inner

LAM, DECAY, NOISE = 0.5, 1e-3, 0.3
OUTER_STEPS, RATE = 15, 0.2
UNROLLED, INNER_RATE = 100, 0.01
GRID = torch.linspace(0.8, 1.4, 13, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A network and its data.

    Attributes:
        hidden: widths of its layers.
        rows: of the data.
        target: seconds at most.
    """

    hidden: tuple[int, ...]
    rows: int
    target: float


CASES = {82: Case((16,), 500, 10.0), 10_000: Case((98, 98), 2000, 60.0)}


def problem(case: Case) -> tuple[Bilevel, dict[str, Tensor]]:
    """Return the problem, and where the policy starts."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(case.rows, 1, generator=generator, dtype=torch.float64)
    y = x.sum(1, keepdim=True) + NOISE * noise
    network = MLP(case.hidden, "tanh")

    def J(theta: Params, phi: Tensor) -> Tensor:
        error = (network(theta, "", x) - y).square() + (2 * theta["log_s"]).exp()
        decay = DECAY * torch.stack([p.square().sum() for p in theta.values()]).sum()
        return LAM * theta["log_s"] - phi.exp() * error.mean() - decay

    def F(theta: Params, phi: Tensor) -> Tensor:
        law = torch.distributions.Normal(network(theta, "", x), theta["log_s"].exp())
        return law.log_prob(y).mean()

    start = network.init(generator, 3, 1) | {"log_s": torch.zeros((), dtype=torch.float64)}
    return Bilevel(J, F), start


def ours(case: Case) -> bilevel.Result:
    """Return what `bilevel.solve` finds by default."""
    levels, start = problem(case)
    zero = torch.zeros((), dtype=torch.float64)
    return bilevel.solve(levels, start, zero, optimiser=_adam, steps=OUTER_STEPS)


def plain(case: Case, outer_steps: int) -> Tensor:
    """Return `φ` by differentiation through Adam, written out in PyTorch."""
    levels, start = problem(case)
    theta = {name: p.clone().requires_grad_() for name, p in start.items()}
    phi = torch.zeros((), dtype=torch.float64, requires_grad=True)
    outer = _adam([phi])
    for _ in range(outer_steps):
        theta = {name: p.detach().requires_grad_() for name, p in theta.items()}
        first = {name: torch.zeros_like(p) for name, p in theta.items()}
        second = dict(first)
        for step in range(1, UNROLLED + 1):
            slopes = torch.autograd.grad(
                levels.J(theta, phi), list(theta.values()), create_graph=True
            )
            for (name, p), slope in zip(list(theta.items()), slopes, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * slope
                second[name] = 0.999 * second[name] + 0.001 * slope.square()
                root = (second[name] / (1 - 0.999**step) + 1e-16).sqrt()
                theta[name] = p + INNER_RATE * first[name] / (1 - 0.9**step) / root
        (phi.grad,) = torch.autograd.grad(-levels.F(theta, phi), [phi])
        outer.step()
    return phi.detach()


def shortfall(case: Case, found: bilevel.Result) -> float:
    """Return how far `F` of the best point met is below the best of a grid, trained to the end."""
    levels, _ = problem(case)
    theta, best = found.theta, -float("inf")
    for phi in GRID:
        theta = inner.minimum(theta, lambda t, at=phi: -levels.J(t, at), tolerance=1e-6).value
        best = max(best, float(levels.F(theta, phi)))
    return best - max(row.F for row in found.history)


def network_seconds(size: int) -> Record:
    """Seconds of the bilevel solver, with its defaults, and those of plain PyTorch."""
    found, spent = _timed(size)
    case = CASES[size]
    steps = OUTER_STEPS if size < 1000 else 1  # of the plain loop; each costs the same
    begun = time.perf_counter()
    plain(case, steps)
    peer = (time.perf_counter() - begun) * OUTER_STEPS / steps
    evaluations = sum(row.inner_evaluations for row in found.history)
    note = (
        f"{size} parameters, {case.rows} rows, {OUTER_STEPS} outer steps, {evaluations} inner "
        f"evaluations; plain PyTorch: {UNROLLED} steps of Adam, {steps} outer steps timed"
    )
    return Record(spent, "s", case.target, peer, peer / spent, note)


def network_shortfall(size: int) -> Record:
    """Nats by which `F` misses the best over a grid of rewards, each trained to the end."""
    found, _ = _timed(size)
    return Record(shortfall(CASES[size], found), "nats", 1e-3, note=f"{len(GRID)} rewards")


@cache
def _timed(size: int) -> tuple[bilevel.Result, float]:
    begun = time.perf_counter()
    found = ours(CASES[size])
    return found, time.perf_counter() - begun


def _adam(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(tensors, lr=RATE)


ALL: dict[str, Callable[[], Record]] = {
    **{f"bilevel_network_{n}_seconds": partial(network_seconds, n) for n in CASES},
    **{f"bilevel_network_{n}_shortfall": partial(network_shortfall, n) for n in CASES},
}
