"""The implicit solver of the paper's figure 3 as published, faults included, in plain torch.

Written from its settings, batched over runs. Losses are averaged over the n outcomes, as theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.data import Dataset
from solvers.families.law import Params
from solvers.families.networks import MLP, init_members
from solvers.training.streams import MemberNoise

NETWORK = MLP((64, 64))
CLIP, OUTER_CLIP = 1.0, 10.0  # of every entry of the policy's gradient, and of the reward's
ADAM_EPSILON = 1e-8
# Gradient evaluations of an epoch beside the inner steps: the likelihood's gradient; the
# surrogate's, and two products with its Hessian, for one CG iteration on the normal equations; its
# gradient on fresh samples, and one product with the mixed derivative.
EXTRA = 6


@dataclass(frozen=True)
class Solver:
    """The settings that the algorithm has.

    Attributes:
        lam: entropy weight.
        inner_steps: Adam steps on a new policy.
        generations: samples per data point.
        learning_rate: of both levels.
        shared: whether one number is both entries of `U`.
    """

    lam: float
    inner_steps: int
    generations: int
    learning_rate: float
    shared: bool

    @property
    def price(self) -> int:
        """Gradient evaluations per epoch; Hessian-vector products count as one each."""
        return self.inner_steps + EXTRA


@dataclass(frozen=True)
class Epoch:
    """One outer epoch; the leading dimension is the run.

    Attributes:
        U: the diagonal of the reward's weight before the step.
        train: NLL per dimension of the policy trained on it.
        validation: the same on fresh inputs.
        reward_first: mean reward of the generations of the first inner step.
        reward: of those of the last one.
        hypergradient: of the likelihood, as computed: clamped, not yet negated.
        mean: of the policy at the training inputs.
    """

    U: Float[Tensor, "b n"]
    train: Float[Tensor, "b"]
    validation: Float[Tensor, "b"]
    reward_first: Float[Tensor, "b"]
    reward: Float[Tensor, "b"]
    hypergradient: Float[Tensor, "b n"]
    mean: Float[Tensor, "b N n"]


def epochs(
    solver: Solver,
    U: Float[Tensor, "b n"],
    train: Dataset,
    validation: Dataset,
    *,
    noise: MemberNoise,
    policies: Callable[[int], Sequence[torch.Generator]],
) -> Iterator[Epoch]:
    """Yield epochs without end.

    Args:
        solver: settings.
        U: diagonals at the start.
        train: for both levels, without batch dimensions.
        validation: to be measured only.
        noise: of the generations.
        policies: the generators of an epoch's policies, one for each run.
    """
    for epoch in count():
        params = _policy(policies(epoch), U.dtype)
        first, last = _train(solver, params, U, train, noise)
        slope = _hypergradient(solver, params, U, train, noise)
        with torch.no_grad():
            mean, _ = _outputs(params, train.x)
            losses = _nll(params, train), _nll(params, validation)
        # `slope` is of the NLL through the root of the surrogate; that of the likelihood is -slope
        yield Epoch(U, losses[0], losses[1], first, last, -slope, mean)
        # One Adam step with fresh moments on the negated gradient: its size drops out.
        U = U + solver.learning_rate * slope / (slope.abs() + ADAM_EPSILON)


def _policy(generators: Sequence[torch.Generator], dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw networks from 2 inputs to 2 means and 2 log standard deviations."""
    params = init_members(
        lambda generator: NETWORK.init(generator, 2, 4), generators, (len(generators),), dtype
    )
    for layer, width in enumerate(NETWORK.hidden):
        params[f"gain{layer}"] = torch.ones(len(generators), width, dtype=dtype)
        params[f"shift{layer}"] = torch.zeros(len(generators), width, dtype=dtype)
    return {name: leaf.detach().requires_grad_() for name, leaf in params.items()}


def _outputs(params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log standard deviation, `(b, N, n)` each."""
    h = x
    for layer in range(len(NETWORK.hidden)):
        h = h @ params[f"weight{layer}"] + params[f"bias{layer}"].unsqueeze(-2)
        h = torch.nn.functional.layer_norm(h, h.shape[-1:])
        gain, shift = (params[f"{name}{layer}"].unsqueeze(-2) for name in ("gain", "shift"))
        h = torch.relu(h * gain + shift)
    last = len(NETWORK.hidden)
    mean, log_s = (h @ params[f"weight{last}"] + params[f"bias{last}"].unsqueeze(-2)).chunk(2, -1)
    return mean, log_s


def _log_prob(mean: Tensor, log_s: Tensor, y: Tensor) -> Tensor:
    """Return log densities, averaged over the outcomes."""
    z = (y - mean) * (-log_s).exp()
    return (-0.5 * z.square() - log_s - 0.5 * math.log(2 * math.pi)).mean(-1)


def _nll(params: Params, data: Dataset) -> Float[Tensor, "b"]:
    """Return the NLL per dimension of every run."""
    mean, log_s = (output.unsqueeze(-2) for output in _outputs(params, data.x))
    return -_log_prob(mean, log_s, data.y).mean((-2, -1))


def _surrogate(
    solver: Solver, params: Params, U: Tensor, data: Dataset, noise: MemberNoise
) -> tuple[Tensor, Tensor]:
    """Return `-E[r log p] - λH` on fresh samples, which are held, and the mean reward, `(b,)` each.

    The samples are constants: the gradient is that of the policy, the second derivative is not.
    """
    mean, log_s = (output[:, None, :, None] for output in _outputs(params, data.x))
    N, S, n = data.y.shape
    drawn = noise.normal((solver.generations, N, S, n), U.dtype)
    generations = (mean + log_s.exp() * drawn).detach()
    rewards = -((generations - data.y).square() * U[:, None, None, None]).sum(-1)
    weighted = -(rewards * _log_prob(mean, log_s, generations)).mean((1, 2, 3))
    entropy = (log_s + 0.5 * math.log(2 * math.pi) + 0.5).mean((1, 2, 3, 4))
    return weighted - solver.lam * entropy, rewards.mean((1, 2, 3))


def _train(
    solver: Solver, params: dict[str, Tensor], U: Tensor, data: Dataset, noise: MemberNoise
) -> tuple[Tensor, Tensor]:
    """Take the inner steps in place; return the mean reward at the first and the last."""
    leaves = list(params.values())
    adam = torch.optim.Adam(leaves, lr=solver.learning_rate)
    seen: list[Tensor] = []
    for _ in range(solver.inner_steps):
        loss, reward = _surrogate(solver, params, U, data, noise)
        seen.append(reward)
        slopes = torch.autograd.grad(loss.sum(), leaves)
        for leaf, slope in zip(leaves, slopes, strict=True):
            leaf.grad = slope.clamp(-CLIP, CLIP)
        adam.step()
    return seen[0], seen[-1]


def _hypergradient(
    solver: Solver, params: dict[str, Tensor], U: Tensor, data: Dataset, noise: MemberNoise
) -> Float[Tensor, "b n"]:
    """Return `-∂²_{Uθ}L (∂²_{θθ}L)⁻¹ ∂_θ NLL`, L the surrogate, by one CG iteration, clamped.

    Of the normal equations, from 0: `x = α Ab`, `α = ‖Ab‖²/‖AAb‖²`, for the symmetric `A x = b`.
    """
    leaves = list(params.values())

    def by_run(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([t.flatten(1) for t in tensors], 1)

    def apart(vector: Tensor) -> list[Tensor]:
        pieces = vector.split([leaf[0].numel() for leaf in leaves], 1)
        return [piece.view_as(leaf) for piece, leaf in zip(pieces, leaves, strict=True)]

    pull = by_run(torch.autograd.grad(_nll(params, data).sum(), leaves))
    loss, _ = _surrogate(solver, params, U, data, noise)
    slope = torch.autograd.grad(loss.sum(), leaves, create_graph=True)

    def product(v: Tensor) -> Tensor:
        return by_run(torch.autograd.grad(slope, leaves, apart(v), retain_graph=True))

    first = product(pull)
    second = product(first)
    solution = first * (first.square().sum(1) / second.square().sum(1)).unsqueeze(1)
    weight = U.detach().requires_grad_()
    loss, _ = _surrogate(solver, params, weight, data, noise)
    slope = torch.autograd.grad(loss.sum(), leaves, create_graph=True)
    (mixed,) = torch.autograd.grad(slope, weight, apart(solution))
    if solver.shared:
        mixed = mixed.sum(-1, keepdim=True).expand_as(mixed)
    return (-mixed).clamp(-OUTER_CLIP, OUTER_CLIP)
