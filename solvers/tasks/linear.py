"""Figure 1's task: a linear mean with isotropic noise, `y = x + b + σ ε`, `x ~ U(-5, 5)^n`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset
from ..errors import ShapeError, check_count, check_number, check_precision
from ..families.gaussian import Gaussian


@dataclass(frozen=True)
class LinearTask:
    """Data sets of several experiments, with the law that generated them.

    Attributes:
        train: `(E, N, d)` inputs with `S` outcomes each.
        validation: the same number of fresh inputs with one outcome each.
        offset: `b`, one number per experiment, `(E,)`.
        sigma: noise scale `σ`, `(E,)`.
    """

    train: Dataset
    validation: Dataset
    offset: Float[Tensor, "E"]
    sigma: Float[Tensor, "E"]

    def law(self, x: Float[Tensor, "E N n"]) -> Gaussian:
        """Return the true law at `x`."""
        mean = x + self.offset[:, None, None]
        return Gaussian(mean, self.sigma[:, None, None].expand_as(mean))


@checked
def draw(
    generators: Sequence[torch.Generator],
    *,
    n: int = 2,
    rows: int = 100,
    samples: int = 10,
    sigma: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> LinearTask:
    """Draw one data set per generator.

    Args:
        generators: one per experiment.
        n: input and outcome dimension.
        rows: distinct training inputs, and validation inputs.
        samples: outcomes per training input.
        sigma: noise scale of each experiment; drawn from `U(0.1, 2.5)` if not given.
        dtype: of the data; the draws are the same for every dtype.

    Raises:
        InputError: no generator, or a size, a scale or a dtype that is none.
        ShapeError: another number of scales than of generators.

    Source: paper, figure 1 (settings in `paper_checks/experiments/figure_1.py`).
    """
    for name, count in (("n", n), ("rows", rows), ("samples", samples)):
        check_count(name, count)
    check_count("the number of generators", len(generators))
    if sigma is not None:
        for place, scale in enumerate(sigma):
            check_number(f"sigma[{place}]", scale, positive=True)
        if len(sigma) != len(generators):
            raise ShapeError(
                f"sigma has {len(sigma)} scales, and there are {len(generators)} generators: pass "
                "one for each"
            )
    check_precision("dtype", dtype)
    offsets: list[Tensor] = []
    scales: list[Tensor] = []
    inputs: list[Tensor] = []
    noises: list[Tensor] = []
    for generator in generators:
        uniform = torch.rand(2, generator=generator, dtype=torch.float64)
        offsets.append(12 * uniform[0] - 6)
        scales.append(0.1 + 2.4 * uniform[1])
        inputs.append(10 * torch.rand(2, rows, n, generator=generator, dtype=torch.float64) - 5)
        noises.append(torch.randn(rows, samples + 1, n, generator=generator, dtype=torch.float64))
    b = torch.stack(offsets)
    spread = torch.stack(scales) if sigma is None else torch.tensor(sigma, dtype=torch.float64)
    x, noise = torch.stack(inputs), torch.stack(noises)

    def observe(x: Tensor, noise: Tensor) -> Dataset:
        mean = (x + b[:, None, None]).unsqueeze(-2)
        y = mean + spread[:, None, None, None] * noise
        return Dataset.of(x.to(dtype), y.to(dtype))

    return LinearTask(
        train=observe(x[:, 0], noise[:, :, :samples]),
        validation=observe(x[:, 1], noise[:, :, samples:]),
        offset=b.to(dtype),
        sigma=spread.to(dtype),
    )
