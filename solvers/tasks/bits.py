"""Binary outcomes from a logistic law that is known: votes on `n` questions, given `d` features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float

from ..arguments import checked
from ..data import Dataset
from ..errors import check_count, check_precision
from ..families.bernoulli import Bernoulli


@dataclass(frozen=True)
class BitsTask:
    """Training and validation data, with the law that generated them.

    Attributes:
        train: `(N, d)` inputs with `S` outcomes of 0 and 1 each.
        validation: the same number of fresh inputs with one outcome each.
        weights: `W` of the logits `xW + b`, `(d, n)`.
        offset: `b`, `(n,)`.
    """

    train: Dataset
    validation: Dataset
    weights: Float[torch.Tensor, "d n"]
    offset: Float[torch.Tensor, "n"]

    def law(self, x: Float[torch.Tensor, "N d"]) -> Bernoulli:
        """Return the true law at `x`."""
        return Bernoulli(x @ self.weights + self.offset)


@checked
def draw(
    generator: torch.Generator,
    *,
    inputs: int = 3,
    n: int = 4,
    rows: int = 100,
    samples: int = 5,
    dtype: torch.dtype = torch.float64,
) -> BitsTask:
    """Draw `x ~ N(0, I)`, weights and offsets `~ N(0, 1)`, and bits of the law they make.

    Args:
        generator: of everything drawn.
        inputs: input dimension `d`.
        n: number of bits.
        rows: distinct training inputs, and validation inputs.
        samples: outcomes per training input.
        dtype: of the data; the draws are the same for every dtype.
    """
    for name, count in (("inputs", inputs), ("n", n), ("rows", rows), ("samples", samples)):
        check_count(name, count)
    check_precision("dtype", dtype)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights, offset = normal(inputs, n), normal(n)

    def observe(count: int) -> Dataset:
        x = normal(rows, inputs)
        p = (x @ weights + offset).sigmoid().unsqueeze(-2)
        uniform = torch.rand((rows, count, n), generator=generator, dtype=torch.float64)
        return Dataset.of(x.to(dtype), (uniform < p).to(dtype))

    train, validation = observe(samples), observe(1)
    return BitsTask(train, validation, weights.to(dtype), offset.to(dtype))
