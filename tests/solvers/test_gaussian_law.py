"""The Gaussian law against `torch.distributions`."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, MultivariateNormal, Normal

from solvers.data import TwoMoments
from solvers.errors import ShapeError
from solvers.families.gaussian import Gaussian
from tests.draws import normal

BATCHES = [(), (4,), (2, 3)]


def laws(full: bool, n: int, batch: tuple[int, ...], seed: int) -> tuple[Gaussian, Independent]:
    mean = normal(seed, *batch, n)
    deviations = 0.3 + normal(seed + 1, *batch, n).square()
    if not full:
        return Gaussian(mean, deviations), Independent(Normal(mean, deviations), 1)
    scale = normal(seed + 2, *batch, n, n).tril(-1) + torch.diag_embed(deviations)
    return Gaussian(mean, scale), Independent(MultivariateNormal(mean, scale_tril=scale), 0)


@pytest.mark.gate
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@given(n=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_agrees_with_torch(full: bool, batch: tuple[int, ...], n: int, seed: int) -> None:
    law, want = laws(full, n, batch, seed)
    y = normal(seed + 3, *batch, n)
    torch.testing.assert_close(law.log_prob(y), want.log_prob(y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.entropy(), want.entropy())
    torch.testing.assert_close(law.standard_deviations(), want.stddev)
    torch.testing.assert_close(law.covariance.diagonal(dim1=-2, dim2=-1), want.variance)
    assert law.n == n
    assert law.full == full


@pytest.mark.gate
@pytest.mark.parametrize("batch", BATCHES)
def test_covariance_of_a_cholesky_factor(batch: tuple[int, ...]) -> None:
    law, _ = laws(True, 3, batch, 0)
    want = MultivariateNormal(law.mean, scale_tril=law.scale).covariance_matrix
    torch.testing.assert_close(law.covariance, want)
    diagonal, _ = laws(False, 3, batch, 0)
    torch.testing.assert_close(diagonal.covariance, torch.diag_embed(diagonal.scale.square()))


@pytest.mark.gate
@pytest.mark.parametrize("full", [False, True])
@given(n=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_cross_entropy_is_the_mean_of_minus_log_prob(full: bool, n: int, seed: int) -> None:
    law, _ = laws(full, n, (3,), seed)
    y = normal(seed + 3, 7, 3, n)
    mu = y.mean(0)
    deviation = (y - mu).unsqueeze(-1)
    Sigma = (deviation @ deviation.mT).mean(0)
    got = law.cross_entropy(TwoMoments(mu, Sigma))
    torch.testing.assert_close(got, -law.log_prob(y).mean(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_cross_entropy_at_one_point_is_minus_log_prob(full: bool) -> None:
    law, _ = laws(full, 2, (4,), 5)
    y = normal(6, 4, 2)
    zero = y.new_zeros(4, 2, 2)
    torch.testing.assert_close(law.cross_entropy(TwoMoments(y, zero)), -law.log_prob(y))


@pytest.mark.parametrize("full", [False, True])
def test_scale_shared_by_all_rows(full: bool) -> None:
    law, _ = laws(full, 2, (3, 1), 1)
    mean, y = normal(2, 3, 5, 2), normal(3, 3, 5, 2)
    shared = Gaussian(mean, law.scale)
    spelled = Gaussian(mean, law.scale.expand(3, 5, *law.scale.shape[2:]))
    Sigma = torch.eye(2, dtype=torch.float64).expand(3, 5, 2, 2)
    torch.testing.assert_close(shared.log_prob(y), spelled.log_prob(y))
    q = TwoMoments(y, Sigma)
    torch.testing.assert_close(shared.cross_entropy(q), spelled.cross_entropy(q))
    assert shared.entropy().shape == (3, 1)
    torch.testing.assert_close(shared.entropy().expand(3, 5), spelled.entropy())
    assert shared.full == full


def test_sums_over_the_outcome_dimension() -> None:
    law = Gaussian(torch.zeros(1, 3), torch.ones(1, 3))
    at_mean = law.log_prob(torch.zeros(1, 3)).item()
    assert at_mean == pytest.approx(-1.5 * math.log(2 * math.pi))


def test_a_scale_of_another_batch_is_refused() -> None:
    """Batches are compared from the last dimension on, whatever the outcome dimension is."""
    mean = torch.zeros(2, 3, 2, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"s has batch shape \(2,\), mean \(2, 3\)"):
        Gaussian.diagonal(mean, torch.ones(2, 2, dtype=torch.float64))
    assert Gaussian.diagonal(mean, torch.ones(3, 2, dtype=torch.float64)).mean.shape == (2, 3, 2)
