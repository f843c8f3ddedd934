"""Table 3's data: splits of transitions side by side, standardised, and stretches to roll out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import InputError
from solvers.tasks import dynamics
from solvers.training import streams


@dataclass(frozen=True)
class Units:
    """Standardisation of columns by those of the training rows; a constant column keeps its scale.

    Attributes:
        centre: `(splits, 1, k)`.
        scale: `(splits, 1, k)`.
    """

    centre: Float[Tensor, "splits 1 k"]
    scale: Float[Tensor, "splits 1 k"]

    @classmethod
    def of(cls, values: Float[Tensor, "splits N k"], *, identity: bool) -> Units:
        """Return the mean and deviation of the rows, or 0 and 1."""
        centre, scale = values.mean(-2, keepdim=True), values.std(-2, keepdim=True)
        if identity:
            return cls(torch.zeros_like(centre), torch.ones_like(scale))
        small = scale <= 1e-8 * (1 + centre.abs())
        return cls(centre, torch.where(small, torch.ones_like(scale), scale))

    def to(self, values: Tensor) -> Tensor:
        """Return `(values - centre) / scale`."""
        return (values - self.centre) / self.scale

    def back(self, values: Tensor) -> Tensor:
        """Return `centre + scale values`."""
        return self.centre + self.scale * values


@dataclass(frozen=True)
class Rollouts:
    """Stretches of test episodes: where they start, what was done, and where it led.

    Attributes:
        observation: the first and those that follow, `(splits, R, H + 1, n)`.
        action: `(splits, R, H, a)`.
    """

    observation: Float[Tensor, "splits R H1 n"]
    action: Float[Tensor, "splits R H a"]


@dataclass(frozen=True)
class Problem:
    """Splits of one task, as members of one batch.

    Attributes:
        train: training rows in the units of training, `(splits, N, ...)`.
        validation: validation rows.
        test: test rows.
        episode: of the training rows, `(splits, N)`.
        input_units: of observation and action together.
        target_units: of what is predicted.
        observation_units: of an observation, for rollout errors.
        differences: whether the change of the observation is predicted, or the next observation.
        rollouts: stretches of the test episodes; None where no stretch is that long.
        splits: their seeds.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    episode: Int[Tensor, "splits N"]
    input_units: Units
    target_units: Units
    observation_units: Units
    differences: bool
    rollouts: Rollouts | None
    splits: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where it is, and what is trained on it."""
        return self.train.x.device

    def to(self, device: torch.device) -> Problem:
        """Return the same on a device."""
        return _moved(self, device)

    @property
    def inputs(self) -> int:
        """Width of an input."""
        return self.train.x.shape[-1]

    @property
    def n(self) -> int:
        """Width of an observation."""
        return self.train.mean.shape[-1]

    def still(self, x: Float[Tensor, "splits N d"]) -> Float[Tensor, "splits N n"]:
        """Return the target, where the next observation is this one."""
        observation = self.input_units.back(x)[..., : self.n]
        return self.target_units.to(0 * observation if self.differences else observation)

    def step(
        self, target: Float[Tensor, "*m splits R n"], observation: Float[Tensor, "*m splits R n"]
    ) -> Float[Tensor, "*m splits R n"]:
        """Return the next observation that a prediction stands for."""
        predicted = self.target_units.back(target)
        return observation + predicted if self.differences else predicted

    def folds(self, K: int) -> Int[Tensor, "splits N"]:
        """Return the fold `0 .. K-1` of every training row; an episode is in one of them.

        Episodes go, the longest first, to the fold that has the fewest rows.

        Raises:
            InputError: fewer episodes than folds in some split.
        """
        every = self.episode.cpu()
        found = torch.empty_like(every)
        for place, own in enumerate(every):
            names, index, counts = own.unique(return_inverse=True, return_counts=True)
            if len(names) < K:
                raise InputError(
                    f"split {self.splits[place]} has {len(names)} training episodes: pass at most "
                    f"so many folds, or more rows"
                )
            rows, fold = [0] * K, torch.empty_like(counts)
            for episode in counts.argsort(descending=True, stable=True).tolist():
                least = rows.index(min(rows))
                fold[episode] = least
                rows[least] += int(counts[episode])
            found[place] = fold[index]
        return found.to(self.device)


def problem(
    transitions: dynamics.Transitions,
    splits: Sequence[int],
    *,
    rows: tuple[int, int, int],
    by: Literal["episode", "transition"],
    standardised: bool,
    horizon: int,
    stretches: int,
    seed: int,
) -> Problem:
    """Split, choose rows, and put them into the units of training, in float32.

    Args:
        transitions: of one task.
        splits: a seed each.
        rows: of the training, validation and test part, drawn at random.
        by: what is on one side of a split, whole.
        standardised: inputs, and as targets *differences*, in units of the training rows; else
            raw observations and actions, and raw next observations.
        horizon: steps of the stretches to roll out.
        stretches: how many of them.
        seed: of the choice of rows and stretches.

    Raises:
        InputError: a part has fewer rows than asked for.
    """
    chosen: list[list[dynamics.Transitions]] = []
    stretched: list[Rollouts | None] = []
    for split in splits:
        generator = streams.generator(seed, "rows", split)
        found = dynamics.split(transitions, seed=split, by=by)
        parts = (found.train, found.validation, found.test)
        chosen.append(
            [_some(part, k, generator, split) for part, k in zip(parts, rows, strict=True)]
        )
        stretched.append(_stretches(transitions, found.test, horizon, stretches, generator))
    inputs, targets = [], []
    for part in range(3):
        x = [torch.cat([c[part].observation, c[part].action], -1) for c in chosen]
        change = [c[part].next_observation - standardised * c[part].observation for c in chosen]
        inputs.append(torch.stack(x).double())
        targets.append(torch.stack(change).double())
    input_units = Units.of(inputs[0], identity=not standardised)
    target_units = Units.of(targets[0], identity=not standardised)
    observation = torch.stack([c[0].observation for c in chosen]).double()
    data = [
        Dataset.pairs(input_units.to(x).float(), target_units.to(y).float())
        for x, y in zip(inputs, targets, strict=True)
    ]
    whole = [each for each in stretched if each is not None]
    rollouts = (
        Rollouts(
            torch.stack([each.observation[0] for each in whole]).float(),
            torch.stack([each.action[0] for each in whole]).float(),
        )
        if len(whole) == len(stretched)
        else None
    )
    train, validation, test = data
    return Problem(
        train,
        validation,
        test,
        torch.stack([c[0].episode for c in chosen]),
        _float(input_units),
        _float(target_units),
        _float(Units.of(observation, identity=False)),
        standardised,
        rollouts,
        tuple(splits),
    )


def _moved(value: Any, device: torch.device) -> Any:
    """Return a tensor, or data that hold some, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if not isinstance(value, Problem | Dataset | Units | Rollouts):
        return value
    found = {field.name: _moved(getattr(value, field.name), device) for field in fields(value)}
    return replace(value, **found)


def _float(units: Units) -> Units:
    return Units(units.centre.float(), units.scale.float())


def _some(
    part: dynamics.Transitions, rows: int, generator: torch.Generator, split: int
) -> dynamics.Transitions:
    """Return so many rows of a part, in random order."""
    if len(part) < rows:
        raise InputError(
            f"split {split} has a part of {len(part)} rows, and {rows} are asked for: pass fewer "
            f"rows, or collect more transitions"
        )
    return part.rows(torch.randperm(len(part), generator=generator)[:rows])


def _stretches(
    transitions: dynamics.Transitions,
    test: dynamics.Transitions,
    horizon: int,
    count: int,
    generator: torch.Generator,
) -> Rollouts | None:
    """Return `count` stretches of the test episodes, drawn with replacement; None if all end."""
    here = transitions.rows(torch.isin(transitions.episode, test.episode).nonzero()[:, 0])
    starts = len(here) - horizon + 1
    if starts < 1:
        return None
    first, end = torch.arange(starts), torch.arange(starts) + horizon - 1
    whole = here.episode[first] == here.episode[end]
    whole &= here.step[end] - here.step[first] == horizon - 1
    begins = first[whole]
    if not len(begins):
        return None
    drawn = begins[torch.randint(len(begins), (count,), generator=generator)]
    steps = drawn[:, None] + torch.arange(horizon)
    before, after = here.observation[drawn][:, None], here.next_observation[steps]
    return Rollouts(torch.cat([before, after], 1)[None], here.action[steps][None])


def rollout_errors(
    problem: Problem, mean: Callable[[Tensor], Tensor], horizons: Sequence[int]
) -> dict[int, Float[Tensor, "methods splits"]]:
    """Return the error after each horizon, `√(mean_i (ŝ_i - s_i)²/σ_i²)`, median over stretches.

    The mean prediction is fed back with the actions that were taken; `σ` is the deviation of the
    observations of the training rows. Empty where there are no stretches.
    """
    if problem.rollouts is None:
        return {}
    truth, action = problem.rollouts.observation, problem.rollouts.action
    at = truth[..., 0, :]
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for step in range(max(horizons)):
            done = action[..., step, :].expand(*at.shape[:-1], -1)
            at = problem.step(mean(problem.input_units.to(torch.cat([at, done], -1))), at)
            if step + 1 in horizons:
                error = (at - truth[..., step + 1, :]) / problem.observation_units.scale
                found[step + 1] = error.square().mean(-1).sqrt().median(-1).values
    return found
