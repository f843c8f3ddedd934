"""The unit of time: a fixed workload of SymPy, Python and torch, about a second in all.

Machines differ by a factor of four. A time divided by that of this workload, measured just before
on the same machine, can be compared with a target. The workload is therefore never changed.
"""

from __future__ import annotations

import math
import statistics
import time

import sympy as sp
import torch


def algebra() -> int:
    """Expand, differentiate and cancel; return the number of terms left."""
    from sympy.core.cache import clear_cache

    clear_cache()  # what SymPy remembers of the last run would make this one shorter
    x, y, z = sp.symbols("x y z", positive=True)
    total = 0
    for k in range(2, 4):
        power = sp.expand((x + y * z + k) ** 5 * (x - z) ** 3)
        slope = sp.expand(sp.diff(power, x) * sp.log(x) + sp.diff(power, z) / z)
        fraction = sp.cancel(sp.together(1 / (x + y) + k * z / (x - y) + slope.coeff(y, 1) / x))
        total += len(sp.Add.make_args(slope)) + sp.count_ops(fraction)
    return total


def interpretation() -> float:
    """Loops, calls, dictionaries and strings; return a checksum."""

    def step(k: int, value: float) -> float:
        return math.sqrt(value * value + k % 7) % 97.0

    seen: dict[str, float] = {}
    value = 1.0
    for k in range(2_000_000):
        value = step(k, value)
        if k % 8 == 0:
            seen[f"{k % 1000}"] = value
    return sum(seen.values())


def tensors() -> float:
    """Train a small network in small operations; return its loss."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator, dtype=torch.float64)
    W = [
        (torch.randn(8, 8, generator=generator, dtype=torch.float64) / 3).requires_grad_()
        for _ in range(3)
    ]
    optimiser = torch.optim.Adam(W, lr=1e-3)
    loss = torch.zeros(())
    for _ in range(800):
        y = x
        for weight in W:
            y = torch.tanh(y @ weight)
        loss = (y - x.flip(-1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def seconds(repeats: int = 3) -> float:
    """Return the median time of the workload, after a run that pays for what is loaded once."""
    times: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        algebra()
        interpretation()
        tensors()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
