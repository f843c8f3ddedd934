"""Digits: trained on 0 to 4, then on 5 to 9 alone. What is left of the first task?

A network with ten outputs is trained by likelihood on the old digits: the base p₀, one for each
split of the rows. From there it is trained on the new digits alone, by arms that share split and
base:

- "NLL": by likelihood;
- "PG": by policy gradient with entropy, exact, on a reward `r(ŷ | x)` learned from the new digits:
  that whose inner solution p* is likeliest. This minimises `λ KL(p ‖ p*)`;
- "NLL(p*)": by likelihood of p* in place of the labels, `KL(p* ‖ p)`: the same aim as PG, by the
  other direction of KL;
- "PG+KL": PG with `w KL(p ‖ p₀)` in place of the entropy;
- "NLL+KL": NLL with `w KL(p ‖ p₀)` added, the same regulariser on the same inputs.

What is recorded along training is measured on rows of either task that no training has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

import solvers as so
from solvers.errors import InputError
from solvers.families.law import Params
from solvers.tasks import classification
from solvers.training import inner
from solvers.training.ensemble import train
from solvers.training.objectives import Objective

from . import Progress
from .parallel import run_arms

F64 = torch.float64
C = 10
OLD, NEW = range(5), range(5, 10)
PLAIN = ("NLL", "PG", "NLL(p*)")
BESIDE = ("NLL+KL", "PG+KL")
GREY = 16  # the largest value of a pixel
CHUNK = 5  # splits trained side by side
MEASURES = ("old_loss", "old_error", "forward_new", "reverse_new", "forward_old", "reverse_old")
"""Of what is forgotten: loss and error on old digits; KL(p₀ ‖ p) and KL(p ‖ p₀) on new inputs,
where training takes place, and on old ones."""


@dataclass(frozen=True)
class Settings:
    """Settings of the digits.

    Attributes:
        splits: of the rows of every digit into halves, one for training and one to measure on.
        hidden: width of the network.
        lam: entropy weight; rewards are learned for it.
        decay: of the learned rewards, without which they have no maximum.
        weights: `w` of the KL to the base.
        base_epochs: steps of Adam on the old digits.
        base_rate: its learning rate there.
        epochs: steps of Adam on the new digits.
        learning_rate: its learning rate there.
        every: steps between two records.
    """

    splits: int = 20
    hidden: int = 32
    lam: float = 1.0
    decay: float = 1e-3
    weights: tuple[float, ...] = (0.03, 0.1, 0.3)
    base_epochs: int = 200
    base_rate: float = 0.01
    epochs: int = 300
    learning_rate: float = 0.005
    every: int = 3

    def __post_init__(self) -> None:
        if self.splits < 2:
            raise InputError(f"splits is {self.splits}: pass 2 or more, of which differences vary")
        if not all(w > 0 for w in self.weights):
            raise InputError(f"weights are {self.weights}: pass numbers > 0")

    @property
    def policy(self) -> so.CategoricalPolicy:
        """The network."""
        return so.CategoricalPolicy(64, C, so.MLP((self.hidden,)))


@dataclass(frozen=True)
class WithReference:
    """`loss + w KL(p ‖ p₀)`: any objective beside a base.

    Attributes:
        objective: the loss.
        weight: `w`, of shape `(*b,)`.
        reference: `p₀`.
    """

    objective: Objective
    weight: Float[Tensor, "*b"]
    reference: so.Reference

    def __call__(
        self, law: so.Categorical, data: so.LabelledData, noise: Any = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        divergence = law.kl(self.reference(data.x)).mean(-1)
        return self.objective(law, data, noise) + self.weight * divergence


@dataclass(frozen=True)
class Rows:
    """Both tasks of some splits, rows of training and rows to measure on, `(splits, N, 64)`."""

    old: so.LabelledData
    old_test: so.LabelledData
    new: so.LabelledData
    new_test: so.LabelledData


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train every arm on every split.

    Returns:
        A row per `split`, `arm`, `w` (0 where there is no KL to the base) and recorded `step`: of
        the new task `new_loss` and `new_error`, and what is forgotten, `MEASURES`. `converged` says
        of arms with a reward whether the search for it did.
    """
    splits = range(settings.splits)
    return run_arms(_train, settings, seed, ("digits",), splits, CHUNK, progress)


def rows(splits: Sequence[int], seed: int) -> Rows:
    """Return the rows of some splits: of every digit one half to train on, the other to measure."""
    task = classification.load("digits")
    x, labels = torch.tensor(task.table.to_numpy(float) / GREY), torch.tensor(task.labels)
    halves: list[list[Tensor]] = []
    for split in splits:
        generator = so.generator(seed, "data", "forgetting", split)
        parts: dict[int, tuple[Tensor, Tensor]] = {}
        for digit in range(C):
            own = torch.nonzero(labels == digit)[:, 0]
            own = own[torch.randperm(len(own), generator=generator)]
            parts[digit] = (own[: len(own) // 2], own[len(own) // 2 :])
        halves.append(
            [torch.cat([parts[d][half] for d in task]) for task in (OLD, NEW) for half in (0, 1)]
        )
    index = [torch.stack(part) for part in zip(*halves, strict=True)]
    return Rows(*(so.LabelledData.of(x[i], labels[i], C) for i in index))


def learned(settings: Settings, new: so.LabelledData) -> tuple[so.ClassReward, list[bool]]:
    """Return the reward of every split whose inner solution is likeliest, and if it was found.

    The model is affine in the pixels: with a decay there is one maximum.
    """
    model, start = so.FreeReward(64, C), so.CategoricalPolicy(64, C).zeros()
    tables, converged = list[Tensor](), list[bool]()
    for x, pi in zip(new.x, new.pi, strict=True):
        data = so.LabelledData(x, pi)

        def loss(phi: Params, data: so.LabelledData = data) -> Tensor:
            best = so.gibbs(model(phi, data.x), settings.lam, data.pi)
            return so.NLL()(best, data) + inner.decay(phi, settings.decay)

        found = inner.minimum(start, loss)
        tables.append(model(found.value, x).table)
        converged.append(found.converged)
    return so.ClassReward(torch.stack(tables)), converged


def _train(settings: Settings, seed: int, arm: str, splits: Sequence[int]) -> pd.DataFrame:
    """Train all arms on some splits; splits are members of one batch, and so are weights."""
    policy, data, S = settings.policy, rows(splits, seed), len(splits)
    starts = [so.generator(seed, "init", "forgetting", split) for split in splits]
    base = train(
        policy,
        policy.init(starts, (S,), dtype=F64),
        so.NLL(),
        data.old,
        epochs=settings.base_epochs,
        learning_rate=settings.base_rate,
        batch_ndim=1,
    )
    reward, converged = learned(settings, data.new)
    aim = replace(data.new, pi=so.gibbs(reward, settings.lam, data.new.pi).p)
    w = torch.tensor(settings.weights, dtype=F64)[:, None]
    reference = so.Reference(policy, base)
    objectives: dict[str, Objective] = {
        "NLL": so.NLL(),
        "PG": so.PolicyGradient(reward, settings.lam),
        "NLL(p*)": so.NLL(),
        "NLL+KL": WithReference(so.NLL(), w, reference),
        "PG+KL": so.PolicyGradient(reward, w, reference=reference),
    }
    tables: list[pd.DataFrame] = []
    for name, objective in objectives.items():
        weights = settings.weights if name in BESIDE else (0.0,)
        record = _Recorder(settings, data, base, splits, weights)
        theta = {k: p.expand(len(weights), *p.shape).clone() for k, p in base.items()}
        record(0, theta)
        train(
            policy,
            theta,
            objective,
            aim if name == "NLL(p*)" else data.new,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            batch_ndim=2,
            observe=record,
        )
        found = pd.concat(record.tables).assign(arm=name)
        found["converged"] = None
        if name in ("PG", "PG+KL", "NLL(p*)"):
            found["converged"] = found.split.map(dict(zip(splits, converged, strict=True)))
        tables.append(found)
    return pd.concat(tables, ignore_index=True).astype({"converged": "boolean"})


class _Recorder:
    """Keeps, of a training, what is measured on the rows that no training sees."""

    def __init__(
        self,
        settings: Settings,
        data: Rows,
        base: Params,
        splits: Sequence[int],
        weights: Sequence[float],
    ) -> None:
        self.settings, self.data = settings, data
        self.tables: list[pd.DataFrame] = []
        self._index = pd.MultiIndex.from_product([weights, splits], names=["w", "split"])
        with torch.no_grad():
            self._base = {
                part: settings.policy(base, test.x)
                for part, test in (("old", data.old_test), ("new", data.new_test))
            }

    def __call__(self, step: int, theta: Params) -> None:
        """Record if it is time to."""
        if step % self.settings.every and step != self.settings.epochs:
            return
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for part, test in (("old", self.data.old_test), ("new", self.data.new_test)):
                law, base = self.settings.policy(theta, test.x), self._base[part]
                found[f"{part}_loss"] = so.NLL()(law, test)
                found[f"{part}_error"] = 1 - so.accuracy(law, test)
                found[f"forward_{part}"] = base.kl(law).mean(-1)
                found[f"reverse_{part}"] = law.kl(base).mean(-1)
        columns = {name: value.flatten().numpy() for name, value in found.items()}
        self.tables.append(pd.DataFrame(columns, self._index).reset_index().assign(step=step))
