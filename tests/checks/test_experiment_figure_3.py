"""Figure 3: the published solver does what its settings say, the corrected one what it should."""

from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch

from paper_checks.experiments import figure_3, published_implicit
from solvers.bilevel.likelihood import second_moment
from solvers.data import Dataset
from solvers.families.networks import MLP
from solvers.training import streams
from tests.shapes import unchecked

SHORT = replace(
    figure_3.AS_PUBLISHED, published_repetitions=2, epochs=2, inner_steps=3, rows=20, samples=2
)
CORRECTED = replace(figure_3.CORRECTED, arms=("corrected",), repetitions=2)
SOLVER = published_implicit.Solver(1.0, 3, 5, 0.01, shared=False)


@cache
@unchecked()
def corrected() -> pd.DataFrame:
    return figure_3.run(CORRECTED, seed=0)


def one_run(solver: published_implicit.Solver, epochs: int) -> list[published_implicit.Epoch]:
    known = figure_3.task(SHORT, 0)
    train = Dataset.of(known.train.x, known.train.y)
    found = published_implicit.epochs(
        solver,
        torch.ones(1, 2, dtype=torch.float64),
        train,
        known.validation,
        noise=streams.MemberNoise([streams.generator(0, "noise")], (1,)),
        policies=lambda epoch: [streams.generator(0, "init", epoch)],
    )
    return list(islice(found, epochs))


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    for settings in (SHORT, replace(CORRECTED, repetitions=1, starts=(1.0,))):
        one, again, other = (figure_3.run(settings, seed=seed) for seed in (0, 0, 1))
        pd.testing.assert_frame_equal(one, again, check_exact=True)
        assert (one.train != other.train.iloc[: len(one)]).all()


def test_a_repetition_is_the_same_whatever_else_runs() -> None:
    alone = figure_3.run(replace(SHORT, published_repetitions=1), seed=0)
    both = figure_3.run(SHORT, seed=0)
    first = both[both.repetition == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, first, check_exact=False, rtol=1e-4, atol=1e-5)


def test_published_steps_are_signs_and_cost_what_they_cost() -> None:
    table = figure_3.run(SHORT, seed=0)
    assert table.converged.isna().all()
    assert set(table.cost) == {9, 18, 27}  # 3 inner steps and 6 more, for each policy
    for _, path in table.groupby("repetition"):
        for entry in ("11", "22"):
            U, g = path[f"U_{entry}"].to_numpy(), path[f"hypergradient_{entry}"].to_numpy()
            # against the sign of what is computed, whatever its size
            assert np.diff(U) == pytest.approx(-0.01 * np.sign(g[:-1]), abs=1e-5)
    # data are shared, policies are not
    assert table.groupby("epoch").marginal.nunique().eq(1).all()
    assert table.groupby("epoch").train.nunique().eq(2).all()


def test_one_number_is_both_entries_if_shared() -> None:
    shared = one_run(replace(SOLVER, shared=True), 3)
    apart = one_run(SOLVER, 3)
    for epoch in shared:
        assert torch.equal(epoch.U[:, 0], epoch.U[:, 1])
    first = apart[0].hypergradient.sum(-1)
    assert shared[0].hypergradient[:, 0].tolist() == pytest.approx(first.tolist())


def test_the_published_surrogate_has_the_gradient_of_the_policy() -> None:
    """On many samples: the derived gradient in a mean and a log standard deviation."""
    n, u, s = 20_000, 0.7, 1.3
    params = published_implicit._policy([streams.generator(0, "policy")], torch.float64)
    data = Dataset.of(torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 1, 2).double())
    last = len(published_implicit.NETWORK.hidden)
    with torch.no_grad():
        params[f"weight{last}"].zero_()
        params[f"bias{last}"].copy_(torch.tensor([[0.5, 0.0, np.log(s), np.log(s)]]))
    solver = replace(SOLVER, generations=n)
    noise = streams.MemberNoise([streams.generator(0, "noise")], (1,))
    U = torch.full((1, 2), u, dtype=torch.float64)
    loss, _ = published_implicit._surrogate(solver, params, U, data, noise)
    (slope,) = torch.autograd.grad(loss.sum(), params[f"bias{last}"])
    # of -E r - λH, averaged over the two outcomes, at δ = (0.5, 0)
    want = np.array([2 * u * 0.5, 0, 2 * u * s**2 - 1, 2 * u * s**2 - 1]) / 2
    assert slope[0].numpy() == pytest.approx(want, abs=0.1)


def test_one_iteration_on_the_normal_equations(monkeypatch) -> None:
    """Against the whole Hessian of a network small enough to have one."""
    monkeypatch.setattr(published_implicit, "NETWORK", MLP((3,)))
    params = published_implicit._policy([streams.generator(0, "policy")], torch.float64)
    data = figure_3.task(SHORT, 0).train
    U = torch.tensor([[0.8, 1.1]], dtype=torch.float64)

    def noise() -> streams.MemberNoise:
        return streams.MemberNoise([streams.generator(0, "noise")], (1,))

    found = published_implicit._hypergradient(SOLVER, params, U, data, noise())
    leaves, drawn = list(params.values()), noise()

    def slope(U: torch.Tensor) -> torch.Tensor:
        loss, _ = published_implicit._surrogate(SOLVER, params, U, data, drawn)
        return flat(torch.autograd.grad(loss.sum(), leaves, create_graph=True))

    def flat(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat([t.reshape(-1) for t in tensors])

    first = slope(U)
    rows = [flat(torch.autograd.grad(g, leaves, retain_graph=True)) for g in first]
    A = torch.stack(rows)
    b = flat(torch.autograd.grad(published_implicit._nll(params, data).sum(), leaves))
    assert torch.allclose(A, A.T)
    # of the iterates along Aᵀb the one with the least residual
    alpha = torch.linalg.lstsq((A @ (A @ b)).unsqueeze(1), b.unsqueeze(1)).solution.item()
    weight = U.clone().requires_grad_()
    second = slope(weight)  # fresh samples
    (mixed,) = torch.autograd.grad(second @ (alpha * (A @ b)), weight)
    assert found[0].tolist() == pytest.approx((-mixed[0]).tolist())
    assert not torch.allclose(first, second)


def test_corrected_runs_arrive_at_the_residual_covariance() -> None:
    table = corrected()
    assert table.converged.all()
    ends = table.groupby(["start", "repetition"]).tail(1)
    assert (figure_3.distance(ends) < 1e-4).all()
    for u, first in table[table.epoch == 0].groupby("start"):
        assert first.U_11.tolist() == pytest.approx([u] * 2)
    assert (table[["U_11", "U_22"]] > 0).all(axis=None)  # never outside the cone
    assert table.groupby("repetition").marginal.nunique().eq(1).all()
    assert table.marginal.nunique() == 2  # data of their own


def test_lines_are_those_of_the_data() -> None:
    known = figure_3.task(CORRECTED, 0, 1)
    x, y = known.train.x.numpy(), known.train.y.numpy().reshape(-1, 2)
    design = np.column_stack([np.repeat(x, 10, axis=0), np.ones(1000)])
    e = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert known.residual.tolist() == pytest.approx((0.5 / (e**2).mean(0)).tolist())
    assert known.marginal == pytest.approx(1 / np.cov(y.T).trace())
    assert known.residual.tolist() == pytest.approx([0.32, 0.32], rel=0.2)
    truth = known.train.x + figure_3.SHIFT
    moment = second_moment(truth, known.train).diagonal().sqrt()
    assert moment.tolist() == pytest.approx([figure_3.SIGMA] * 2, rel=0.1)


def paths(*distances: float) -> pd.DataFrame:
    rows = [
        {
            "arm": "corrected", "start": 1.0, "repetition": 0, "cost": 10 * (k + 1),
            "U_11": 1 + d, "U_22": 1.0, "residual_11": 1.0, "residual_22": 1.0, "converged": True,
        }
        for k, d in enumerate(distances)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"converged": "boolean"})


@pytest.mark.parametrize(
    ("distances", "passing", "arriving"),
    [
        ((0.5, 0.005, 0.001), 20, 20),
        ((0.5, 0.005, 0.2, -0.005), 20, 40),
        ((0.5, 0.005, 0.2), 20, np.nan),
        ((0.5, -0.3), np.nan, np.nan),
    ],
)
def test_who_passes_has_not_arrived(distances, passing, arriving) -> None:
    (found,) = figure_3.arrivals(paths(*distances)).to_dict("records")
    assert found["passing"] == pytest.approx(passing, nan_ok=True)
    assert found["arriving"] == pytest.approx(arriving, nan_ok=True)
    assert found["spent"] == 10 * len(distances)
