"""Rewards: quadratic forms, their expectation, the optimal ones, and bad matrices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paper_checks.conformance.strategies import Problem, problems
from paper_checks.conformance.witnesses import cubature, reward
from solvers.data import TwoMoments
from solvers.errors import InputError, NonFiniteError, NotPositiveDefiniteError, ShapeError
from solvers.families.gaussian import Gaussian
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_reward, optimal_scale
from tests.draws import F64, normal


def spd(seed: int, *batch: int, n: int) -> Tensor:
    A = normal(seed, *batch, n, n)
    return A @ A.mT + torch.eye(n, dtype=F64)


def explicit(deviation: Tensor, U: Tensor) -> Tensor:
    return torch.einsum("...i,...ij,...j->...", deviation, U, deviation)


@given(n=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_every_constructor_is_its_matrix(n: int, seed: int) -> None:
    u = 0.1 + normal(seed, 3, n).square()
    identity = torch.eye(n, dtype=F64)
    for got, U in [
        (MahalanobisReward.scalar(u[:, 0], n), u[:, 0, None, None] * identity),
        (MahalanobisReward.diagonal(u), torch.diag_embed(u)),
        (MahalanobisReward.full(spd(seed, 3, n=n)), spd(seed, 3, n=n)),
    ]:
        assert got.n == n
        torch.testing.assert_close(got.U, U)
        generation, y = normal(seed + 1, 3, 5, n), normal(seed + 2, 3, 5, n)
        want = -explicit(generation - y, U.unsqueeze(1))
        torch.testing.assert_close(got(generation, y), want)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("batch", [(), (2,), (2, 4)])
@pytest.mark.parametrize("rows", [(), (5,), (5, 6, 7)])
def test_quadratic_for_every_batch_and_memory_order(
    n: int, batch: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    U = spd(0, *batch, n=n)
    weight = MahalanobisReward.full(U)
    e = normal(1, *batch, *rows, n)
    want = explicit(e, U.reshape(*batch, *[1] * len(rows), n, n))
    slabs = e.movedim(-1, len(batch)).contiguous().movedim(len(batch), -1)
    for layout in (e, slabs, e.expand(1, *e.shape)[0]):
        got = weight.quadratic(layout)
        assert got.shape == (*batch, *rows)
        torch.testing.assert_close(got, want)


def test_reward_broadcasts_generations_against_data() -> None:
    weight = MahalanobisReward.full(spd(0, n=2))
    generation, y = normal(1, 4, 1, 2), normal(2, 1, 3, 2)
    assert weight(generation, y).shape == (4, 3)
    torch.testing.assert_close(weight(generation, y), reward(generation, y, spd(0, n=2)))


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@given(problem=problems(4))
def test_expected_reward_by_cubature(structure: str, problem: Problem) -> None:
    t = problem.tensors()
    L = torch.linalg.cholesky(t["P"])
    if structure != "full":
        deviations = (
            L.diagonal().mean().expand(problem.n) if structure == "isotropic" else L.diagonal()
        )
        law, L = Gaussian(t["m"], deviations), torch.diag(deviations)
    else:
        law = Gaussian(t["m"], L)
    factor = torch.linalg.cholesky(t["Sigma"])
    y = cubature(t["mu"], factor)
    want = reward(cubature(t["m"], L)[:, None], y, t["U"]).mean()
    for q in (TwoMoments(t["mu"], t["Sigma"]), Gaussian(t["mu"], factor)):
        got = MahalanobisReward.full(t["U"]).expected(law, q)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_expected_reward_of_a_batch_with_shared_scale() -> None:
    b, N, n = 3, 4, 2
    U, Sigma = spd(0, b, n=n), spd(1, b, N, n=n)
    mean, mu = normal(2, b, N, n), normal(3, b, N, n)
    scale = torch.linalg.cholesky(spd(4, b, 1, n=n))
    got = MahalanobisReward.full(U).expected(Gaussian(mean, scale), TwoMoments(mu, Sigma))
    assert got.shape == (b, N)
    for k in range(b):
        one = MahalanobisReward.full(U[k])
        for i in range(N):
            want = one.expected(
                Gaussian(mean[k, i], scale[k, 0]), TwoMoments(mu[k, i], Sigma[k, i])
            )
            torch.testing.assert_close(got[k, i], want)


@given(problem=problems(4))
def test_optimal_rewards(problem: Problem) -> None:
    t = problem.tensors()
    lam, Sigma, n = t["lam"], t["Sigma"], problem.n
    isotropic = optimal_reward(Sigma, lam, "isotropic").U
    torch.testing.assert_close(isotropic, lam * n / (2 * Sigma.trace()) * torch.eye(n, dtype=F64))
    diagonal = optimal_reward(Sigma, lam, "diagonal").U
    torch.testing.assert_close(
        diagonal @ torch.diag(Sigma.diagonal()), lam / 2 * torch.eye(n, dtype=F64)
    )
    full = optimal_reward(Sigma, lam, "full").U
    torch.testing.assert_close(full @ Sigma, lam / 2 * torch.eye(n, dtype=F64), rtol=0, atol=1e-9)
    c = optimal_scale(t["M"], Sigma, lam)
    torch.testing.assert_close(2 * torch.trace(c * t["M"] @ Sigma), lam * n)


def test_optimal_rewards_of_a_batch() -> None:
    Sigma, lam = spd(0, 2, 3, n=4), 0.1 + normal(1, 2, 3).square()
    for structure in ("isotropic", "diagonal", "full"):
        U = optimal_reward(Sigma, lam, structure).U
        assert U.shape == (2, 3, 4, 4)
        torch.testing.assert_close(U[1, 2], optimal_reward(Sigma[1, 2], lam[1, 2], structure).U)
    assert optimal_scale(spd(2, 2, 3, n=4), Sigma, lam).shape == (2, 3)


def test_learned_reward_passes_gradients() -> None:
    factor = torch.linalg.cholesky(spd(0, n=2)).requires_grad_()
    MahalanobisReward(factor)(normal(1, 5, 2), normal(2, 5, 2)).sum().backward()
    assert factor.grad is not None
    assert bool(torch.isfinite(factor.grad).all())


def test_indefinite_matrices_show_their_eigenvalue() -> None:
    U = torch.diag(torch.tensor([1.0, -0.25], dtype=F64))
    with pytest.raises(NotPositiveDefiniteError, match=r"U .*smallest eigenvalue -0\.25") as caught:
        MahalanobisReward.full(U)
    assert "ridge" in str(caught.value)
    with pytest.raises(NotPositiveDefiniteError, match=r"Sigma .*smallest eigenvalue 0"):
        optimal_reward(torch.zeros(2, 2, dtype=F64), torch.tensor(1.0, dtype=F64))
    batch = torch.stack([torch.eye(2, dtype=F64), U])
    with pytest.raises(NotPositiveDefiniteError, match=r"-0\.25"):
        MahalanobisReward.full(batch)
    with pytest.raises(NotPositiveDefiniteError, match=r"M .*-0\.25"):
        optimal_scale(U, torch.eye(2, dtype=F64), torch.tensor(1.0, dtype=F64))


def test_asymmetric_matrices_show_the_asymmetry() -> None:
    U = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=F64)
    with pytest.raises(NotPositiveDefiniteError, match=r"not symmetric.*0\.5.*\(U \+ Uᵀ\)/2"):
        MahalanobisReward.full(U)
    with pytest.raises(NotPositiveDefiniteError, match=r"Sigma is not symmetric"):
        optimal_reward(U, torch.tensor(1.0, dtype=F64))


@pytest.mark.parametrize("lam", [0.0, -0.5])
def test_entropy_weight_must_be_positive(lam: float) -> None:
    eye = torch.eye(2, dtype=F64)
    with pytest.raises(InputError, match=rf"lam must be positive, got {lam:g}"):
        optimal_reward(eye, torch.tensor(lam, dtype=F64))
    with pytest.raises(InputError, match="lam must be positive"):
        optimal_scale(eye, eye, torch.tensor(lam, dtype=F64))
    with pytest.raises(InputError, match="u must be positive"):
        MahalanobisReward.scalar(torch.tensor(lam, dtype=F64), 2)
    with pytest.raises(InputError, match="u must be positive"):
        MahalanobisReward.diagonal(torch.tensor([1.0, lam], dtype=F64))


def test_nan_is_located() -> None:
    U = torch.eye(2, dtype=F64)
    U[0, 1] = U[1, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"U\[0, 1\] is nan \(2 of 4"):
        MahalanobisReward.full(U)
    with pytest.raises(NonFiniteError, match=r"u\[1\] is inf"):
        MahalanobisReward.diagonal(torch.tensor([1.0, float("inf")], dtype=F64))


@pytest.mark.usefixtures("as_users_run")
def test_a_weight_of_another_batch_is_refused() -> None:
    Sigma = spd(0, 2, n=3)
    with pytest.raises(ShapeError, match=r"lam has batch shape \(3,\), Sigma \(2,\)"):
        optimal_reward(Sigma, torch.ones(3, dtype=F64))
