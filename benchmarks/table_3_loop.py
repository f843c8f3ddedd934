"""Table 3 as published, ten seeds of every method: batched, and one member at a time.

A member is one method with one seed. The plain loop trains it alone, with the published settings:
same rows, network, losses, optimiser, clipping and number of updates; the scalar of PG(implicit) is
given to it, and not to us. Squared error and likelihood draw nothing, and start from one policy in
every seed: they are one member each, here as there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from benchmarks import plain_loop
from benchmarks.measure import Record
from paper_checks.experiments import table_3
from paper_checks.experiments.arms import (
    MSE,
    NLL,
    PG_IDENTITY,
    PG_IMPLICIT,
    PG_MARGINAL_FULL,
    PG_MARGINAL_SCALAR,
    labels,
)
from paper_checks.experiments.table_3_data import problem
from solvers.data import Dataset
from solvers.rewards.mahalanobis import optimal_reward
from solvers.tasks import collect

SEEDS = 10
SETTINGS = replace(table_3.AS_PUBLISHED, repetitions=SEEDS, collected=None)
(ENVIRONMENT,) = SETTINGS.environments
DRAWING = labels((PG_IDENTITY, PG_IMPLICIT, PG_MARGINAL_SCALAR, PG_MARGINAL_FULL))
MEMBERS = 2 + SEEDS * len(DRAWING)
SAMPLE = (*labels((MSE, NLL)), *DRAWING)
Loss = Callable[[Normal, Tensor], Tensor]


def squared_error(law: Normal, y: Tensor) -> Tensor:
    """Return the mean over rows of `‖m - y‖²`."""
    return (law.mean - y).square().sum(-1).mean()


def negative_likelihood(law: Normal, y: Tensor) -> Tensor:
    """Return the mean over rows of `-log p(y)`."""
    return -law.log_prob(y).sum(-1).mean()


def policy_gradient(law: Normal, y: Tensor, U: Tensor) -> Tensor:
    """Return the loss whose slope is the score-function estimate, without a baseline."""
    generations = law.sample((SETTINGS.generations,))
    error = generations - y
    rewards = -((error @ U) * error).sum(-1)
    score = (rewards * law.log_prob(generations).sum(-1)).mean()
    return -(score + SETTINGS.lam * law.entropy().sum(-1).mean())


def train(loss: Loss, x: Tensor, y: Tensor, loader: plain_loop.Loader, updates: int) -> nn.Module:
    """Train one member on all rows at every update."""
    model, batches = plain_loop.network(x.shape[-1], y.shape[-1]), loader(x, y)
    optimiser = torch.optim.Adam(model.parameters(), lr=SETTINGS.learning_rate)
    for _ in range(updates):
        for inputs, outcomes in batches:
            optimiser.zero_grad()
            loss(plain_loop.law_at(model, inputs), outcomes).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
    return model


def losses(data: Dataset, u: float) -> dict[str, Loss]:
    """Return the loss of every method on training rows `(1, N, ...)`; `u` of PG(implicit)."""
    y = data.mean[0]
    marginal, eye = torch.cov(y.double().T, correction=0), torch.eye(y.shape[-1])
    weights = {
        PG_IDENTITY.label: eye,
        PG_IMPLICIT.label: u * eye,
        PG_MARGINAL_SCALAR.label: optimal_reward(marginal, SETTINGS.lam, "isotropic").U.float(),
        PG_MARGINAL_FULL.label: optimal_reward(marginal, SETTINGS.lam, "full").U.float(),
    }
    drawing = {arm: partial(policy_gradient, U=weights[arm]) for arm in DRAWING}
    return {MSE.label: squared_error, NLL.label: negative_likelihood, **drawing}


def training_rows() -> Dataset:
    """Return the training rows of the published split, in the units of training."""
    found = problem(
        table_3.transitions(SETTINGS, ENVIRONMENT, 0),
        SETTINGS.splits,
        rows=SETTINGS.rows,
        by="transition",
        standardised=False,
        horizon=max(table_3.HORIZONS),
        stretches=SETTINGS.stretches,
        seed=0,
    )
    return found.train


@contextmanager
def collected() -> Generator[None]:
    """Inside, the dataset is there: collecting it is no part of what is timed."""
    name, before = "MINARI_DATASETS_PATH", os.environ.get("MINARI_DATASETS_PATH")
    count = table_3.AS_PUBLISHED.collected
    assert count is not None
    with tempfile.TemporaryDirectory() as folder:
        collect.collect(ENVIRONMENT, SETTINGS.quality, transitions=count, seed=0, root=Path(folder))
        os.environ[name] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


@cache
def _measured() -> tuple[float, Dataset, float]:
    """Return our seconds, the training rows, and the scalar of PG(implicit)."""
    with collected():
        rows = training_rows()
        table_3.run(replace(SETTINGS, updates=1, outer_steps=1), seed=0)  # what torch loads
        start = time.perf_counter()
        table: pd.DataFrame = table_3.run(SETTINGS, seed=0)
        spent = time.perf_counter() - start
    return spent, rows, float(table.u.max())


def versus(loader: plain_loop.Loader) -> Record:
    """Return how many times longer the members take one at a time, from one of each method."""
    ours, rows, u = _measured()
    found, peer = losses(rows, u), 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for arm in SAMPLE:
            start = time.perf_counter()
            train(found[arm], rows.x[0], rows.mean[0], loader, SETTINGS.updates)
            spent = time.perf_counter() - start
            peer += spent * (SEEDS if arm in DRAWING else 1)
    note = (
        f"{MEMBERS} members on {ENVIRONMENT}; of the loop one of each method, those of policy "
        f"gradients times {SEEDS}; ours with the search for the implicit scalar and all metrics"
    )
    return Record(peer / ours, "x", 10, peer, peer / ours, note)


ALL: dict[str, Callable[[], Record]] = {
    "train_table_3_vs_dataloader_loop": partial(versus, plain_loop.dataloader),
    "train_table_3_vs_tensor_loop": partial(versus, plain_loop.tensors),
}
