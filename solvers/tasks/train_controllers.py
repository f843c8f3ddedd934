"""Train linear controllers by random search: `python -m solvers.tasks.train_controllers hopper`.

Augmented random search (Mania, Guy, Recht, 2018, V2-t): the policy `M (o - mean)/std` moves along
random directions in proportion to the difference of the returns at both ends, over the best
directions; `mean` and `std` are those of all observations so far. Of the policies on the way, the
one with the best return is the "expert", those nearest to a half and a quarter of its gain over
no control the "medium" and "simple" ones. Takes a minute or two per environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from jaxtyping import Float

from ..errors import SolverError, check_seed
from .controllers import FOLDER, Controller
from .simulators import SIMULATORS, simulator

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class Settings:
    """Of the search in one environment.

    Attributes:
        bonus: of a step for being upright, which is taken off: to stand still is no aim.
        directions: drawn per iteration.
        best: of them, that count.
        step: size of an update, in units of the deviation of the returns.
        radius: of the directions.
        iterations: of the search.
        horizon: steps of an episode at most.
        every: iterations from one evaluation to the next.
    """

    bonus: float
    directions: int = 8
    best: int = 4
    step: float = 0.02
    radius: float = 0.03
    iterations: int = 100
    horizon: int = 500
    every: int = 5


SETTINGS = {
    "halfcheetah": Settings(bonus=0.0, iterations=60),
    "hopper": Settings(bonus=1.0, horizon=1000, step=0.04, radius=0.05, iterations=80),
    "walker2d": Settings(bonus=1.0, horizon=1000, directions=16, best=8, radius=0.025),
}
SHARES = {"simple": 0.25, "medium": 0.5, "expert": 1.0}
STEPS, EPISODES = 1000, 20  # of an episode, and of an evaluation
DIGITS = 5  # significant ones in the files, which are what is evaluated


@dataclass(frozen=True)
class Rollout:
    """One episode: the sum of its rewards, and the observations acted on, `(T, n)`."""

    total: float
    observation: Float[np.ndarray, "T n"]


def rollout(
    env: gymnasium.Env, controller: Controller, seed: int, horizon: int, bonus: float = 0.0
) -> Rollout:
    """Run one episode without noise."""
    observation, _ = env.reset(seed=seed)
    total, seen = 0.0, []
    for _ in range(horizon):
        seen.append(observation)
        observation, reward, terminated, _, _ = env.step(controller(observation))
        total += float(reward) - bonus
        if terminated:
            break
    return Rollout(total, np.array(seen))


def returns(env: gymnasium.Env, controller: Controller, seeds: range) -> Float[np.ndarray, "_"]:
    """Return the sums of rewards of whole episodes."""
    return np.array([rollout(env, controller, seed, STEPS).total for seed in seeds])


def search(env: gymnasium.Env, settings: Settings, seed: int) -> list[tuple[Controller, float]]:
    """Return the policies on the way, each with its mean return over 5 whole episodes.

    Args:
        env: an environment, without a limit of time of its own that is below the horizon.
        settings: of the search.
        seed: of directions and starts of episodes.

    Raises:
        InputError: a seed that is no whole number from 0 on.
    """
    check_seed(seed)
    assert env.observation_space.shape is not None
    assert env.action_space.shape is not None
    (n,), (a,) = env.observation_space.shape, env.action_space.shape
    rng = np.random.default_rng(seed)
    M, mean, std = np.zeros((a, n)), np.zeros(n), np.ones(n)
    count, total, squares = 0, np.zeros(n), np.zeros(n)

    def at(weights: Float[np.ndarray, "a n"]) -> Controller:
        return rounded(weights / std, -(weights / std) @ mean)

    found = [(at(M), returns(env, at(M), range(5)).mean())]
    for iteration in range(1, settings.iterations + 1):
        directions = rng.standard_normal((settings.directions, a, n))
        start = int(rng.integers(2**31))
        ends = [
            [
                rollout(
                    env,
                    at(M + sign * settings.radius * direction),
                    start,
                    settings.horizon,
                    settings.bonus,
                )
                for sign in (1, -1)
            ]
            for direction in directions
        ]
        rewards = np.array([[end.total for end in pair] for pair in ends])
        best = np.argsort(-rewards.max(1))[: settings.best]
        slopes = rewards[best, 0] - rewards[best, 1]
        M = M + settings.step / (settings.best * rewards[best].std()) * np.tensordot(
            slopes, directions[best], 1
        )
        seen = np.concatenate([end.observation for pair in ends for end in pair])
        count, total, squares = count + len(seen), total + seen.sum(0), squares + (seen**2).sum(0)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1e-4))
        if iteration % settings.every == 0:
            found.append((at(M), returns(env, at(M), range(5)).mean()))
    return found


def rounded(K: Float[np.ndarray, "a n"], k: Float[np.ndarray, "a"]) -> Controller:
    """Return the controller with as many digits as the files have."""

    def cut(value: float) -> float:
        return float(f"{value:.{DIGITS}g}")

    return Controller(np.vectorize(cut)(K), np.vectorize(cut)(k))


def choose(found: list[tuple[Controller, float]]) -> dict[str, Controller]:
    """Return the policies of each quality, by their shares of the best gain over no control."""
    none, values = found[0][1], np.array([value for _, value in found])
    wanted = {quality: none + share * (values.max() - none) for quality, share in SHARES.items()}
    return {
        quality: found[int(np.abs(values - value).argmin())][0] for quality, value in wanted.items()
    }


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def train(
    environment: Annotated[str, typer.Argument(help=f"One of {', '.join(SIMULATORS)}.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
) -> None:
    """Train the controllers of one environment and write them beside this file."""
    try:
        with simulator(environment) as made:
            env = made.unwrapped
            found = search(env, SETTINGS[environment], seed)
            controllers = {}
            for quality, controller in choose(found).items():
                totals = returns(env, controller, range(1000, 1000 + EPISODES))
                mean, deviation = totals.mean(), totals.std(ddof=1)
                controllers[quality] = {
                    "return_mean": round(mean, 1),
                    "return_deviation": round(deviation, 1),
                    "K": controller.K.tolist(),
                    "k": controller.k.tolist(),
                }
                typer.echo(f"{environment} {quality}: {mean:.0f} ± {deviation:.0f}")
    except SolverError as error:
        raise typer.BadParameter(str(error)) from error
    text = json.dumps({"seed": seed, "controllers": controllers}, indent=1) + "\n"
    (FOLDER / f"{environment}.json").write_text(text, encoding="ascii")


if __name__ == "__main__":
    app(prog_name="python -m solvers.tasks.train_controllers")
