"""The bounded reward: expectations, its inner solution, and where there is none."""

import math
import warnings
from dataclasses import dataclass
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize
from torch import Tensor

from paper_checks.conformance.strategies import Problem, problems
from paper_checks.conformance.tolerances import agree
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.rewards import bounded
from solvers.rewards.bounded import BoundedReward, NoGlobalMaximumWarning, NoLocalMaximumError
from solvers.training import inner
from solvers.training.estimators import Pathwise, ScoreFunction
from solvers.training.objectives import PolicyGradient
from tests.draws import F64

positive = st.floats(0.05, 20.0)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def solve(omega: float, lam: float, variance: float, n: int) -> float:
    """Return the variance of the solver's inner solution."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGlobalMaximumWarning)
        found = bounded.inner_solution(
            BoundedReward(number(omega)), number(lam), torch.zeros(n, dtype=F64), number(variance)
        )
    assert found.converged, f"stationarity {found.stationarity}"
    return float(found.value.scale[0] ** 2)


def log_h(s: Any, omega: Any, variance: Any, n: int) -> Any:
    """`log 2s + (n/2) log ω - (n/2 + 1) log(ω + 2s + 2β²)`, in the digits of mpmath."""
    half, total = mpmath.mpf(n) / 2, mpmath.mpf(omega) + 2 * mpmath.mpf(s) + 2 * variance
    return mpmath.log(2 * s) + half * mpmath.log(omega) - (half + 1) * mpmath.log(total)


WIDTHS = [(1.3, 0.4), (40.0, 0.01), (1e200, 1e199), (1e-200, 1e-200)]


@pytest.mark.parametrize("n", [1, 2, 255, 256, 400, 3000, 10**6])
@pytest.mark.parametrize(("omega", "variance"), WIDTHS)
def test_the_critical_weight_of_many_dimensions(n: int, omega: float, variance: float) -> None:
    found = float(bounded.critical_lam(omega, variance, n))
    with mpmath.workdps(50):
        peak = (mpmath.mpf(omega) + 2 * mpmath.mpf(variance)) / n
        want = float(mpmath.exp(log_h(peak, omega, variance, n)))
    assert found == pytest.approx(want, rel=1e-15 * n + 1e-13, abs=1e-310)  # below 1e-308: few bits


@pytest.mark.parametrize("n", [1, 255, 256, 400])
@pytest.mark.parametrize(("omega", "variance"), WIDTHS)
@pytest.mark.parametrize("share", [1e-6, 0.5, 0.99])
def test_the_solution_of_many_dimensions(n, omega, variance, share) -> None:
    lam = share * float(bounded.critical_lam(omega, variance, n))
    s = solve(omega, lam, variance, n)
    peak = (omega + 2 * variance) / n
    assert 0 < s < peak
    slope = (peak / s - 1) / (peak / s + 2 / n)  # of log h in log s
    with mpmath.workdps(50):
        gap = float(mpmath.log(lam) - log_h(s, omega, variance, n))
    assert abs(gap / slope) < 1e-11


def test_where_no_weight_is_small_enough_the_width_is_named() -> None:
    with pytest.raises(NoLocalMaximumError, match=r"only below 0 .* or a larger omega"):
        solve(0.001, 1e-9, 0.4, 400)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)


def objective(s: Any, omega: float, lam: float, variance: float, n: int) -> Any:
    """`J(s)` at the mean of the data, by quadrature over the radius of `ŷ - y`."""
    total = np.asarray(s)[..., None] + variance
    radius = np.sqrt(total) * 6 * (NODES + 1)
    surface = 2 * math.pi ** (n / 2) / math.gamma(n / 2)
    density = surface * radius ** (n - 1) * np.exp(-(radius**2) / (2 * total))
    density /= (2 * math.pi * total) ** (n / 2)
    expected = (WEIGHTS * 6 * np.sqrt(total) * density * np.exp(-(radius**2) / omega)).sum(-1)
    return expected + lam * n / 2 * np.log(2 * math.pi * math.e * np.asarray(s))


@pytest.mark.gate
@given(problem=problems(3), omega=positive)
def test_expected_reward_is_its_quadrature(problem: Problem, omega: float) -> None:
    """Principal axes of `P + Σ` separate the integral into one-dimensional ones."""
    t = problem.tensors()
    law = Gaussian(t["m"], torch.linalg.cholesky(t["P"]))
    got = BoundedReward(number(omega)).expected(
        law, Gaussian(t["mu"], torch.linalg.cholesky(t["Sigma"]))
    )
    spread, axes = np.linalg.eigh(problem.P + problem.Sigma)
    offset = axes.T @ (problem.m - problem.mu)
    want = 1.0
    for delta, variance in zip(offset, spread, strict=True):

        def integrand(z: float, delta: float = delta, variance: float = variance) -> float:
            return math.exp(-((z - delta) ** 2) / (2 * variance) - z**2 / omega)

        peak, width = delta * omega / (omega + 2 * variance), math.sqrt(variance)
        narrow = math.sqrt(omega * variance / (omega + 2 * variance))
        value, _ = integrate.quad(
            integrand, peak - 12 * narrow, peak + 12 * narrow, epsabs=0, epsrel=1e-11
        )
        want *= value / (width * math.sqrt(2 * math.pi))
    agree("E exp(-‖ŷ-y‖²/ω)", got, want, rtol=1e-8, inputs=(problem, omega))


@pytest.mark.gate
@given(omega=positive, variance=positive, n=st.integers(1, 5), share=st.floats(0.01, 0.98))
def test_inner_solution_is_a_local_maximum(
    omega: float, variance: float, n: int, share: float
) -> None:
    """It is the numerical maximiser of `J` between 0 and `s̄`."""
    lam = share * float(bounded.critical_lam(number(omega), number(variance), n))
    s = solve(omega, lam, variance, n)
    top = (omega + 2 * variance) / n
    inputs = {"omega": omega, "lam": lam, "variance": variance, "n": n}
    found = optimize.minimize_scalar(
        lambda s: -float(objective(s, omega, lam, variance, n)),
        bounds=(1e-9 * top, top),
        method="bounded",
        options={"xatol": 1e-12 * top},
    )
    # the search compares values of J, which resolve s to the root of the machine precision
    agree("s* maximises J", s, found.x, rtol=1e-4, scale=1e-4 * top, inputs=inputs)


@given(omega=positive, variance=positive, n=st.integers(1, 5))
def test_no_local_maximum_above_the_critical_weight(omega: float, variance: float, n: int) -> None:
    """Above `λ_c` the objective rises everywhere; below, it falls somewhere."""
    limit = float(bounded.critical_lam(number(omega), number(variance), n))
    grid = (omega + 2 * variance) / n * np.exp(np.linspace(-3, 3, 121))
    slopes = [np.diff(objective(grid, omega, share * limit, variance, n)) for share in (1.05, 0.9)]
    assert (slopes[0] > 0).all()
    assert (slopes[1] < 0).any()
    with pytest.raises(NoLocalMaximumError, match=r"only below .*pass a smaller lam"):
        solve(omega, 1.0001 * limit, variance, n)


def test_the_warning_and_the_batch() -> None:
    omega = torch.tensor([2.0, 4.0], dtype=F64)
    reward = BoundedReward(omega)
    lam, variance = number(0.05), torch.tensor([0.5, 1.0], dtype=F64)
    mu = torch.arange(6.0, dtype=F64).reshape(2, 3)
    with pytest.warns(NoGlobalMaximumWarning, match="a local maximum only"):
        both = bounded.inner_solution(reward, lam, mu, variance)
    assert both.converged
    assert torch.equal(both.value.mean, mu)
    for k in range(2):
        alone = solve(float(omega[k]), 0.05, float(variance[k]), 3)
        assert float(both.value.scale[k, 0] ** 2) == pytest.approx(alone, rel=1e-12)


def test_critical_weight_against_the_theory_sheet_in_two_dimensions() -> None:
    """n = 2: `λ_c = ω / (4 (ω + 2β²))`."""
    for omega, variance in product((0.5, 3.0), (0.1, 2.0)):
        got = bounded.critical_lam(number(omega), number(variance), 2)
        assert float(got) == pytest.approx(omega / (4 * (omega + 2 * variance)), rel=1e-14)


@pytest.mark.parametrize("omega", [0.0, -1.0, math.nan])
def test_the_width_is_positive(omega: float) -> None:
    with pytest.raises(InputError, match="omega"):
        BoundedReward(number(omega))


def test_a_width_for_each_mean_of_the_data() -> None:
    """Each row of the batch is what it is alone, where the policy has none."""
    law = Gaussian(torch.tensor([0.1, 0.4], dtype=F64), torch.tensor([0.5, 0.9], dtype=F64))
    Sigma = torch.tensor([[0.6, 0.1], [0.1, 0.3]], dtype=F64)
    mu = torch.tensor([[0.3, -0.2], [0.0, 1.0], [2.0, 0.5]], dtype=F64)
    omega = torch.tensor([0.8, 1.5, 3.0], dtype=F64)
    data = [Gaussian(m, torch.linalg.cholesky(Sigma)) for m in mu]
    found = BoundedReward(omega).expected(law, Gaussian.cholesky(mu, data[0].scale))
    alone = [BoundedReward(w).expected(law, q) for w, q in zip(omega, data, strict=True)]
    torch.testing.assert_close(found, torch.stack(alone))


def test_the_reward_is_of_the_difference() -> None:
    generation, y = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([0.5, 3.0])
    expected = torch.tensor([math.exp(-1.25 / 2), math.exp(-4.25 / 2)])
    assert torch.allclose(BoundedReward(2.0)(generation, y), expected)


def test_training_reaches_the_inner_solution() -> None:
    """From within the basin, on outcomes that stand for the data law one by one."""
    omega, n = 4.0, 2
    policy = GaussianPolicy(1, n, "isotropic")
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(5, n, generator=generator, dtype=F64)
    data = Dataset.of(torch.zeros(1, 1, dtype=F64), y[None])
    start = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    trained = inner.gradient(
        policy, start, PolicyGradient(BoundedReward(number(omega)), number(0.05)), data
    )
    assert trained.converged
    law = policy(trained.value, data.x)
    s = float(law.scale[0, 0] ** 2)

    def J(theta: np.ndarray) -> float:
        width = omega + 2 * math.exp(theta[2])
        gaps = ((theta[:2] - y.numpy()) ** 2).sum(1)
        reward = (omega / width) * np.exp(-gaps / width).mean()
        return -(reward + 0.05 * theta[2])

    found = optimize.minimize(J, np.array([*y.mean(0).tolist(), 0.0]), tol=1e-12).x
    assert s == pytest.approx(math.exp(found[2]), rel=1e-5)
    assert law.mean[0].tolist() == pytest.approx(found[:2].tolist(), abs=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("estimator", [ScoreFunction(4), Pathwise(4)])
def test_sampled_gradients_are_the_analytic_one_on_average(estimator, full: bool) -> None:
    members, n = 60_000, 2
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([[0.7, 0.0], [0.3, 0.9]] if full else [0.7, 0.9], dtype=F64)
    leaves = [
        t.expand(members, 1, *t.shape).clone().requires_grad_()
        for t in (torch.tensor([0.4, -0.2], dtype=F64), scale)
    ]
    y = torch.randn(1, 3, n, generator=generator, dtype=F64)
    data = Dataset.of(torch.zeros(1, 1, dtype=F64), y)
    reward = BoundedReward(torch.full((members,), 2.0, dtype=F64))
    noise = _Shared(generator, members)
    sampled = estimator(Gaussian(*leaves), data, reward, noise)
    slopes = torch.autograd.grad(sampled.sum(), leaves)
    one = [leaf[0].detach().clone().requires_grad_() for leaf in leaves]
    exact = BoundedReward(number(2.0)).expected(Gaussian(*one), data)
    wants = torch.autograd.grad(exact.sum(), one)
    for got, want in zip(slopes, wants, strict=True):
        error = got.std(0) / math.sqrt(members)
        kept = want.tril() if full and want.ndim == 3 else want
        mean = got.mean(0).tril() if full and want.ndim == 3 else got.mean(0)
        assert bool(((mean - kept).abs() <= 5 * error + 1e-12).all())


@dataclass(frozen=True)
class _Shared:
    """Noise of many members from one generator."""

    generator: torch.Generator
    members: int

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn((self.members, *shape), generator=self.generator, dtype=dtype)
