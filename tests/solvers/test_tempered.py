"""β of λ(x) ∝ P(x)^β as an outer variable: found where it matters, left alone where it does not."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.bilevel import likelihood
from tests.draws import F64

LAM = 0.5
MEANS, VARIANCES = torch.tensor([1.0, -2.0], dtype=F64), torch.tensor([4.0, 0.25], dtype=F64)
INNER, HELD = [0, 1, 1, 1], [0, 0, 1]  # which of two inputs each row is
MODEL = so.TemperedReward(so.InputReward(1, 1, so.MLP(), "diagonal"))


def data(rows: list[int]) -> so.Dataset:
    """Outcomes with these moments at the inputs 0 and 1."""
    x = torch.tensor(rows, dtype=F64).unsqueeze(-1)
    mean, spread = MEANS[rows], VARIANCES[rows].sqrt()
    return so.Dataset.of(x, torch.stack([mean - spread, mean + spread], 1).unsqueeze(-1))


class SharedMean:
    """A policy with one mean for all inputs, and a variance for each of two."""

    def __call__(self, params: Any, x: Tensor) -> so.Gaussian:
        log_s = params["log_s"][x[:, 0].long()]
        return so.Gaussian(params["m"].expand(len(x), 1), log_s.exp().unsqueeze(-1))

    def zeros(self, dtype: torch.dtype = F64) -> dict[str, Tensor]:
        return {"m": torch.zeros(1, dtype=dtype), "log_s": torch.zeros(2, dtype=dtype)}


LIMITED, FREE = SharedMean(), so.GaussianPolicy(1, 1, "diagonal", so.MLP(), so.MLP())


def phi(power: float) -> dict[str, Tensor]:
    """β alone is learned: the variances are those of the data."""
    raw = (LAM / (2 * VARIANCES)).log() / 2
    return {
        "power": torch.tensor(power, dtype=F64, requires_grad=True),
        "weight0": (raw[1] - raw[0]).reshape(1, 1),
        "bias0": raw[:1],
    }


def problem(policy: Any, rows: list[int] = INNER, held: list[int] | None = None) -> Any:
    held_out = None if held is None else data(held)
    return so.maximum_likelihood(policy, MODEL, data(rows), lam=LAM, held_out=held_out)


def test_beta_is_where_a_fine_grid_has_its_maximum() -> None:
    """And where `λ(x)` is the ratio of the densities, outer over inner."""
    task = problem(LIMITED, held=HELD)
    found = so.solve(task, phi=phi(0.0))
    assert found.converged
    beta = float(found.reward.power)
    grid = torch.linspace(0, 1, 2001, dtype=F64)
    weights = VARIANCES ** (grid.unsqueeze(-1) - 1) * torch.tensor([1 / 4, 3 / 4], dtype=F64)
    mean = (weights * MEANS).sum(-1) / weights.sum(-1)  # least squares, not by any solver
    errors = ((mean.unsqueeze(-1) - MEANS).square() + VARIANCES) / VARIANCES + VARIANCES.log()
    likelihood = -(errors * torch.tensor([2 / 3, 1 / 3], dtype=F64)).sum(-1) / 2
    best = float(grid[likelihood.argmax()])
    assert 0.1 < best < 0.9
    assert abs(beta - best) <= 1e-3
    ratio = (2 / 3) / (1 / 4) / ((1 / 3) / (3 / 4))
    assert beta == pytest.approx(math.log(ratio) / math.log(16), abs=1e-6)
    temperature = found.reward.temperature.flatten()
    assert float(temperature[0] / temperature[-1]) == pytest.approx(ratio, rel=1e-5)
    torch.testing.assert_close(found.law(data([0, 1]).x).scale.flatten().square(), VARIANCES)


def test_the_likelihood_of_the_inner_data_is_largest_at_0() -> None:
    found = so.solve(problem(LIMITED), phi=phi(0.7))
    assert found.converged
    assert abs(float(found.reward.power)) < 1e-5


def test_weights_and_temperature_learned_together_reach_the_likelihood_of_the_outer_data() -> None:
    """From the weights learned at β = 0, which alone cannot get there: they set the variances."""
    variances = {name: p for name, p in phi(0.0).items() if name != "power"}
    held = data(HELD)
    alone = so.maximum_likelihood(LIMITED, MODEL.weight, data(INNER), lam=LAM, held_out=held)
    at_zero = so.solve(alone, phi=variances)
    start = {"power": torch.zeros((), dtype=F64), **at_zero.phi}
    found = so.solve(problem(LIMITED, held=HELD), phi=start)
    likely = so.fit(LIMITED, held)
    assert at_zero.converged
    assert found.converged
    assert likely.converged
    best = -float(so.NLL()(LIMITED(likely.value, held.x), held))
    reached, before = found.result.history[-1].F, at_zero.result.history[-1].F
    assert reached == pytest.approx(best, abs=1e-8)
    assert before < reached - 5e-3


def test_where_the_mean_is_attained_every_beta_is_as_good() -> None:
    """The flat direction: no slope, the same law, and `solve` leaves β where it starts."""
    laws: list[Tensor] = []
    for beta in (-0.5, 0.3, 0.8):
        found = so.solve(problem(FREE, held=HELD), phi=phi(beta), seed=0)
        assert found.converged
        assert float(found.reward.power) == pytest.approx(beta, abs=1e-6)
        assert found.result.history[0].hypergradient < 1e-8
        law = found.law(data([0, 1]).x)
        laws.append(torch.cat([law.mean, law.scale]).flatten())
    for law in laws:
        want = torch.cat([MEANS, VARIANCES.sqrt()])
        torch.testing.assert_close(law, want, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_tempered_is_refused() -> None:
    with pytest.raises(so.InputError, match=r"kind 'full'.*pass kind='diagonal'"):
        so.TemperedReward(so.InputReward(1, 2, so.MLP()))
    with pytest.raises(so.InputError, match="u must be positive"):
        so.Tempered(torch.zeros(3, 1), 0.5)
    with pytest.raises(so.ShapeError, match=r"power has shape \(2,\): pass one number"):
        so.Tempered(torch.ones(3, 1), torch.ones(2))
    with pytest.raises(so.InputError, match="no parameter 'power'"):
        MODEL({name: p.detach() for name, p in phi(0.0).items() if name != "power"}, data(HELD).x)
    with pytest.raises(so.InputError, match="not TemperedReward: leave estimator out"):
        likelihood.problem(FREE, MODEL, LAM, data(INNER), estimator=so.ScoreFunction())
