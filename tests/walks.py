"""Transitions of a small system that takes no simulator: noise that grows with the state."""

from dataclasses import replace
from typing import Any

import torch

from paper_checks.experiments import table_3
from paper_checks.experiments.table_3_methods import Training
from solvers.tasks.dynamics import Transitions

EPISODES, STEPS = 14, 55

FAST = Training(
    hidden=(6,),
    steps=20,
    learning_rate=0.02,
    batch=30,
    every=10,
    folds=2,
    reward_hidden=(4,),
    reward_steps=20,
    outer_steps=1,
    evaluations=1,
)
SMALL = replace(
    table_3.CORRECTED,
    environments=("halfcheetah",),
    splits=(0, 1, 2),
    rows=(60, 30, 40),
    training=FAST,
    stretches=3,
)
SMALL_AS_PUBLISHED = replace(
    table_3.AS_PUBLISHED, rows=(60, 30, 40), updates=3, repetitions=2, outer_steps=2, stretches=3
)


def transitions(settings: Any, environment: str, seed: int) -> Transitions:
    """Return `EPISODES` of `STEPS` steps each, in place of `table_3.transitions`."""
    g = torch.Generator().manual_seed(seed + len(environment))
    shape = EPISODES, STEPS
    action = torch.randn(*shape, 1, generator=g, dtype=torch.float64)
    noise = torch.randn(*shape, 2, generator=g, dtype=torch.float64)
    state = [torch.randn(EPISODES, 2, generator=g, dtype=torch.float64)]
    for t in range(STEPS):
        last = state[-1]
        spread = 0.1 * (1 + last[:, :1].abs())
        state.append(0.9 * last + 0.2 * action[:, t] * last.flip(-1).tanh() + spread * noise[:, t])
    path = torch.stack(state, 1)
    step = torch.arange(STEPS).repeat(EPISODES)
    end = step == STEPS - 1
    return Transitions(
        path[:, :-1].reshape(-1, 2),
        action.reshape(-1, 1),
        path[:, 1:].reshape(-1, 2),
        torch.arange(EPISODES).repeat_interleave(STEPS),
        step,
        torch.zeros_like(end),
        end,
    )
