"""The gate bites, continued: faults in β-NLL, faithful regression and the temperature."""

from functools import partial
from typing import Any

import pytest

from analysis import definitions
from paper_checks.conformance.strategies import make_problem
from solvers.rewards.mahalanobis import DiagonalReward
from solvers.rewards.tempered import Tempered, TemperedReward
from solvers.training import objectives
from solvers.training.objectives import BetaNLL, PolicyGradient
from tests import planting
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import temperature as identities

PLANE, SCALAR = make_problem(2, 7), make_problem(1, 7)
solution = partial(identities.inner_solution, PLANE)
family = partial(identities.family, PLANE, 0.4)
slope = partial(identities.power_slope, SCALAR, 0.4)
learned = partial(identities.learned_power, SCALAR, 0.4)


def followed(right: Any) -> Any:
    """β-NLL whose weights have a gradient."""

    def faulty(self: BetaNLL, law: Any, data: Any, noise: Any = None) -> Any:
        losses = objectives._by_dimension("", law, law.mean, data)
        return (law.scale ** (2 * self.beta) * losses).sum(-1).mean(-1)

    return faulty


FAULTS: dict[str, Fault] = {
    **{
        f"one temperature for all, {identity.func.__name__}": (
            PolicyGradient,
            "_entropy",
            lambda _: lambda self, law, *of: law.entropy(),
            identity,
        )
        for identity in (solution, family, slope, learned)
    },
    "P^(β/2) for P^β": (
        BetaNLL,
        "__call__",
        lambda right: lambda self, *of: right(BetaNLL(self.beta / 2), *of),
        family,
    ),
    "weights of β-NLL with a gradient": (BetaNLL, "__call__", followed, family),
    "the variance moves the mean of faithful regression": (
        objectives,
        "_by_dimension",
        lambda right: lambda name, law, mean, data: right(name, law, law.mean, data),
        family,
    ),
    "a reward of one weight": (
        DiagonalReward,
        "expected",
        lambda right: (
            lambda self, *of: right(DiagonalReward(0 * self.u + self.u.mean(-1, keepdim=True)), *of)
        ),
        family,
    ),
    "a temperature that does not move with the reward": (
        Tempered,
        "temperature",
        lambda right: property(lambda self: right.fget(self).detach()),
        learned,
    ),
    "λ(x) = λ u^β": (
        Tempered,
        "temperature",
        lambda right: property(lambda self: 1 / right.fget(self)),
        learned,
    ),
    "weights without the temperature": (
        Tempered,
        "reward",
        lambda _: property(lambda self: DiagonalReward(self.u)),
        family,
    ),
    "half of β": (
        TemperedReward,
        "__call__",
        lambda right: lambda self, phi, x: right(self, {**phi, "power": phi["power"] / 2}, x),
        learned,
    ),
    "a reward that does not move": (
        DiagonalReward,
        "expected",
        lambda right: lambda self, *of: right(DiagonalReward(self.u.detach()), *of),
        slope,
    ),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)


WRONG: dict[str, tuple[Any, partial[None]]] = {
    "entropy": (lambda right: lambda P: 2 * right(P), solution),
    "log_density": (lambda right: lambda y, m, P: right(y, m, P * P), family),
    "mean_reward": (lambda right: lambda y, mu, *of: right(y, 2 * mu, *of), family),
    "reward": (lambda right: lambda y_hat, y, U: right(y_hat, 2 * y, U), slope),
    "log_likelihood": (lambda right: lambda *of: 2 * right(*of), learned),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_derivation_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, notices = WRONG[name]
    planting.check_noticed(monkeypatch, definitions, name, plant, notices)
