"""The task of figure 2 and of `full-covariance`: one input, outcomes from one Gaussian law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset
from ..errors import check_count, check_number, check_precision


@dataclass(frozen=True)
class GaussianTask:
    """Data sets of several experiments, with the law that generated them.

    Attributes:
        train: one input `(E, 1, d)` with `S` outcomes `(E, 1, S, n)` per experiment.
        mean: `μ`, `(E, n)`.
        factor: `A`, with `Σ = AAᵀ`, `(E, n, n)`.
    """

    train: Dataset
    mean: Float[Tensor, "E n"]
    factor: Float[Tensor, "E n n"]

    @property
    def covariance(self) -> Float[Tensor, "E n n"]:
        """`Σ`."""
        return self.factor @ self.factor.mT


@checked
def draw(
    generators: Sequence[torch.Generator],
    *,
    inputs: int,
    n: int,
    samples: int,
    mean: float,
    scale: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> GaussianTask:
    """Draw `x ~ N(0, I_d)` and outcomes `y ~ N(μ, AAᵀ)`, one data set per generator.

    Args:
        generators: one per experiment.
        inputs: input dimension `d`.
        n: outcome dimension.
        samples: outcomes `S` at the one input.
        mean: every entry of `μ`.
        scale: `A = scale · I`; without it `A_ij ~ U(0, 1)`.
        dtype: of the data; the draws are the same for every dtype.

    Raises:
        InputError: no generator, or a size, a scale or a dtype that is none.

    Source: paper, figure 2 (settings in `paper_checks/experiments`).
    """
    for name, count in (("inputs", inputs), ("n", n), ("samples", samples)):
        check_count(name, count)
    check_count("the number of generators", len(generators))
    mean = check_number("mean", mean)
    if scale is not None:
        scale = check_number("scale", scale, positive=True)
    check_precision("dtype", dtype)
    factors: list[Tensor] = []
    xs: list[Tensor] = []
    noises: list[Tensor] = []
    for generator in generators:
        uniform = torch.rand(n, n, generator=generator, dtype=torch.float64)
        identity = torch.eye(n, dtype=torch.float64)
        factors.append(uniform if scale is None else scale * identity)
        xs.append(torch.randn(1, inputs, generator=generator, dtype=torch.float64))
        noises.append(torch.randn(1, samples, n, generator=generator, dtype=torch.float64))
    A, x, noise = torch.stack(factors), torch.stack(xs), torch.stack(noises)
    y = mean + noise @ A.mT.unsqueeze(1)
    return GaussianTask(
        train=Dataset.of(x.to(dtype), y.to(dtype)),
        mean=torch.full((len(A), n), mean, dtype=dtype),
        factor=A.to(dtype),
    )
