"""What must hold of a solver for independent bits: problems, witnesses, identities.

`n` bits with `P(y_i = 1) = ρ_i`, and rewards `-Σ_i u_i (ŷ_i - y_i)²`. The derived side is
`analysis.bernoulli`; the witness sums over all `2ⁿ` outcomes, and searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from analysis import bernoulli as theory

from .derived import EXPLICIT
from .tolerances import agree

CLOSED = 1e-9  # relative: the formulas are of each bit alone, and well conditioned
SEARCHED = 1e-7
NEWTON = 60  # steps, from ψ = ½: of a strictly concave function of each bit alone


@dataclass(frozen=True, eq=False)
class BitProblem:
    """One inner and outer problem of independent bits.

    Attributes:
        lam: entropy weight.
        u: weights of the reward, of about `λ`, at which no bit is all but certain.
        rho: probabilities of the data, neither near ½, where every weight is best, nor certain.
    """

    lam: float
    u: np.ndarray
    rho: np.ndarray

    @property
    def n(self) -> int:
        """Number of bits."""
        return len(self.rho)

    @property
    def z(self) -> np.ndarray:
        """Logits of the inner solution, found by the search."""
        return maximum(self.u, self.rho, self.lam)

    def __repr__(self) -> str:
        return f"BitProblem(lam={self.lam}, u={self.u.tolist()}, rho={self.rho.tolist()})"


def make_bit_problem(n: int, seed: int) -> BitProblem:
    """Return the problem of a seed."""
    rng = np.random.default_rng([n, seed])
    lam = float(10 ** rng.uniform(-1, 1))
    logits = rng.choice([-1, 1], n) * rng.uniform(0.2, 3, n)
    return BitProblem(lam, lam * rng.uniform(0.1, 2, n), probabilities(logits))


def bit_problems(most: int = EXPLICIT) -> st.SearchStrategy[BitProblem]:
    """Problems of 1 to `most` bits."""
    return st.builds(make_bit_problem, st.integers(1, most), st.integers(0, 2**32 - 1))


def J(z: Tensor, rho: np.ndarray, U: Tensor, lam: float, Sigma: np.ndarray | None = None) -> Tensor:
    """Return J of logits, by enumeration; the data of mean ρ and covariance Σ enter by moments."""
    points = torch.tensor(list(product((0.0, 1.0), repeat=len(rho))), dtype=torch.float64)
    log_p = (points * torch.nn.functional.logsigmoid(z)).sum(-1)
    log_p = log_p + ((1 - points) * torch.nn.functional.logsigmoid(-z)).sum(-1)
    e = points - torch.as_tensor(rho)
    reward = -((e @ U) * e).sum(-1)
    if Sigma is not None:
        reward = reward - (U * torch.as_tensor(Sigma)).sum()
    return (log_p.exp() * (reward - lam * log_p)).sum()


def maximum(u: np.ndarray, rho: np.ndarray, lam: float) -> np.ndarray:
    """Return the logits that maximise J for U = diag(u), by Newton's method on each bit."""
    U, z = torch.as_tensor(np.diag(u)), torch.zeros(len(rho), dtype=torch.float64)
    for _ in range(NEWTON):
        z = z.requires_grad_()
        slope = torch.autograd.grad(J(z, rho, U, lam), z, create_graph=True)[0]
        curve = torch.stack([torch.autograd.grad(s, z, retain_graph=True)[0] for s in slope])
        # Where J is not concave in z, it still rises along its slope: limited steps get there.
        bend = curve.diagonal().abs().clamp(min=1e-3)
        z = (z + (slope / bend).clamp(-1, 1)).detach()
    return z.numpy()


def implicit_slope(at: np.ndarray, u: np.ndarray, rho: np.ndarray, lam: float) -> np.ndarray:
    """Return dF/du at an inner solution, by the implicit function theorem on J by enumeration."""
    weights, z = torch.tensor(u, requires_grad=True), torch.tensor(at, requires_grad=True)
    slope = torch.autograd.grad(J(z, rho, torch.diag(weights), lam), z, create_graph=True)[0]
    hessian = torch.stack([torch.autograd.grad(s, z, retain_graph=True)[0] for s in slope])
    share = torch.as_tensor(rho)
    F = (share * torch.nn.functional.logsigmoid(z)).sum()
    F = F + ((1 - share) * torch.nn.functional.logsigmoid(-z)).sum()
    v = torch.linalg.solve(-hessian, torch.autograd.grad(F, z)[0])
    return torch.autograd.grad(slope @ v.detach(), weights)[0].numpy()


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return `1/(1 + e^{-z})`."""
    return 1 / (1 + np.exp(-logits))


@dataclass(frozen=True)
class BitIdentity:
    """An identity of a function of bits that returns one number for each.

    Attributes:
        name: what should hold.
        want: what the function should return.
        rtol: relative tolerance.
        scale: size of what may cancel in `want`.
        seen: of what the function returned, what is compared.
        one_in: costly ones get one in so many examples.
    """

    name: str
    want: Callable[[BitProblem], np.ndarray]
    rtol: float
    scale: Callable[[BitProblem], float] = lambda problem: 1.0
    seen: Callable[[BitProblem, np.ndarray], np.ndarray] = lambda problem, got: got
    one_in: int = 1

    def __call__(self, solve: Callable[[BitProblem], np.ndarray], problem: BitProblem) -> None:
        """Raise `AssertionError` if `solve` breaks the identity at this problem."""
        got, want = self.seen(problem, solve(problem)), self.want(problem)
        agree(self.name, got, want, rtol=self.rtol, scale=self.scale(problem), inputs=problem)


def _derived_logits(problem: BitProblem) -> np.ndarray:
    at = {"U": np.diag(problem.u), "rho": problem.rho, "lam": problem.lam}
    return np.ravel(theory.inner.solution(problem.n).at(side="derived", **at))


def _derived_slope(problem: BitProblem) -> np.ndarray:
    at = {"psi": probabilities(problem.z), "rho": problem.rho, "lam": problem.lam}
    return np.ravel(theory.outer.hypergradient(problem.n).at(side="derived", **at))


def _derived_weights(problem: BitProblem) -> np.ndarray:
    at = {"rho": problem.rho, "lam": problem.lam}
    return np.ravel(theory.outer.optimal_reward(problem.n).at(side="derived", **at))


def _found(problem: BitProblem, u: np.ndarray) -> np.ndarray:
    return probabilities(maximum(u, problem.rho, problem.lam))


def _of_slopes(problem: BitProblem) -> float:
    return 1 / problem.lam


INNER = (
    BitIdentity("z* = the derived logits", _derived_logits, CLOSED),
    BitIdentity("z* maximises J", lambda p: maximum(p.u, p.rho, p.lam), SEARCHED, one_in=5),
)
HYPERGRADIENT = (
    BitIdentity("∂F/∂u = the derived hypergradient", _derived_slope, CLOSED, _of_slopes),
    BitIdentity(
        "∂F/∂u by the implicit function theorem",
        lambda p: implicit_slope(p.z, p.u, p.rho, p.lam),
        SEARCHED,
        _of_slopes,
        one_in=5,
    ),
)
OPTIMAL = (
    BitIdentity(
        "u* = the derived best weights", _derived_weights, CLOSED, lambda problem: problem.lam
    ),
    BitIdentity(
        "the policy of u* is the data's law", lambda p: p.rho, SEARCHED, seen=_found, one_in=5
    ),
)
