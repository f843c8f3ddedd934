"""The data of figure 2 and `full-covariance`: shapes, moments, and which draw belongs to whom."""

import math

import pytest
import torch
from torch import Tensor

from solvers.tasks import gaussian
from solvers.tasks.gaussian import GaussianTask


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(
    *seeds: int,
    n: int = 3,
    inputs: int = 4,
    samples: int = 5,
    mean: float = 1.0,
    scale: float | None = None,
    dtype: torch.dtype = torch.float64,
) -> GaussianTask:
    return gaussian.draw(
        generators(*seeds),
        inputs=inputs,
        n=n,
        samples=samples,
        mean=mean,
        scale=scale,
        dtype=dtype,
    )


def tensors(task: GaussianTask) -> dict[str, Tensor]:
    return {**vars(task.train), "mu": task.mean, "factor": task.factor}


@pytest.mark.parametrize("scale", [None, 0.8])
@pytest.mark.parametrize("n", [1, 3])
def test_shapes(n: int, scale: float | None) -> None:
    task = draw(1, 2, n=n, scale=scale)
    assert task.train.x.shape == (2, 1, 4)
    assert task.train.y.shape == (2, 1, 5, n)
    assert task.mean.shape == (2, n)
    assert task.factor.shape == task.covariance.shape == (2, n, n)


@pytest.mark.parametrize("scale", [None, 0.8])
def test_moments_of_the_outcomes(scale: float | None) -> None:
    """Means scatter by `sqrt(Σ_ii/S)`, covariances by `sqrt((Σ_ii Σ_jj + Σ_ij²)/S)`."""
    S = 100_000
    task = draw(1, 2, samples=S, mean=6.5, scale=scale)
    Sigma, variances = task.covariance, task.covariance.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(Sigma, torch.einsum("eik,ejk->eij", task.factor, task.factor))
    gap = (task.train.mean[:, 0] - 6.5).abs()
    assert bool((gap < 4.5 * (variances / S).sqrt()).all())
    products = variances[:, :, None] * variances[:, None, :]
    gap = (task.train.covariance[:, 0] - Sigma).abs()
    assert bool((gap < 4.5 * ((products + Sigma.square()) / S).sqrt()).all())
    assert bool((task.mean == 6.5).all())


def test_factors_are_uniform_and_inputs_standard_normal() -> None:
    task = draw(*range(400), inputs=25)
    entries = task.factor.flatten()
    assert 0 < float(entries.min()) < 0.01
    assert 0.99 < float(entries.max()) < 1
    assert float(entries.mean()) == pytest.approx(0.5, abs=4.5 / math.sqrt(12 * len(entries)))
    x = task.train.x.flatten()
    assert float(x.mean()) == pytest.approx(0, abs=4.5 / math.sqrt(len(x)))
    assert float(x.var()) == pytest.approx(1, abs=4.5 * math.sqrt(2 / len(x)))


def test_scale_makes_the_factor_and_changes_no_other_draw() -> None:
    scaled, free = draw(1, 2, scale=0.8), draw(1, 2)
    assert torch.equal(scaled.factor, 0.8 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    assert torch.equal(scaled.train.x, free.train.x)
    noise = (scaled.train.y - 1) / 0.8
    torch.testing.assert_close(free.train.y, 1 + torch.einsum("eij,exsj->exsi", free.factor, noise))


@pytest.mark.parametrize("scale", [None, 0.8])
def test_dtype_changes_the_precision_not_the_draws(scale: float | None) -> None:
    low, high = draw(1, 2, dtype=torch.float32, scale=scale), draw(1, 2, scale=scale)
    assert all(t.dtype == torch.float32 for t in tensors(low).values())
    assert torch.equal(low.train.x, high.train.x.float())
    assert torch.equal(low.train.y, high.train.y.float())
    assert torch.equal(low.factor, high.factor.float())


def test_an_experiment_belongs_to_its_generator_not_to_its_position() -> None:
    together, alone = draw(1, 2, 3), draw(3)
    for name, t in tensors(together).items():
        torch.testing.assert_close(t[2:], tensors(alone)[name])
        assert name == "mu" or not torch.allclose(t[0], t[1]), name
    assert torch.equal(together.train.y[2:], alone.train.y)
