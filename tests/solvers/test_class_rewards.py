"""Rewards between classes, their inner solutions, and the scales of the theory."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from solvers.data import LabelledData
from solvers.errors import InputError, NotPositiveDefiniteError, ShapeError
from solvers.families.categorical import Categorical
from solvers.families.networks import MLP
from solvers.rewards.between_classes import (
    ClassReward,
    FreeReward,
    OneHotReward,
    exact_diagonal,
    exact_scale,
    gibbs,
    heuristic_scale,
)
from solvers.rewards.learnable import ConstantReward, InputReward
from solvers.rewards.mahalanobis import MahalanobisReward
from tests.draws import F64, normal

f64 = partial(torch.tensor, dtype=F64)
N, INPUTS = 4, 7
ONE = torch.tensor(1.0, dtype=F64)
classes, seeds = st.integers(2, 10), st.integers(0, 2**20)
lams = st.floats(0.05, 20)


def simplex(seed: int, *shape: int) -> Tensor:
    return normal(seed, *shape).softmax(-1)


def spd(seed: int, *shape: int) -> Tensor:
    A = normal(seed, *shape, shape[-1])
    return A @ A.mT + torch.eye(shape[-1], dtype=F64)


def explicit(U: Tensor) -> Tensor:
    """`-(e_c - e_k)ᵀ U (e_c - e_k)` by one-hot vectors."""
    e = torch.eye(U.shape[-1], dtype=F64)
    deviation = e[:, None] - e[None]
    return -torch.einsum("cki,...ij,ckj->...ck", deviation, U, deviation)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@given(rows=st.sampled_from([1, N]), C=classes, seed=seeds)
def test_constructors_are_their_matrix(batch: tuple[int, ...], rows: int, C: int, seed: int):
    u, U = 0.1 + normal(seed, *batch, rows, C).square(), spd(seed, *batch, rows, C)
    first = u[..., 0, 0]
    eye = torch.eye(C, dtype=F64)
    for reward, want in [
        (ClassReward.scalar(first, C), first[..., None, None, None] * eye),
        (ClassReward.diagonal(u), torch.diag_embed(u)),
        (ClassReward.full(U), U),
        (ClassReward.mahalanobis(U - 9 * eye), U - 9 * eye),
    ]:
        assert reward.classes == C
        torch.testing.assert_close(reward.table, explicit(want))
    one = U.reshape(-1, C, C)[0]
    torch.testing.assert_close(MahalanobisReward.full(one)(eye[:, None], eye), explicit(one))


@pytest.mark.parametrize("rows", [1, N])
@given(C=classes, seed=seeds, compares=st.booleans())
def test_expectations_by_enumeration(rows: int, C: int, seed: int, compares: bool) -> None:
    """Of members with their own rewards and laws, which share the data."""
    K = C if compares or rows == 1 else 1
    table, pi = normal(seed, 3, rows, C, K), simplex(seed + 1, N, C)
    law = Categorical(normal(seed + 2, 3, N, C))
    reward, data = ClassReward(table), LabelledData(normal(seed, N, INPUTS), pi)
    expected, value = reward.by_class(pi), reward.expected(law, data)
    for b, n in np.ndindex(3, N):
        r = table[b, n if rows > 1 else 0]
        outcome = range(C) if K > 1 else [0] * C
        rbar = [sum(float(pi[n, k]) * float(r[c, outcome[k]]) for k in range(C)) for c in range(C)]
        assert expected[b, n].tolist() == pytest.approx(rbar, abs=1e-12)
        want = sum(float(law.p[b, n, c]) * rbar[c] for c in range(C))
        assert float(value[b, n]) == pytest.approx(want, abs=1e-12)


def objective(reward: ClassReward, lam: float, pi: Tensor, p: Tensor) -> float:
    """`J = Σ_c p_c Σ_k π_k r(c, k) + λH` of a single input."""
    r = (reward.table[0] * pi).sum(-1)
    return float((p * r).sum() - lam * torch.xlogy(p, p).sum())


@given(C=classes, seed=seeds, lam=lams)
def test_the_gibbs_law_is_the_inner_solution(C: int, seed: int, lam: float) -> None:
    reward, pi = ClassReward.full(spd(seed, 1, C)), simplex(seed + 1, C)
    p = gibbs(reward, f64(lam), pi[None]).p[0]
    best = objective(reward, lam, pi, p)
    for k in range(5):
        for t in (1e-3, 0.1, 0.9):
            assert objective(reward, lam, pi, (1 - t) * p + t * simplex(seed + 2 + k, C)) < best
    slope = reward.table[0].numpy() @ pi.numpy() - lam * p.log().numpy()  # constant over classes
    assert np.ptp(slope) <= 1e-10 * np.abs(slope).max() + 1e-10


@pytest.mark.parametrize("C", [2, 3, 5])
def test_the_gibbs_law_by_numerical_search(C: int) -> None:
    reward, pi, lam = ClassReward.full(spd(0, 1, C)), simplex(1, C), 3.0
    found = optimize.minimize(
        lambda z: -objective(reward, lam, pi, torch.as_tensor(z).softmax(-1)),
        np.zeros(C), method="BFGS", options={"gtol": 1e-9, "eps": 1e-7},
    )  # fmt: skip
    want = gibbs(reward, f64(lam), pi[None]).p[0]
    torch.testing.assert_close(torch.as_tensor(found.x).softmax(-1), want, rtol=0, atol=1e-6)


def test_gibbs_laws_of_members() -> None:
    U, lam, pi = spd(0, 3, 1, 5), f64(0.3) + torch.arange(3), simplex(1, N, 5)
    law = gibbs(ClassReward.full(U), lam, pi)
    assert law.logits.shape == (3, N, 5)
    for b in range(3):
        alone = gibbs(ClassReward.full(U[b]), lam[b], pi)
        torch.testing.assert_close(law.logits[b], alone.logits)
        formula = 2 * pi @ U[b, 0] - U[b, 0].diagonal()  # (2(Uπ)_c - U_cc)/λ
        torch.testing.assert_close(alone.p, (formula / lam[b]).softmax(-1))


@given(C=classes, seed=seeds, lam=lams)
def test_the_published_scale(C: int, seed: int, lam: float) -> None:
    """From the covariance of one-hot labels, as it was published, and from probabilities."""
    labels = np.random.default_rng(seed).integers(C, size=30)
    counts = np.bincount(labels, minlength=C) / 30
    for samples, correction in [(None, 0), (30, 1)]:
        S = np.cov(np.eye(C)[labels].T, ddof=correction)
        got = heuristic_scale(torch.as_tensor(counts), f64(lam), samples)
        assert float(got) == pytest.approx(lam * C / (2 * np.trace(S)))


@pytest.mark.parametrize(("pi", "p"), [(0.6, 0.697), (0.9, 0.99986)])
def test_the_published_scale_is_too_sharp_for_two_classes(pi: float, p: float) -> None:
    data, lam = torch.tensor([pi, 1 - pi], dtype=F64), f64(0.4)
    beta = heuristic_scale(data, lam)
    assert float(beta) == pytest.approx(0.4 / (2 * pi * (1 - pi)))
    law = gibbs(ClassReward.scalar(beta, 2), lam, data[None])
    assert float(law.p[0, 0]) == pytest.approx(p, abs=5e-4 if pi == 0.6 else 5e-6)
    with pytest.raises(InputError, match="trace must be positive, got 0"):
        heuristic_scale(torch.eye(2, dtype=F64)[0], lam)


@pytest.mark.parametrize("pi", [0.1, 0.3, 0.49, 0.6, 0.9, 1 - 1e-6])
def test_the_exact_scale_of_two_classes(pi: float) -> None:
    got = exact_scale(torch.tensor([[pi, 1 - pi]], dtype=F64), f64(0.7))
    want = 0.7 * math.log(pi / (1 - pi)) / (2 * (2 * pi - 1))
    assert float(got) == pytest.approx(want, rel=1e-9)
    law = gibbs(ClassReward.scalar(got, 2), f64(0.7), torch.tensor([[pi, 1 - pi]], dtype=F64))
    assert float(law.p[0, 0]) == pytest.approx(pi, rel=1e-9)


def test_the_published_scale_can_be_too_flat() -> None:
    pi = torch.tensor([0.499, 0.499, 0.002], dtype=F64)
    assert float(exact_scale(pi[None], ONE)) == pytest.approx(5.55, abs=5e-3)
    assert float(heuristic_scale(pi, ONE)) == pytest.approx(2.99, abs=5e-3)
    near = simplex(0, 1, 6) * 1e-4 + (1 - 1e-4) / 6
    assert float(exact_scale(near, ONE)) == pytest.approx(3, rel=1e-3)  # λC/2


@given(C=classes, rows=st.integers(1, 5), seed=seeds, lam=lams)
def test_the_exact_scale_is_likeliest(C: int, rows: int, seed: int, lam: float) -> None:
    pi = simplex(seed, rows, C)

    def loss(log_u: float) -> float:
        reward = explicit(math.exp(log_u) * torch.eye(C, dtype=F64))
        law = torch.distributions.Categorical(logits=(pi @ reward) / lam)
        return -float((pi * law.logits).sum())

    u = float(exact_scale(pi, f64(lam)))
    around = math.log(u)
    found = optimize.minimize_scalar(loss, bounds=(around - 3, around + 4), method="bounded")
    assert loss(around) <= found.fun + 1e-12
    assert min(loss(around - 0.01), loss(around + 0.01)) > loss(around)
    assert float(exact_scale(pi, f64(8 * lam))) == pytest.approx(8 * u, rel=1e-13)


def test_scales_of_members() -> None:
    pi, lam = simplex(0, 2, 3, N, 5), 0.1 + normal(1, 2, 3).square()
    pi[0, 1, :3] = torch.eye(5, dtype=F64)[:3]  # labels at some inputs leave a maximum
    scalar, diagonal = exact_scale(pi, lam), exact_diagonal(pi[..., -1, :], lam)
    published = heuristic_scale(pi[..., -1, :], lam)
    for b in np.ndindex(2, 3):
        torch.testing.assert_close(published[b], heuristic_scale(pi[b][-1], lam[b]))
        torch.testing.assert_close(scalar[b], exact_scale(pi[b], lam[b]), rtol=1e-14, atol=0)
        torch.testing.assert_close(diagonal[b], exact_diagonal(pi[b][-1], lam[b]))
    torch.testing.assert_close(exact_scale(pi, ONE) * lam, scalar)
    torch.testing.assert_close(exact_diagonal(pi[:, :, -1], ONE) * lam[..., None], diagonal)
    with pytest.raises(InputError, match="pi must be positive, got 0"):
        exact_diagonal(torch.tensor([1.0, 0.0], dtype=F64), ONE)


@pytest.mark.parametrize(
    "pi", [[[1.0, 0, 0], [0, 0, 1]], [[1 / 3] * 3], [[0.5, 0, 0.5], [0, 1, 0]], [[1 / 19] * 19]]
)
def test_no_scale_is_best_for_labels_or_for_uniform_laws(pi: list[list[float]]) -> None:
    data = torch.tensor(pi, dtype=F64)
    with pytest.raises(InputError, match=r"\(1 of 1 members\): no finite u is best; pass est"):
        exact_scale(data, ONE)
    fine = simplex(0, *data.shape)
    with pytest.raises(InputError, match=r"\(1 of 2 members\)"):
        exact_scale(torch.stack([fine, data]), ONE.expand(2))


def reproduced(pi: Tensor, lam: float) -> Tensor:
    """Check `exact_diagonal` against what it promises; return `u`."""
    u = exact_diagonal(pi, f64(lam))
    assert bool((u > 0).all())
    law = gibbs(ClassReward.diagonal(u[None]), f64(lam), pi[None])
    torch.testing.assert_close(law.p[0], pi, rtol=1e-10, atol=0)
    largest = u[pi == pi.max()]
    torch.testing.assert_close(largest, torch.full_like(largest, lam), rtol=1e-12, atol=0)
    return u


@given(logs=st.lists(st.floats(-30, 0), min_size=2, max_size=10), lam=lams)
def test_a_diagonal_reproduces_any_probabilities(logs: list[float], lam: float) -> None:
    reproduced(torch.tensor(logs, dtype=F64).softmax(-1), lam)


@pytest.mark.parametrize(
    "pi",
    [
        *([0.5, 0.5], [0.25] * 4, [0.5, 0.3, 0.2], [0.5, 0.25, 0.25], [0.4, 0.4, 0.2]),
        *([1 - 1e-12, 1e-12], [0.5, 0.5 - 1e-12, 1e-12], [1 - 2e-12, 1e-12, 1e-12]),
        *([0.5 + d, 0.5 - d] for d in (1.2e-16, -1.2e-16, 1e-12, 1e-9, -1e-9, 1e-4)),
        *([0.5 + d, 0.3 - d, 0.2] for d in (1.2e-16, -6e-17, 1e-12, 1e-9, -1e-9, 1e-4)),
    ],
)
def test_a_diagonal_reproduces_awkward_probabilities(pi: list[float]) -> None:
    u = reproduced(torch.tensor(pi, dtype=F64), 0.7)
    if abs(pi[0] - 0.5) <= 1e-4:  # continuous where a probability passes ½
        u_half = reproduced(torch.tensor([0.5, *pi[1:]], dtype=F64) / (0.5 + sum(pi[1:])), 0.7)
        torch.testing.assert_close(u, u_half, rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_what_rewards_refuse(value: float) -> None:
    bad, pi = f64(value), simplex(0, N, 3)
    scales = [(gibbs_of_scalar, pi), (exact_scale, pi), (heuristic_scale, pi[0])]
    for scale, data in [*scales, (exact_diagonal, pi[0])]:
        with pytest.raises(InputError, match=rf"lam must be positive, got {value:g}"):
            scale(data, bad)
        with pytest.raises(InputError, match=r"pi sums to 1 ± 1"):
            scale(2 * data, ONE)
    with pytest.raises(InputError, match="u must be positive"):
        ClassReward.scalar(bad, 3)
    with pytest.raises(InputError, match="u must be positive"):
        ClassReward.diagonal(torch.stack([ONE, bad])[None])
    with pytest.raises(NotPositiveDefiniteError, match=rf"smallest eigenvalue {value:g}"):
        ClassReward.full(torch.diag(torch.stack([ONE, bad]))[None])
    with pytest.raises(ShapeError, match="the reward has C = 3 classes, pi 4"):
        ClassReward.scalar(ONE, 3).by_class(simplex(0, N, 4))


def gibbs_of_scalar(pi: Tensor, lam: Tensor) -> Categorical:
    return gibbs(ClassReward.scalar(ONE, pi.shape[-1]), lam, pi)


def test_learnable_one_hot_rewards() -> None:
    x, C = normal(0, N, INPUTS), 3
    for kind in ("scalar", "diagonal", "full"):
        weight = ConstantReward(C, kind)
        phi = weight.start(spd(1, C))
        U = weight(phi, x).U
        torch.testing.assert_close(OneHotReward(weight)(phi, x).table, explicit(U)[None])
    network = InputReward(INPUTS, C, MLP((5,)))
    phi = network.start(torch.Generator().manual_seed(0))
    torch.testing.assert_close(OneHotReward(network)(phi, x).table, explicit(network(phi, x).U))


@pytest.mark.parametrize(("compares", "K"), [("nothing", 1), ("outcome", 3)])
def test_free_rewards(compares, K: int) -> None:
    model, x = FreeReward(INPUTS, 3, MLP((5,)), compares), normal(0, N, INPUTS)
    phi = model.start(torch.Generator().manual_seed(0))
    low = model.start(torch.Generator().manual_seed(0), torch.float32)
    assert torch.equal(low["weight0"], phi["weight0"].float())
    table = model(phi, x).table
    assert table.shape == (N, 3, K)
    raw = MLP((5,))(phi, "", x)
    for n, c, k in np.ndindex(N, 3, K):
        assert table[n, c, k] == raw[n, c * K + k]
    with pytest.raises(ShapeError, match=r"x has shape \(4, 6\), and the reward takes 7 columns"):
        model(phi, x[:, :6])
    object.__setattr__(model, "compares", "everything")  # past the type checks of the suite
    with pytest.raises(
        InputError, match=r"compares is 'everything' .* pass one of 'outcome', 'nothing'"
    ):
        model.__post_init__()


def test_a_reward_that_looks_at_nothing_has_a_row_for_every_input():
    reward = ClassReward(torch.tensor([[[1.0], [2.0], [3.0]]], dtype=torch.float64))
    pi = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    assert torch.equal(reward.by_class(pi), torch.tensor([[1.0, 2.0, 3.0]]).double().expand(4, 3))


def test_one_label_has_no_covariance():
    with pytest.raises(InputError, match="samples is 1: pass at least 2"):
        heuristic_scale(torch.tensor([0.5, 0.5]), torch.tensor(1.0), samples=1)


def test_one_doubtful_label_among_a_thousand_bounds_the_scale() -> None:
    """`Σ_x (π - p) π = 0` at `1000 e^-v = δ`: δ = 1e-11 counts, though its share is rounding."""
    pi = torch.tensor([1.0, 0.0], dtype=F64).repeat(1000, 1)
    pi[0] = torch.tensor([1 - 1e-11, 1e-11], dtype=F64)
    want = 0.5 * math.log(1000 / 1e-11)
    assert float(exact_scale(pi, ONE)) == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("compares", ["outcome", "nothing"])
def test_parameters_of_members_are_rewards_of_members(compares: Any) -> None:
    reward, x = FreeReward(INPUTS, 3, MLP((4,)), compares), normal(0, N, INPUTS)
    alone = [reward.start(torch.Generator().manual_seed(k)) for k in range(2)]
    both = {name: torch.stack([phi[name] for phi in alone]) for name in alone[0]}
    for found, phi in zip(reward(both, x).table, alone, strict=True):
        torch.testing.assert_close(found, reward(phi, x).table)
