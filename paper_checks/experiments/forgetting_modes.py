"""An old mode and a new one, trained on the new one alone: by likelihood, and by policy gradient.

The policy is `w N(-δ, 1) + (1-w) N(0, 1)`, of which the log-odds `ℓ` of the old mode are trained.
Its data are `N(0, 1)`, the new mode, and the reward is the best one for these data. All integrals
are quadratures; predictions are the leading orders of `analysis.forgetting.modes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import integrate, special, stats
from torch import Tensor

import solvers as so
from analysis.forgetting import modes
from solvers.errors import InputError
from solvers.families.law import Params, Sampled
from solvers.training.ensemble import gradient_descent

F64 = torch.float64
METHODS = ("NLL", "PG")
NODES = 40  # of Gauss-Hermite quadrature around each mode
OUTCOMES = 100  # quantiles of the new data
POINTS = 31  # of a line, and of a training


@dataclass(frozen=True)
class Settings:
    """Settings of the two modes.

    Attributes:
        distances: `δ` between them.
        weight: `w` of the old mode at the start.
        lam: entropy weight; it sets PG's unit of time, and 1 is NLL's.
        horizon: time of training, in which `ℓ` follows its gradient.
        rate: size of the steps.
    """

    distances: tuple[float, ...] = (8.0, 12.0)
    weight: float = 0.9
    lam: float = 1.0
    horizon: float = 4.0
    rate: float = 0.002

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1:
            raise InputError(f"weight is {self.weight}: pass a number between 0 and 1")


@dataclass(frozen=True)
class TwoModes(Sampled):
    """`w N(-δ, 1) + (1-w) N(0, 1)` at each input.

    Attributes:
        logit: `ℓ = log w/(1-w)`, `(*b, N)`.
        distance: `δ`, `(*b,)`.
    """

    logit: Float[Tensor, "*b N"]
    distance: Float[Tensor, "*b"]

    @property
    def weight(self) -> Float[Tensor, "*b N"]:
        """Return `w`."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Float[Tensor, "*b N 1"]:
        """Return `-wδ`."""
        return -(self.weight * self.distance.unsqueeze(-1)).unsqueeze(-1)

    def trace(self, U: Float[Tensor, "*u 1 1"]) -> Float[Tensor, "*c"]:
        """Return `u(1 + w(1-w)δ²)`."""
        w = self.weight
        return U[..., 0, 0] * (1 + w * (1 - w) * self.distance.unsqueeze(-1).square())

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Accept the moments of scalar outcomes, which are all there are here."""

    def log_density(self, y: Float[Tensor, "*d S"]) -> Float[Tensor, "*e S"]:
        """Return `log p(y)` for outcomes along a new last dimension."""
        at = torch.stack([-self.distance, torch.zeros_like(self.distance)], -1)
        squares = (y.unsqueeze(-1) - at[..., None, None, :]).square()
        log_w = torch.stack([self.logit, torch.zeros_like(self.logit)], -1).log_softmax(-1)
        return (log_w.unsqueeze(-2) - squares / 2).logsumexp(-1) - np.log(2 * np.pi) / 2

    def cross_entropy(self, q: so.Dataset) -> Float[Tensor, "*b N"]:
        """Return `-E_y log p(y)` over the outcomes."""
        return -self.log_density(q.y[..., 0]).mean(-1)

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `-Σ_k w_k E_k log p`, by quadrature around each mode."""
        nodes, shares = (torch.as_tensor(x) for x in special.roots_hermitenorm(NODES))
        shares = shares / shares.sum()
        old, new = (
            self.log_density(nodes + shift[..., None, None]) @ shares
            for shift in (-self.distance, torch.zeros_like(self.distance))
        )
        return -(self.weight * old + (1 - self.weight) * new)


def run(settings: Settings) -> pd.DataFrame:
    """Predict and train.

    Returns:
        A row per `kind` ("predicted", "trained"), `method`, `distance` and `time`, with `weight` w
        and `logit` ℓ of the old mode.
    """
    return pd.concat(
        [part(settings, method) for method in METHODS for part in (_predicted, _trained)],
        ignore_index=True,
    )


def times(settings: Settings) -> np.ndarray:
    """Return the steps that are looked at, spaced by their logarithm."""
    last = round(settings.horizon / settings.rate)
    return np.unique(np.geomspace(1, last, POINTS).round().astype(int))


def _trained(settings: Settings, method: str) -> pd.DataFrame:
    distance = torch.tensor(settings.distances, dtype=F64)
    quantiles = stats.norm.ppf((np.arange(OUTCOMES) + 0.5) / OUTCOMES)
    y = torch.as_tensor(quantiles / quantiles.std())  # of variance 1
    data = so.Dataset.of(torch.zeros(1, 1, dtype=F64), y[None, :, None])
    reward = so.optimal_reward(data.covariance[0], settings.lam)
    objective = so.NLL() if method == "NLL" else so.PolicyGradient(reward, settings.lam)
    start = torch.full((len(distance), 1), float(special.logit(settings.weight)), dtype=F64)
    shown, tables = set(times(settings).tolist()), list[pd.DataFrame]()

    def observe(step: int, theta: Params) -> None:
        if step in shown:
            values = {"distance": settings.distances, "logit": theta["logit"][:, 0].numpy().copy()}
            tables.append(pd.DataFrame(values).assign(time=step * settings.rate))

    gradient_descent(
        {"logit": start},
        lambda theta, _: objective(TwoModes(theta["logit"], distance), data),
        steps=round(settings.horizon / settings.rate),
        learning_rate=settings.rate,
        batch_ndim=1,
        observe=observe,
    )
    return _labelled(pd.concat(tables), "trained", method)


def _predicted(settings: Settings, method: str) -> pd.DataFrame:
    tables: list[pd.DataFrame] = []
    t = times(settings) * settings.rate
    for distance in settings.distances:

        def drift(_: float, logit: np.ndarray, distance: float = distance) -> float:
            old = float(special.expit(logit[0]))
            if method == "NLL":
                return modes.likelihood().at("derived", old=old)
            return modes.reward().at("derived", old=old, lam=settings.lam, delta=distance)

        start = [special.logit(settings.weight)]
        span = (0.0, float(t[-1]))
        found = integrate.solve_ivp(drift, span, start, t_eval=t, rtol=1e-8, atol=1e-10)
        tables.append(pd.DataFrame({"distance": distance, "logit": found.y[0], "time": t}))
    return _labelled(pd.concat(tables), "predicted", method)


def _labelled(table: pd.DataFrame, kind: str, method: str) -> pd.DataFrame:
    return table.assign(kind=kind, method=method, weight=special.expit(table.logit))
