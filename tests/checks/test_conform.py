"""`conform` tells right solvers from wrong ones, and says which identity fails and where."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from paper_checks.conformance import Report, conform
from paper_checks.conformance.identities import HYPERGRADIENT, INNER
from paper_checks.conformance.witnesses import FixedNoise, noise_rule
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.estimators import ScoreFunction
from tests.gate.identities import inner, outer

Array = np.ndarray
SPD, IS_DERIVED, MAXIMISES = (identity.name for identity in INNER)
SYMMETRIC, DIRECT, IMPLICIT, MEASURED, VANISHES = (identity.name for identity in HYPERGRADIENT)
IN_MEAN, IN_FACTOR = "E g_m = ∂E r/∂m", "E g_L = ∂E r/∂L"
IN_LARGE = "E g = ∂E r on average, M = 64"
STRUCTURES = ("isotropic", "diagonal", "full")


def names(report: Report) -> list[str]:
    """The identities that fail."""
    return [row.identity for row in report.failures]


def inverse(U: Array, lam: float) -> Array:
    return lam / 2 * np.linalg.inv(U)


def shaped(U: Array, lam: float, structure: str) -> Array:
    """The inner solution of every structure."""
    n = len(U)
    if structure == "isotropic":
        return lam * n / (2 * np.trace(U)) * np.eye(n)
    return lam / 2 * np.linalg.inv(np.diag(np.diag(U)) if structure == "diagonal" else U)


def gradient(U: Array, Sigma: Array, lam: float) -> Array:
    return np.linalg.inv(U) / 2 - Sigma / lam


def shaped_gradient(lam: float, Sigma: Array, U: Array, structure: str = "full") -> Array:
    """The hypergradient of every structure, its parameters in another order."""
    n = len(U)
    if structure == "isotropic":
        return (n / (2 * np.trace(U)) - np.trace(Sigma) / (lam * n)) * np.eye(n)
    if structure == "diagonal":
        return np.diag(1 / (2 * np.diag(U)) - np.diag(Sigma) / lam)
    return gradient(U, Sigma, lam)


def reinforce(
    m: Array, L: Array, U: Array, y: Array, epsilon: Array, baseline: str = "leave-one-out"
) -> tuple[Array, Array]:
    """The score-function estimator."""
    M, error = len(epsilon), m + epsilon @ L.T - y
    r = -np.einsum("ki,ij,kj->k", error, U, error)
    if baseline == "minimum":
        r = r - r.min()
    elif baseline != "none":
        r = (r - r.mean()) * (M / (M - 1) if baseline == "leave-one-out" else 1)
    scores = epsilon[:, :, None] * epsilon[:, None] - np.eye(len(m))
    weighted = np.einsum("k,kij->ij", r, scores) / M
    return np.linalg.solve(L.T, r @ epsilon / M), np.tril(np.linalg.solve(L.T, weighted))


def by_others(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    """The score function with the optimal baselines of the other generations, one per entry."""
    error = m + epsilon @ L.T - y
    r = -np.einsum("ki,ij,kj->k", error, U, error)

    def entry(score: Array) -> Array:
        """Baselines are 0/0 only where the scores of all others are 0."""
        squares = score.reshape(len(r), -1) ** 2
        rewards = r[:, None] * squares
        b = (rewards.sum(0) - rewards) / (squares.sum(0) - squares)
        return ((r[:, None] - b) * score.reshape(len(r), -1)).mean(0).reshape(score.shape[1:])

    scores = epsilon[:, :, None] * epsilon[:, None] - np.eye(len(m))
    return np.linalg.solve(L.T, entry(epsilon)), np.tril(np.linalg.solve(L.T, entry(scores)))


def median_of_others(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    """The score function with a baseline that is no polynomial of the others' noise."""
    error = m + epsilon @ L.T - y
    r = -np.einsum("ki,ij,kj->k", error, U, error)
    r = r - [np.median(np.delete(r, k)) for k in range(len(r))]
    scores = epsilon[:, :, None] * epsilon[:, None] - np.eye(len(m))
    weighted = np.einsum("k,kij->ij", r, scores) / len(r)
    return np.linalg.solve(L.T, r @ epsilon / len(r)), np.tril(np.linalg.solve(L.T, weighted))


def antithetic(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> list[Array]:
    """Its slope in the mean has no variance, only rounding."""
    return pathwise(m, L, U, y, 1, np.concatenate([epsilon, -epsilon]))


def integrated(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    """The gradient itself, whatever the noise."""
    return -2 * U @ (m - y), np.tril(-2 * U @ L)


def pathwise(m: Array, L: Array, U: Array, y: Array, lam: float, epsilon: Array) -> list[Array]:
    """The reparametrised estimator, as a list and with a parameter it does not need."""
    assert lam > 0
    slopes = -2 * (m + epsilon @ L.T - y) @ U
    return [slopes.mean(0), np.tril(slopes.T @ epsilon / len(epsilon))]


def own_estimator(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    """This project's estimator."""
    law = Gaussian(*(torch.tensor(a[None], requires_grad=True) for a in (m, L)))
    data = Dataset.of(torch.zeros(1, 1, dtype=torch.float64), torch.tensor(y[None, None]))
    noise = FixedNoise(torch.tensor(epsilon.T[:, :, None, None]))
    reward = MahalanobisReward.full(torch.tensor(U))
    surrogate = ScoreFunction(len(epsilon))(law, data, reward, noise)
    in_mean, in_scale = torch.autograd.grad(surrogate.sum(), [law.mean, law.scale])
    return in_mean[0].numpy(), in_scale[0].tril().numpy()


@pytest.mark.parametrize(
    ("solve", "rows"),
    [
        (inverse, 4),
        (shaped, 12),
        (inner.covariance, 12),
        (gradient, 6),
        (shaped_gradient, 18),
        (outer.slope, 18),
        (reinforce, 4),
        (partial(reinforce, baseline="none"), 4),
        (by_others, 4),
        (median_of_others, 4),
        (pathwise, 4),
        (antithetic, 4),
        (integrated, 4),
        (own_estimator, 4),
    ],
)
def test_right_solvers_pass(solve: Callable[..., Any], rows: int) -> None:
    report = conform(solve, examples=5)
    assert report.passed, str(report)
    assert len(report.rows) == rows
    assert min(row.examples for row in report.rows) >= 1


@pytest.mark.parametrize(
    ("solve", "fail"),
    [
        (lambda U, lam: 2 * inverse(U, lam), [IS_DERIVED, MAXIMISES]),
        (lambda U, lam: -inverse(U, lam), [SPD, IS_DERIVED, MAXIMISES]),
        (lambda U, lam: np.tril(inverse(U, lam)), [SPD, IS_DERIVED, MAXIMISES]),
        (lambda U, lam: np.diag(lam / 2 / np.diag(U)), [IS_DERIVED, MAXIMISES]),
        (
            lambda U, lam: inverse(U.astype(np.float32), lam).astype(np.float64),
            [IS_DERIVED, MAXIMISES],
        ),
        (
            lambda U, lam, structure: (
                shaped(U, lam, structure) / (len(U) if structure == "isotropic" else 1)
            ),
            [IS_DERIVED, MAXIMISES],
        ),
        (lambda U, lam, structure="full": inverse(U, lam), 2 * [IS_DERIVED, MAXIMISES]),
    ],
    ids=["λ for λ/2", "sign", "triangle", "diagonal", "float32", "n forgotten", "always full"],
)
def test_wrong_inner_solutions_fail(solve: Callable[..., Any], fail: list[str]) -> None:
    report = conform(solve)
    assert names(report) == fail, str(report)
    for row in report.failures:
        assert row.message is not None
        for part in ("got", "expected", "inputs   U = [[", "lam = "):
            assert part in row.message
        if row.identity != SPD:
            assert row.identity in row.message
            assert "> tolerance" in row.message


@pytest.mark.parametrize(
    ("solve", "fail"),
    [
        (lambda U, Sigma, lam: gradient(U, Sigma, lam / 2), [DIRECT, IMPLICIT, MEASURED, VANISHES]),
        (
            lambda U, Sigma, lam: gradient(U, Sigma, lam) + np.triu(np.ones_like(U), 1),
            [SYMMETRIC, DIRECT, IMPLICIT, MEASURED, VANISHES],
        ),
        # off-diagonal entries counted twice: the gradient in vech(U)
        (
            lambda U, Sigma, lam: gradient(U, Sigma, lam) * (2 - np.eye(len(U))),
            [DIRECT, IMPLICIT, MEASURED],
        ),
        # the right zero with the wrong slope
        (
            lambda U, Sigma, lam: lam * U @ gradient(U, Sigma, lam) @ U,
            [DIRECT, IMPLICIT, MEASURED],
        ),
        # -G, a loss for a gain
        (lambda U, Sigma, lam: -gradient(U, Sigma, lam), [DIRECT, IMPLICIT, MEASURED]),
    ],
    ids=["λ/2 for λ", "not symmetric", "vech", "preconditioned", "loss"],
)
def test_wrong_hypergradients_fail(solve: Callable[..., Any], fail: list[str]) -> None:
    report = conform(solve)
    assert names(report) == fail, str(report)
    for row in report.failures:
        assert row.message is not None
        for part in (row.identity, "got", "> tolerance", "inputs   U = [[", "Sigma = [[", "lam = "):
            assert part in row.message


def without_entropy_of_scale(
    m: Array, L: Array, U: Array, y: Array, epsilon: Array
) -> tuple[Array, Array]:
    """A score of the factor without its `-I`: what is unbiased in the mean only."""
    in_mean, in_factor = reinforce(m, L, U, y, epsilon, baseline="none")
    error = m + epsilon @ L.T - y
    r = -np.einsum("ki,ij,kj->k", error, U, error).mean()
    return in_mean, in_factor + np.tril(r * np.linalg.inv(L).T)


def other_factor(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    """`ŷ = m + Lᵀε`: the same law for n = 1 only."""
    return reinforce(m, L.T, U, y, epsilon)


@pytest.mark.parametrize(
    ("estimate", "fail"),
    [
        (partial(reinforce, baseline="mean"), [IN_MEAN, IN_FACTOR]),
        (partial(reinforce, baseline="minimum"), [IN_MEAN, IN_FACTOR]),
        (without_entropy_of_scale, [IN_FACTOR, IN_LARGE]),
        (other_factor, [IN_FACTOR, IN_LARGE]),
        (
            lambda m, L, U, y, epsilon: tuple(
                len(epsilon) * g for g in pathwise(m, L, U, y, 1, epsilon)
            ),
            [IN_MEAN, IN_FACTOR, IN_LARGE],
        ),
        (
            lambda m, L, U, y, epsilon: pathwise(m, L, U, 0 * y, 1, epsilon),
            [IN_MEAN, IN_LARGE],
        ),
    ],
    ids=["group mean", "minimum", "score without -I", "Lᵀ for L", "sum for mean", "data ignored"],
)
def test_biased_estimators_fail(estimate: Callable[..., Any], fail: list[str]) -> None:
    report = conform(estimate)
    assert names(report) == fail, str(report)
    for row in report.failures:
        assert row.message is not None
        got = "mean" if row.identity == IN_LARGE else "got"
        for part in (row.identity, "M = ", got, "> tolerance", "m = [", "L = [[", "y = ["):
            assert part in row.message


def without_far(limit: float) -> Callable[..., Any]:
    """Drops generations whose noise is beyond a limit, where any is left."""

    def estimate(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> list[Array]:
        near = (np.abs(epsilon) < limit).all(1)
        return pathwise(m, L, U, y, 1, epsilon[near] if near.any() else epsilon)

    return estimate


def clipped(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> list[Array]:
    return pathwise(m, L, U, y, 1, np.clip(epsilon, -2, 2))


def clipped_score(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> tuple[Array, Array]:
    in_mean, _ = reinforce(m, L, U, y, epsilon)
    error = m + epsilon @ L.T - y
    r = -np.einsum("ki,ij,kj->k", error, U, error)
    r = (r - r.mean()) * len(r) / (len(r) - 1)
    scores = epsilon[:, :, None] * epsilon[:, None]
    scores = np.where(np.eye(len(m)), np.clip(scores, 0, 4), scores) - np.eye(len(m))
    weighted = np.einsum("k,kij->ij", r, scores) / len(r)
    return in_mean, np.tril(np.linalg.solve(L.T, weighted))


@pytest.mark.parametrize(
    "estimate",
    [without_far(2), without_far(3), without_far(4), clipped, clipped_score],
    ids=["beyond 2", "beyond 3", "beyond 4", "clipped", "clipped score"],
)
def test_what_cuts_off_noise_fails(estimate: Callable[..., Any]) -> None:
    """The last of them is off by a thousandth of the gradient."""
    report = conform(estimate)
    assert IN_FACTOR in names(report)
    assert "with other nodes the mean is another" in str(report)
    assert "with other nodes" not in str(conform(other_factor))


def test_what_happens_in_large_groups_only_fails() -> None:
    """No reward lies 3 standard deviations from the mean of 10 or fewer."""

    def without_outliers(m: Array, L: Array, U: Array, y: Array, epsilon: Array) -> list[Array]:
        error = m + epsilon @ L.T - y
        r = -np.einsum("ki,ij,kj->k", error, U, error)
        return pathwise(m, L, U, y, 1, epsilon[np.abs(r - r.mean()) <= 3 * r.std() + 1e-9])

    report = conform(without_outliers)
    assert names(report) == [IN_LARGE]
    assert "(5.0 standard errors)" in str(report)


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("estimate", [reinforce, pathwise, by_others])
def test_right_estimators_pass_at_every_seed(estimate: Callable[..., Any], seed: int) -> None:
    report = conform(estimate, seed=seed, examples=16)
    assert report.passed, str(report)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_rules_of_noise_have_its_moments(n: int, seed: int) -> None:
    """`E ε^k = (k - 1)!!` for even k, in all products of degree at most 5."""
    nodes, weights = noise_rule(n, np.random.default_rng(seed))
    moments = (1, 0, 1, 0, 3, 0)
    for powers in product(range(6), repeat=n):
        if sum(powers) <= 5:
            got = weights @ np.prod(nodes**powers, axis=1)
            assert got == pytest.approx(np.prod([moments[k] for k in powers]), abs=1e-12)
    assert weights.min() > 0
    assert np.abs(nodes).min() > 0


def test_rules_of_noise_reach_far() -> None:
    rules = (noise_rule(1, np.random.default_rng(seed))[0].max() for seed in range(25))
    assert max(rules) > 4


def test_failing_inputs_are_the_smallest() -> None:
    """n = 1 where that fails, else n = 2."""
    for row in conform(lambda U, lam: lam * np.linalg.inv(U)).failures:
        assert row.message is not None
        got = row.message.split("got", 1)[1].splitlines()[0]
        assert "," not in got
        assert row.examples == 1
    for row in conform(lambda U, lam: np.diag(lam / 2 / np.diag(U))).failures:
        assert row.message is not None
        assert row.message.split("got", 1)[1].splitlines()[0].count("[") == 3
