"""Numbers in double precision, the same each time."""

import torch
from torch import Tensor

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    """Draw from the standard normal law."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
