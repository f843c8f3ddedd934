"""Peak memory of a process that takes one hypergradient: `python -m benchmarks.memory million`."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.hypergradients.implicit import HypergradientWarning, implicit
from solvers.rewards.learnable import ConstantReward, Phi
from solvers.training import ensemble
from solvers.training.objectives import NLL, PolicyGradient

F64 = torch.float64
INPUTS, n = 8, 2
REWARD = ConstantReward(n)
LAM = 0.1
DAMPING = 10.0  # makes the Hessian of a network far from its optimum positive definite


@dataclass(frozen=True)
class Peak:
    """What the process needed.

    Attributes:
        gib: peak resident memory of the whole process, in GiB.
        parameters: of the policy.
        products: Hessian-vector products.
        seconds: of the hypergradient.
    """

    gib: float
    parameters: int
    products: int
    seconds: float


def hypergradient(widths: tuple[int, ...], rows: int, steps: int, products: int) -> Peak:
    """Take Adam steps on the inner problem, then the implicit hypergradient by CG.

    Args:
        widths: of the hidden layers of the policy's mean.
        rows: inputs, with ten outcomes each.
        steps: inner steps.
        products: limit of CG's iterations.
    """
    policy = GaussianPolicy(INPUTS, n, "full", mean=MLP(widths, "tanh"))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, INPUTS, generator=generator, dtype=F64)
    y = x[:, None, :n] + torch.randn(rows, 10, n, generator=generator, dtype=F64)
    data = Dataset.of(x, y)
    phi = REWARD.start(torch.eye(n, dtype=F64))
    lam = torch.tensor(LAM, dtype=F64)
    theta = ensemble.train(
        policy,
        policy.init([generator], dtype=F64),
        PolicyGradient(REWARD(phi, x), lam),
        data,
        epochs=steps,
        learning_rate=1e-3,
        batch_ndim=0,
    )

    def J(theta: Params, phi: Phi) -> Tensor:
        return -PolicyGradient(REWARD(phi, x), lam)(policy(theta, x), data)

    def F(theta: Params, phi: Phi) -> Tensor:
        return -NLL()(policy(theta, x), data)

    start = time.perf_counter()
    with warnings.catch_warnings():
        # stopped early, damped and not solved to the end: it says so, and is not used
        warnings.simplefilter("ignore", HypergradientWarning)
        found = implicit(
            J, F, theta, phi, method="cg", damping=DAMPING, max_iterations=products
        )  # fmt: skip
    seconds = time.perf_counter() - start
    parameters = sum(p.numel() for p in theta.values())
    return Peak(peak_gib(), parameters, found.iterations, seconds)


def peak_gib() -> float:
    """Return the peak resident memory of this process, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` of a child starts from what its parent held
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main(case: str) -> None:
    """Print the peak of "million", or of a number of inner steps, as JSON."""
    torch.set_num_threads(1)
    if case == "million":
        peak = hypergradient((1000, 1000), rows=1000, steps=0, products=20)
    else:
        peak = hypergradient((128, 128), rows=1000, steps=int(case), products=20)
    print(json.dumps(asdict(peak)))


if __name__ == "__main__":
    main(sys.argv[1])
