"""Identities of the policy gradient: each estimator against the derived gradient of `J`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import integrate
from scipy.stats import chi2
from torch import Tensor

from analysis.reference import group_deviation
from paper_checks.conformance import derived, identities, witnesses
from paper_checks.conformance.derived import PolicyGradient
from paper_checks.conformance.strategies import Problem, Sizes
from paper_checks.conformance.tolerances import agree, agree_on_average, closed_form
from solvers.data import Dataset
from solvers.families.baselines import Baseline
from solvers.families.gaussian import Gaussian
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import objectives
from solvers.training.estimators import Analytic, ScoreFunction
from tests.gate.identities.common import data_with_moments


def derived_policy_gradient(problem: Problem, reward_weight: float = 1.0) -> PolicyGradient:
    """Return the derived gradient of `J` in `(m, L)`, the reward's part times `reward_weight`."""
    reward, entropy = derived.policy_gradient(problem)
    return reward_weight * reward + entropy


def solver_gradient(problem: Problem, estimator: Any, data: Dataset, noise: Any) -> Any:
    """Return the gradient of a `PolicyGradient` objective in `(m, S)`, batch leading."""
    t = problem.tensors()
    batch = () if noise is None else noise.noise.shape[: noise.noise.ndim - 4]
    mean = t["m"].expand(*batch, 1, -1).clone().requires_grad_()
    scale = torch.linalg.cholesky(t["P"]).expand(*batch, 1, -1, -1).clone().requires_grad_()
    objective = objectives.PolicyGradient(MahalanobisReward.full(t["U"]), t["lam"], estimator)
    loss = objective(Gaussian(mean, scale), data, noise)
    slopes = torch.autograd.grad(-loss.sum(), [mean, scale])
    return slopes[0][..., 0, :], slopes[1][..., 0, :, :].tril()


def analytic_gradient(problem: Problem) -> None:
    """The analytic estimator's gradient is the derived one."""
    got = solver_gradient(problem, Analytic(), data_with_moments(problem), None)
    want = derived_policy_gradient(problem)
    scale = float(np.abs(problem.U).max() * (1 + np.abs(problem.m - problem.mu).max()))
    for name, g, w in zip(("m", "S"), got, (want.m, want.L), strict=True):
        rtol = closed_form(problem.P)
        agree(f"∂J/∂{name}, analytic", g, w, rtol=rtol, scale=scale, inputs=problem)


def one_outcome(problem: Problem) -> Dataset:
    """Return data with a single outcome, at `μ`."""
    y = problem.tensors()["mu"][None, None]
    return Dataset.of(torch.zeros(1, 1, dtype=torch.float64), y)


def expected_score_gradient(problem: Problem, M: int, baseline: Baseline) -> None:
    """Exact expectation of a score-function gradient, by quadrature over the noise.

    The integrand is a polynomial of degree at most 4 in the noise of each generation, so rules of
    degree 5 are exact. The group mean scales the reward's part by `(M-1)/M`; no baseline and
    leave-one-out leave it unbiased.
    """

    def estimates(epsilon: np.ndarray) -> Any:
        """All nodes at once: `(K, M, n)` is `(K, n, M, 1, 1)` to the solver."""
        noise = torch.as_tensor(epsilon).mT[..., None, None]
        source = witnesses.FixedNoise(noise)
        return solver_gradient(problem, ScoreFunction(M, baseline), one_outcome(problem), source)

    got = identities.expectation(estimates, problem.n, M)
    want = derived_policy_gradient(problem, (M - 1) / M if baseline == "mean" else 1.0)
    for part in ("m", "L"):
        name = f"E ∂J/∂{part}, score function, baseline {baseline}, M = {M}"
        identities.agree_on_policy_gradient(name, part, got, want, problem, problem)


def sampled_score_gradient(problem: Problem, M: int, baseline: Baseline, seed: int) -> None:
    """The mean of many sampled gradients is the derived one (z-test), for any n."""
    draws = 4000
    generator = torch.Generator().manual_seed(seed)
    shape = (draws, problem.n, M, 1, 1)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    got = solver_gradient(
        problem, ScoreFunction(M, baseline), one_outcome(problem), witnesses.FixedNoise(noise)
    )
    want = derived_policy_gradient(problem, (M - 1) / M if baseline == "mean" else 1.0)
    agree_on_average(f"E ∂J/∂m, {baseline}, M = {M}", got[0], want.m, inputs=problem)
    rows, columns = np.tril_indices(problem.n)
    agree_on_average(
        f"E ∂J/∂S, {baseline}, M = {M}",
        got[1][:, rows, columns],
        want.L[rows, columns],
        inputs=problem,
    )


def score_gradient_by_definition(sizes: Sizes, baseline: Baseline, full: bool, seed: int) -> None:
    """One sampled gradient is REINFORCE: autograd on `Σ advantage * log p`, on the same noise."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    b, N, S, M, n = sizes.members, sizes.rows, sizes.samples, sizes.generations, sizes.n
    data = Dataset.of(normal(b, N, sizes.inputs), normal(b, N, S, n))
    mean = normal(b, N, n).requires_grad_()
    if full:
        lower = normal(b, N, n, n).tril(-1) + torch.diag_embed(0.5 + normal(b, N, n).square())
    else:
        lower = 0.5 + normal(b, N, n).square()
    scale = lower.requires_grad_()
    cholesky = normal(b, n, n).tril(-1) + torch.diag_embed(0.5 + normal(b, n).square())
    reward = MahalanobisReward(cholesky)
    noise = witnesses.FixedNoise(normal(b, n, M, S, N))
    surrogate = ScoreFunction(M, baseline)(Gaussian(mean, scale), data, reward, noise)
    got = torch.autograd.grad(surrogate.sum(), [mean, scale])
    for member in range(b):
        L = scale[member] if full else torch.diag_embed(scale[member])
        epsilon = noise.noise[member].permute(3, 2, 1, 0)
        generations = mean[member][:, None, None] + torch.einsum("Nij,NSMj->NSMi", L, epsilon)
        r = witnesses.reward(generations, data.y[member][:, :, None], reward.U[member])
        if baseline == "leave-one-out":
            others = [torch.cat([r[..., :k], r[..., k + 1 :]], -1).mean(-1) for k in range(M)]
            r = r - torch.stack(others, -1)
        elif baseline == "mean":
            r = r - r.mean(-1, keepdim=True)
        elif baseline == "minimum":
            r = r - r.min(-1, keepdim=True).values
        elif baseline == "standardised":
            pairs = (r.unsqueeze(-1) - r.unsqueeze(-2)).square().sum((-2, -1))
            deviation = (pairs / (2 * M * (M - 1))).sqrt().unsqueeze(-1)
            r = (r - r.mean(-1, keepdim=True)) / deviation
        want = witnesses.reinforce(mean[member], L, generations.detach(), r.detach())
        in_scale = want[1].tril() if full else want[1].diagonal(dim1=-2, dim2=-1)
        inputs = f"{sizes}, member {member}, seed {seed}"
        agree(f"REINFORCE in m, {baseline}", got[0][member], want[0], rtol=1e-9, inputs=inputs)
        scaled = got[1][member].tril() if full else got[1][member]
        agree(f"REINFORCE in S, {baseline}", scaled, in_scale, rtol=1e-9, inputs=inputs)


def minimum_shift_gradient(n: int, M: int, seed: int) -> None:
    """The published minimum shift shrinks the pull on the scale by `1 - E[max χ²_n]/(nM)`.

    Subtracting `b(ŷ_1..ŷ_M)` from every reward changes the expected gradient to
    `∇(E r - E b / M)`. At `m = y` and `S = sI` the minimum of `-u s² χ²_n` over `M` draws is
    `-u s² max χ²_n`, so the slope in `log s` of the reward's part is
    `-2us²(n - E[max χ²_n]/M)`. `E max` is found by quadrature of `1 - CDF^M`.
    """
    u, s = 0.7, 1.3
    expected_max, _ = integrate.quad(lambda q: 1 - chi2.cdf(q, n) ** M, 0, np.inf)
    want = -2 * u * s**2 * (n - expected_max / M)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((200_000, n, M, 1, 1), generator=generator, dtype=torch.float64)
    scale = torch.full((1, n), s, dtype=torch.float64)
    log_scale = scale.log().expand(200_000, 1, n).clone().requires_grad_()
    mean = torch.zeros(200_000, 1, n, dtype=torch.float64)
    data = Dataset.of(mean[0], mean[0, :, None])
    reward = MahalanobisReward.scalar(torch.tensor(u, dtype=torch.float64), n)
    law, source = Gaussian(mean, log_scale.exp()), witnesses.FixedNoise(noise)
    surrogate = ScoreFunction(M, "minimum")(law, data, reward, source)
    (slopes,) = torch.autograd.grad(surrogate.sum(), log_scale)
    name = f"slope of the minimum shift in log s, n = {n}, M = {M}"
    agree_on_average(name, slopes.sum((-2, -1)), want, inputs=f"u = {u}, s = {s}, seed {seed}")


def standardised_slope(n: int, u: float, seed: int) -> None:
    """The slope of standardised advantages in log s is `-λn`, `λ` derived, whatever `u` is."""
    s, M, draws = 1.4, 2000, 2000
    m, y = np.full(n, 0.3), np.linspace(-0.5, 0.7, n)
    at = {"m": m, "y": y} if n > 1 else {"m": float(m[0]), "y": float(y[0])}
    lam = group_deviation.entropy_weight(n).at("derived", **at, s=s**2)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((draws, n, M, 1, 1), generator=generator, dtype=torch.float64)
    log_scale = torch.full((draws, 1, 1), np.log(s), dtype=torch.float64, requires_grad=True)
    mean = torch.as_tensor(m).expand(draws, 1, n)
    data = Dataset.of(torch.zeros(1, 1, dtype=torch.float64), torch.as_tensor(y)[None, None])
    reward = MahalanobisReward.scalar(torch.tensor(u, dtype=torch.float64), n)
    law = Gaussian(mean, log_scale.exp().expand(draws, 1, n))
    surrogate = ScoreFunction(M, "standardised")(law, data, reward, witnesses.FixedNoise(noise))
    (slopes,) = torch.autograd.grad(surrogate.sum(), log_scale)
    name = f"slope of standardised advantages in log s, n = {n}"
    agree_on_average(name, slopes[:, 0, 0], -lam * n, inputs=f"u = {u}, s = {s}, seed {seed}")
