"""What rewards of sequences teach an autoregressive policy, beside what they can.

Two laws of sequences are known exactly: windows of characters of a text that Python ships, and a
Markov chain of order 1. For every order `k` a reward of windows of `k + 1` symbols is learned by
likelihood, through soft value iteration; a recurrent policy is then trained on it by policy
gradient, and loses what the theory says (`solvers.rewards.windows.cost`). And policies are trained
on rewards that compare with the data, exactly and by samples, towards the known inner solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.law import Params
from solvers.families.sequence_networks import RecurrentPolicy
from solvers.families.sequences import Following, entropy_of_rows, sequences
from solvers.rewards import windows
from solvers.tasks import text
from solvers.training import inner
from solvers.training.ensemble import train
from solvers.training.estimators import Analytic, ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from solvers.training.streams import MemberNoise, generator

from . import Progress

V = len(text.GROUPS) + 1
LAWS = ("text", "chain")
STAYS = 2  # how many times likelier the chain repeats a symbol than goes to another one
# Of the learned rewards, in nats: what the data never show would go to -inf. Chosen after a look at
# seed 0: with 1e-7, which learns better rewards, policies trained on them were 0.1 nats worse.
DECAY = 1e-5


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        T: length of the sequences; there are `3^T`.
        lam: entropy weight.
        width: of the recurrent policy's state.
        strength: the largest reward that compares with the data, in units of `lam`.
        steps: Adam updates on learned rewards.
        compared_steps: Adam updates on rewards that compare, and by likelihood.
        learning_rate: Adam's.
        generations: samples `M` of the score function.
        repetitions: runs of each, from starts of their own.
        every: steps between two records.
    """

    T: int = 5
    lam: float = 0.5
    width: int = 24
    strength: float = 4.0
    steps: int = 800
    compared_steps: int = 250
    learning_rate: float = 0.02
    generations: int = 64
    repetitions: int = 2
    every: int = 10

    def __post_init__(self) -> None:
        if self.T < 3:
            raise InputError(f"T is {self.T}: pass at least 3, so that there are orders 0, 1, 2")
        sequences(V, self.T)


QUICK = Settings(T=4, steps=200, compared_steps=100, repetitions=1, width=12)


def rewards(settings: Settings) -> dict[str, int]:
    """Return the rewards that compare with the data, and the order of their windows."""
    return {"Hamming": 0, "pairs": 1, "exact match": settings.T - 1}


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Learn rewards, train policies, and say what is lost.

    Args:
        settings: what to train.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        Rows of three parts. "orders": `kl`, nats per sequence that is lost of a `law`: by the best
        reward of order `k`, "predicted"; by the inner solution of the "learned" one; by a policy
        "trained" on it. "positions": `bits` of the character at each `position` of the text, by
        order. "training": of each `reward` the distance `kl` from the optimum by `step`, for kinds
        "exact" and "sampled"; of "NLL" that from the data.
    """
    tables: list[pd.DataFrame] = []
    parts = (orders, training)
    for done, part in enumerate(parts):
        tables.append(part(settings, seed))
        if progress is not None:
            progress(part.__name__, done + 1, len(parts))
    return pd.concat(tables, ignore_index=True)


def data(law: str, settings: Settings) -> Dataset:
    """Return the sequences of a law, as often as they occur."""
    if law == "text":
        return text.windows(text.zen(), settings.T)
    y = sequences(V, settings.T)
    stays = (y[:, 1:] == y[:, :-1]).sum(-1)
    return text.of_sequences(y.repeat_interleave(STAYS**stays, 0))


def learned(given: Dataset, k: int, settings: Settings) -> windows.WindowReward:
    """Return the reward of order `k` learned by likelihood, differentiated through its solution."""
    g = torch.zeros(settings.T - k, V ** (k + 1), dtype=torch.float64)

    def loss(phi: Params) -> Tensor:
        reward = windows.WindowReward(settings.lam * phi["g"], V)
        law = windows.inner_solution(reward, settings.lam)
        return NLL()(law, given) + inner.decay(phi, DECAY)

    found = inner.minimum({"g": g}, loss, tolerance=1e-6, max_iterations=300)
    return windows.WindowReward(settings.lam * found.value["g"], V)


def as_one(*chosen: windows.WindowReward) -> windows.WindowReward:
    """Return rewards of different orders as one batch of tables over whole sequences."""
    return windows.WindowReward(torch.stack([r.of_all() for r in chosen]).unsqueeze(-2), V)


def orders(settings: Settings, seed: int) -> pd.DataFrame:
    """Return what each order loses, predicted and trained, and the bits by position."""
    given = {law: data(law, settings) for law in LAWS}
    taught = {(law, k): learned(given[law], k, settings) for law in LAWS for k in range(settings.T)}
    policy = RecurrentPolicy(inputs=1, V=V, T=settings.T, width=settings.width)
    generators = [generator(seed, "init", "sequences", *key) for key in taught]
    theta = policy.init(generators, (len(taught),), dtype=torch.float64)
    objective = PolicyGradient(as_one(*taught.values()), settings.lam, Analytic())
    trained = train(
        policy,
        theta,
        objective,
        given["text"],  # learned rewards do not look at the data
        epochs=settings.steps,
        learning_rate=settings.learning_rate,
        batch_ndim=1,
    )
    rows: list[dict[str, Any]] = []
    for i, (law, k) in enumerate(taught):
        member = {name: p[i] for name, p in trained.items()}
        nll = -_by_position(policy(member, given[law].x).following, given[law])
        entropy = float(entropy_of_rows(given[law].y[0]))
        solved = NLL()(windows.inner_solution(taught[law, k], settings.lam), given[law])
        lost = {
            "predicted": float(windows.cost(given[law], V, k)),
            "learned": float(solved) - entropy,
            "trained": float(nll.sum()) - entropy,
        }
        rows += [
            {"part": "orders", "law": law, "k": k, "kind": kind, "kl": kl}
            for kind, kl in lost.items()
        ]
        if law == "text":
            bits = {"predicted": _conditional_entropies(given[law], k), "trained": nll}
            rows += [
                {
                    "part": "positions",
                    "law": law,
                    "k": k,
                    "kind": kind,
                    "position": t + 1,
                    "bits": b,
                }
                for kind, values in bits.items()
                for t, b in enumerate((values / math.log(2)).tolist())
            ]
    return pd.DataFrame(rows)


def _by_position(following: Following, given: Dataset) -> Float[Tensor, "T"]:
    """Return `E_y log p(y_t | y_{<t})` for every position."""
    y = given.y[0].long().unsqueeze(1)  # (S, 1, T)
    with torch.no_grad():
        logs = following(y[..., :-1]).log_softmax(-1)
    return logs.gather(-1, y.unsqueeze(-1))[..., 0].mean((0, 1))


def _conditional_entropies(given: Dataset, k: int) -> Float[Tensor, "T"]:
    """Return `H(y_t | k symbols before)` of every position: what a law of order `k` needs."""
    y, found = given.y[0], list[float]()
    for t in range(given.n):
        start = max(t - k, 0)
        found.append(float(entropy_of_rows(y[:, start : t + 1]) - entropy_of_rows(y[:, start:t])))
    return torch.tensor(found, dtype=torch.float64)


def training(settings: Settings, seed: int) -> pd.DataFrame:
    """Return how far policies are from the known optimum of their rewards, by step."""
    given = data("text", settings)
    chosen: list[windows.WindowReward] = []
    for k in rewards(settings).values():
        unit = windows.WindowMatch(1.0, V, k).against(given)
        u = settings.strength * settings.lam / float(unit.of_all().max())
        chosen.append(windows.WindowMatch(u, V, k).against(given))
    reward = as_one(*chosen)
    reward = windows.WindowReward(reward.table.unsqueeze(1), V)  # (rewards, repetitions, 1, V^T)
    best = windows.inner_solution(reward, settings.lam).log_p.detach()
    batch = (len(chosen), settings.repetitions)
    tables = [
        _curves(settings, seed, given, batch, kind, PolicyGradient(reward, settings.lam, e), best)
        for kind, e in (("exact", Analytic()), ("sampled", ScoreFunction(settings.generations)))
    ]
    alone = (1, settings.repetitions)
    tables.append(_curves(settings, seed, given, alone, "exact", NLL(), None))
    return pd.concat(tables, ignore_index=True)


def _curves(
    settings: Settings,
    seed: int,
    given: Dataset,
    batch: tuple[int, int],
    kind: str,
    objective: PolicyGradient | NLL,
    best: Tensor | None,
) -> pd.DataFrame:
    """Train a batch (rewards, repetitions); the start of a repetition is the same for all."""
    policy = RecurrentPolicy(inputs=1, V=V, T=settings.T, width=settings.width)
    names = ["NLL"] if best is None else list(rewards(settings))
    members = [(name, b) for name in names for b in range(batch[1])]
    starts = [generator(seed, "init", "sequences", "training", b) for _, b in members]
    noise = [generator(seed, "noise", "sequences", kind, name, b) for name, b in members]
    theta = policy.init(starts, batch, dtype=torch.float64)
    entropy, tables = float(entropy_of_rows(given.y[0])), list[pd.DataFrame]()

    def record(step: int, theta: Params) -> None:
        if step % settings.every and step != 1:
            return
        law = policy(theta, given.x)
        if best is None:
            kl = law.cross_entropy(given) - entropy
        else:
            kl = (law.log_p.exp() * (law.log_p - best)).sum(-1)
        index = pd.MultiIndex.from_product([names, range(batch[1])], names=["reward", "run"])
        values = pd.Series(np.ravel(kl[..., 0].detach().numpy()), index, name="kl")
        tables.append(values.reset_index().assign(step=step))

    with torch.no_grad():
        record(0, theta)
    train(
        policy,
        theta,
        objective,
        given,
        epochs=settings.compared_steps,
        learning_rate=settings.learning_rate,
        batch_ndim=2,
        noise=MemberNoise(noise, batch),
        observe=record,
    )
    return pd.concat(tables, ignore_index=True).assign(part="training", law="text", kind=kind)
