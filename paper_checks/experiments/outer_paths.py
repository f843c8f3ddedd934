"""The way of the learned reward over the cone of SPD matrices, by each algorithm.

A policy with a linear mean and one full covariance, data whose mean depends on the input. The
implicit algorithm (with two outer optimisers) and the single-loop one start from several rewards;
the plug-in algorithm estimates a covariance and needs no outer steps. The target is the residual
covariance of the data: the reward there gives maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor

from analysis import dynamics, gaussian
from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.bilevel.single_loop import single_loop
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.law import Params
from solvers.numerics.trees import Leaves
from solvers.rewards.learnable import ConstantReward, Phi
from solvers.training import streams
from solvers.training.objectives import NLL

from . import Progress
from .affine import affine, coefficients
from .convergence import solved
from .parallel import run_arms

F64, N = torch.float64, 2
INPUTS = 2
POLICY, REWARD = GaussianPolicy(INPUTS, N, "full"), ConstantReward(N)
SLOPES = ((1.2, 0.6), (-0.4, 0.5))  # of the mean: it spreads as much as the noise
NOISE = ((1.0, 0.0), (0.6, 0.5))  # Cholesky factor of the law's covariance
# J may cross 0 on the way; where its terms cancel it does not resolve smaller distances.
INNER = bilevel.Exact(tolerance=3e-8)

Arm = Literal["implicit, Adam", "implicit, L-BFGS", "single loop"]
Estimate = Literal["marginal", "residual"]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        starts: covariances `P₀ = (λ/2)U₀⁻¹` of the first reward, as `P_11, P_12, P_22`.
        rows: inputs, one outcome each.
        lam: entropy weight.
        steps: outer steps of Adam.
        learning_rate: Adam's.
        quasi_newton: outer steps of L-BFGS, of at most two iterations each.
        tolerance: on the hypergradient, relative to the largest met, where L-BFGS stops; Adam takes
            all its steps.
        loops: steps of the single loop, on batches.
        batch_size: rows of a batch.
        rate: of its inner problem and linear system, at the start.
        outer_rate: of its outer problem, at the start; both decay as `1/√(1 + k/decay)`.
        decay: steps.
        every: steps of the single loop between records.
        times: of the continuous flow `U̇ = U (∇F) U`, at which its path is recorded.
    """

    starts: tuple[tuple[float, float, float], ...] = (
        (0.25, 0.0, 0.25),
        (3.0, -1.2, 1.2),
        (0.4, 0.3, 2.5),
    )
    rows: int = 200
    lam: float = 0.5
    steps: int = 150
    learning_rate: float = 0.1
    quasi_newton: int = 20
    tolerance: float = 2e-7
    loops: int = 4000
    batch_size: int = 50
    rate: float = 0.15
    outer_rate: float = 0.03
    decay: int = 200
    every: int = 10
    times: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


QUICK = Settings(steps=100, learning_rate=0.15, loops=1000, rows=100, batch_size=25)


@dataclass(frozen=True)
class Task:
    """The data, and what is known about them.

    Attributes:
        data: the data.
        Sigma: residual covariance: the target.
        marginal: covariance of the outcomes.
        nll: of maximum likelihood.
    """

    data: Dataset
    Sigma: Tensor
    marginal: Tensor
    nll: float


def task(settings: Settings, seed: int) -> Task:
    """Draw `y = xB + noise`, and fit a line to it."""
    generator = streams.generator(seed, "data")
    x = torch.randn(settings.rows, INPUTS, generator=generator, dtype=F64)
    noise = torch.randn(settings.rows, N, generator=generator, dtype=F64)
    slopes, factor = (torch.tensor(matrix, dtype=F64) for matrix in (SLOPES, NOISE))
    data = Dataset.of(x, (x @ slopes + noise @ factor.T).unsqueeze(-2))
    mean = affine(x) @ coefficients(x, data.mean)
    Sigma = likelihood.second_moment(mean, data)
    best = Gaussian(mean, torch.linalg.cholesky(Sigma)[None])
    marginal = likelihood.second_moment(data.mean.mean(0).expand_as(mean), data)
    return Task(data, Sigma, marginal, float(NLL()(best, data)))


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Run every algorithm from every start, and return where the reward went.

    Args:
        settings: what to run.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per arm, start and recorded step: the entries `P_11`, `P_12`, `P_22` of
        `P = (λ/2)U⁻¹`; its `distance` from the residual covariance, the norm of
        `log Σ^{-½}PΣ^{-½}`; and the policy's `excess` NLL over maximum likelihood. The arm "flow"
        is the theory's path from each start, its steps are times; the arms "plug-in, marginal"
        and "plug-in, residual" have one row, and the `predicted` excess. The row "target" is the
        residual covariance. A run `converged` if L-BFGS reached its tolerance, and whatever it was
        with all inner problems solved; it is missing for the single loop, of so many steps.
    """
    known = task(settings, seed)
    rows = [
        row for estimate in get_args(Estimate) for row in _plug_in(settings, known, estimate, seed)
    ]
    rows += [{"arm": "target", **_place(known, known.Sigma), "excess": 0.0}]
    rows += _flow(settings, known)
    starts = range(len(settings.starts))
    paths = run_arms(_run_arm, settings, seed, get_args(Arm), starts, 1, progress)
    head = pd.DataFrame(rows).astype({"converged": "boolean"})
    return pd.concat([head, paths], ignore_index=True)


def _place(known: Task, P: Tensor) -> dict[str, object]:
    """Return the entries of `P`, and its affine-invariant distance from the target."""
    root = torch.linalg.cholesky(known.Sigma)
    half = torch.linalg.solve_triangular(root, P, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.mT, upper=False)
    distance = torch.linalg.eigvalsh(whitened).log().norm()
    entries = {"P_11": P[0, 0], "P_12": P[0, 1], "P_22": P[1, 1], "distance": distance}
    return {name: float(value) for name, value in entries.items()}


def _start(entries: tuple[float, float, float]) -> Tensor:
    first, mixed, second = entries
    return torch.tensor([[first, mixed], [mixed, second]], dtype=F64)


def _run_arm(settings: Settings, seed: int, arm: Arm, starts: Sequence[int]) -> pd.DataFrame:
    """Run one algorithm from some of the starts."""
    known = task(settings, seed)
    rows = [row for start in starts for row in _path(settings, known, arm, start, seed)]
    return pd.DataFrame(rows).astype({"converged": "boolean"})


def _path(
    settings: Settings, known: Task, arm: Arm, start: int, seed: int
) -> list[dict[str, object]]:
    """Run one algorithm from one start."""
    lam = torch.tensor(settings.lam, dtype=F64)
    problem = likelihood.problem(POLICY, REWARD, lam, known.data, batch_size=settings.batch_size)
    theta = POLICY.init([streams.generator(seed, "init")], dtype=F64)
    phi = REWARD.start(lam / 2 * torch.linalg.inv(_start(settings.starts[start])))
    like = Leaves.of("theta", theta)
    # all start from the same point: the inner solution of the first reward
    first = bilevel.solve_inner(problem, like, like.tensors, phi, bilevel.Exact())
    theta = like.tree(first.value)
    rows: list[dict[str, object]] = []

    def observe(step: int, theta: Params, phi: Phi) -> None:
        P = lam / 2 * torch.linalg.inv(REWARD(phi, known.data.x).U)
        excess = -float(problem.F(theta, phi)) - known.nll
        rows.append(
            {"arm": arm, "start": start, "step": step, **_place(known, P), "excess": excess}
        )

    if arm == "single loop":

        def decayed(rate: float, step: int) -> float:
            return rate / (1 + step / settings.decay) ** 0.5

        single_loop(
            problem,
            theta,
            phi,
            steps=settings.loops,
            inner_rate=partial(decayed, settings.rate),
            outer_rate=partial(decayed, settings.outer_rate),
            generator=streams.generator(seed, "batches", start),
            every=settings.every,
            observe=observe,
        )
        converged = None if first.converged else False
        return [row | {"converged": converged} for row in rows]

    def adam(tensors: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(tensors, lr=settings.learning_rate)

    quasi_newton = arm == "implicit, L-BFGS"
    found = bilevel.solve(
        problem,
        theta,
        phi,
        optimiser=bilevel.lbfgs if quasi_newton else adam,
        steps=settings.quasi_newton if quasi_newton else settings.steps,
        inner=INNER,
        tolerance=settings.tolerance if quasi_newton else 0.0,
        observe=observe,
    )
    converged = solved(found) and (found.converged or not quasi_newton)
    return [row | {"converged": converged} for row in rows]


def _plug_in(
    settings: Settings, known: Task, estimate: Estimate, seed: int
) -> list[dict[str, object]]:
    """Run the plug-in algorithm; what it must cost is derived."""
    lam = torch.tensor(settings.lam, dtype=F64)
    theta = POLICY.init([streams.generator(seed, "init")], dtype=F64)
    found = likelihood.plug_in(POLICY, theta, lam, known.data, estimate=estimate)
    law = POLICY(found.trained.value, known.data.x)
    estimated = known.marginal if estimate == "marginal" else known.Sigma
    predicted = gaussian.misspecification.cost_of_covariance(N).at(
        S=estimated.numpy(), Sigma=known.Sigma.numpy()
    )
    place = _place(known, lam / 2 * torch.linalg.inv(found.reward.U))
    excess = float(NLL()(law, known.data)) - known.nll
    outcome = {"excess": excess, "predicted": predicted, "converged": found.trained.converged}
    return [{"arm": f"plug-in, {estimate}", **place, **outcome}]


def _flow(settings: Settings, known: Task) -> list[dict[str, object]]:
    """Return the derived path of the continuous flow from every start."""
    path, rows = dynamics.outer_flow.covariance(N), list[dict[str, object]]()
    for start, entries in enumerate(settings.starts):
        P0 = _start(entries)
        for t in settings.times:
            P = P0 if t == 0 else path.at(P0=P0.numpy(), Sigma=known.Sigma.numpy(), t=t)
            place = _place(known, torch.as_tensor(P))
            rows.append({"arm": "flow", "start": start, "step": t, **place})
    return rows
