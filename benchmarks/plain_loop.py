"""The peer of batched training: figure 1 as one would first write it, one member at a time.

Same networks, losses, optimiser, clipping and per-epoch validation metrics as
`paper_checks.experiments.figure_1`, with none of its ideas: every one of the repeated rows goes
through the network, gradients of log-probabilities come from autograd, members wait in line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

from paper_checks.experiments import figure_1
from paper_checks.experiments.arms import MSE, NLL, PG_IDENTITY, PG_OPTIMAL, Arm
from solvers.data import Dataset
from solvers.tasks import linear
from solvers.tasks.linear import LinearTask
from solvers.training import streams

SETTINGS = figure_1.ONE_RUN

Batches = Iterable[list[Tensor]]
Loader = Callable[[Tensor, Tensor], Batches]


@dataclass(frozen=True)
class Member:
    """One training: the arm, and for policy gradients the reward weight `u` and `λ`."""

    arm: Arm
    u: float = 0.0
    lam: float = 0.0


def dataloader(x: Tensor, y: Tensor) -> Batches:
    """Serve all rows in one shuffled batch per epoch, collated row by row."""
    return DataLoader(TensorDataset(x, y), batch_size=len(x), shuffle=True)


def tensors(x: Tensor, y: Tensor) -> Batches:
    """Serve all rows in one batch per epoch, as they lie in memory."""
    return [[x, y]]


def rows(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return one row per outcome, inputs repeated."""
    return data.x[0].repeat_interleave(data.y.shape[-2], 0), data.y[0].flatten(0, 1)


def network(inputs: int, n: int) -> nn.Sequential:
    """Return the network inputs-64-64-(n means + n log standard deviations)."""
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * n)
    )


def law_at(model: nn.Module, x: Tensor) -> Normal:
    """Return the policy's law at every row."""
    mean, log_std = model(x).chunk(2, dim=-1)
    return Normal(mean, log_std.exp())


def loss(member: Member, law: Normal, y: Tensor) -> Tensor:
    """Return the loss of the member's arm, summed over outcomes and averaged over rows."""
    if member.arm == MSE:
        return (law.mean - y).square().sum(-1).mean()
    if member.arm == NLL:
        return -law.log_prob(y).sum(-1).mean()
    generations = law.sample((SETTINGS.generations,))
    rewards = -member.u * (generations - y).square().sum(-1)
    score = (rewards * law.log_prob(generations).sum(-1)).mean()
    return -(score + member.lam * law.entropy().sum(-1).mean())


@torch.no_grad()
def metrics(model: nn.Module, batches: Batches, task: LinearTask) -> dict[str, float]:
    """Return the validation metrics of `figure_1.METRICS`."""
    x, y = next(iter(batches))
    law, true = law_at(model, x), Normal(x + task.offset[0], task.sigma[0].expand(x.shape))
    nll = -law.log_prob(y).mean()
    return {
        "excess_nll": float(nll + true.log_prob(y).mean()),
        "nll": float(nll),
        "mean_error": float((law.mean - true.mean).square().mean().sqrt()),
        "covariance_error": float((law.stddev - true.stddev).norm(dim=-1).mean()),
    }


def train(
    member: Member, task: LinearTask, model: nn.Module, loader: Loader, epochs: int
) -> list[dict[str, float]]:
    """Train one member on a task of one experiment; return its metrics after every epoch."""
    training, validation = loader(*rows(task.train)), loader(*rows(task.validation))
    optimiser = torch.optim.Adam(model.parameters(), lr=SETTINGS.learning_rate)
    history: list[dict[str, float]] = []
    for _ in range(epochs):
        for x, y in training:
            optimiser.zero_grad()
            loss(member, law_at(model, x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.max_norm)
            optimiser.step()
        history.append(metrics(model, validation, task))
    return history


def train_sample(loader: Loader) -> int:
    """Train a twelfth of figure 1's members, every arm in proportion; return how many."""
    experiments = range(4)
    tasks = [linear.draw([streams.generator(0, "data", i)]) for i in experiments]
    members = [(Member(MSE), tasks[0]), (Member(NLL), tasks[0])]
    for i, task in zip(experiments, tasks, strict=True):
        lam = SETTINGS.lams[i]
        u_star = lam / (2 * float(task.sigma[0]) ** 2)
        members += [(Member(PG_IDENTITY, 1.0, lam), task), (Member(PG_OPTIMAL, u_star, lam), task)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for member, task in members:
            train(member, task, network(2, 2), loader, SETTINGS.epochs)
    return len(members)
