"""Witnesses of the results on sequences: searches over all laws, and over rewards, by enumeration.

Sequences of length n are the classes of a `ClassProblem`. Rewards are averaged over the data pair
by pair, policies are searched for among all laws: no Gibbs law (but in `cost`, where rewards are
searched for), no marginal, no value is used.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from analysis.derivation import Derivation
from analysis.sequences import inner, outer

from ...conformance.class_problems import ClassProblem
from . import categorical_numerics
from .numerics import relative_error, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

WINDOW = {"positions": 1, "pairs": 2}
MOVE = 1e-4  # of central differences


def _words(problem: ClassProblem) -> np.ndarray:
    length = problem.C.bit_length() - 1
    return np.array(list(product((0, 1), repeat=length)))


def _maximum(rewards: np.ndarray, lam: float) -> np.ndarray:
    """The law of largest E r + λH, among all laws."""
    r = tensor(rewards)
    found = categorical_numerics.maximise(
        lambda p: p @ r + lam * torch.special.entr(p).sum(), len(rewards)
    )
    return found.numpy()


def _features(words: np.ndarray, window: int) -> np.ndarray:
    """Which window stands at each place of every sequence, one-hot, place by place."""
    windows = list(product((0, 1), repeat=window))
    places = range(words.shape[1] - window + 1)
    columns = [
        (words[:, t : t + window] == w).all(1).astype(float) for t in places for w in windows
    ]
    return np.stack(columns, 1)


def solution(d: Derivation, problem: ClassProblem) -> float:
    """The law that a search finds, for rewards averaged pair by pair."""
    words = _words(problem)
    same = words[:, None] == words
    matched = same.sum(-1) if d.key.variant == "Hamming" else same.all(-1)
    want = _maximum(problem.u * matched @ problem.pi, problem.lam)
    return relative_error(d.at("stated", pi=problem.pi, u=problem.u, lam=problem.lam), want)


def soft_value(d: Derivation, problem: ClassProblem) -> float:
    """J of the law that a search finds; the first n rewards are those of the symbols."""
    n = d.key.n
    assert isinstance(n, int)
    r = problem.lam * problem.r[:n]
    p = _maximum(r, problem.lam)
    want = p @ r - problem.lam * p @ np.log(p)
    return relative_error(d.at("stated", r=r, lam=problem.lam), want, problem.lam)


def _tables(problem: ClassProblem, size: int) -> np.ndarray:
    """Rewards of about λ, by place and window."""
    return problem.lam * np.resize(problem.r, size)


def soft_value_iteration(d: Derivation, problem: ClassProblem) -> float:
    """The law that a search finds for the summed rewards of pairs."""
    features = _features(_words(problem), 2)
    r = _tables(problem, features.shape[1])
    want = _maximum(features @ r, problem.lam)
    return relative_error(d.at("stated", r=r, lam=problem.lam), want)


def hypergradient(d: Derivation, problem: ClassProblem) -> float:
    """Central differences of the likelihood of the laws that searches find."""
    features = _features(_words(problem), WINDOW[str(d.key.variant)])
    g, step = _tables(problem, features.shape[1]), MOVE * problem.lam

    def F(g: np.ndarray) -> float:
        return float(problem.pi @ np.log(_maximum(features @ g, problem.lam)))

    moves = step * np.eye(len(g))
    want = np.array([(F(g + move) - F(g - move)) / (2 * step) for move in moves])
    p = _maximum(features @ g, problem.lam)
    got = d.at("stated", pi=problem.pi, p=p, lam=problem.lam)
    return relative_error(got, want, 1 / problem.lam)


def cost(d: Derivation, problem: ClassProblem) -> float:
    """What the best reward loses, by a search over rewards for the likelihood of their laws."""
    features = tensor(_features(_words(problem), WINDOW[str(d.key.variant)]))
    pi = tensor(problem.pi)

    def loss(g: Tensor) -> Tensor:
        r = features @ g
        weights = (r - r.amax()).exp()
        return -(pi @ (weights / weights.sum()).log())

    def with_slope(g: np.ndarray) -> tuple[float, np.ndarray]:
        at = tensor(g).requires_grad_()
        value = loss(at)
        return float(value.detach()), torch.autograd.grad(value, at)[0].numpy()

    start = np.zeros(features.shape[1])
    found = optimize.minimize(with_slope, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    want = float(found.fun) + float(problem.pi @ np.log(problem.pi))
    return relative_error(d.at("stated", pi=problem.pi), want, 1.0)


def prefix_weights(d: Derivation, problem: ClassProblem) -> float:
    """With u* the searches for every prefix end at the conditional laws of the data.

    The data are the law `p`: `pi` may toss a fair coin, for which every weight does.
    """
    u = np.ravel(d.at("stated", pi=problem.p, lam=problem.lam))
    words, pi, apart = _words(problem), problem.p, 0.0
    prefixes = [s for size in range(words.shape[1]) for s in product((0, 1), repeat=size)]
    for s, weight in zip(prefixes, u, strict=True):
        begins = (words[:, : len(s)] == s).all(1)
        q = np.array([pi[begins & (words[:, len(s)] == v)].sum() for v in (0, 1)])
        q = q / q.sum()
        apart = max(apart, relative_error(_maximum(weight * q, problem.lam), q))
    return apart


PROPOSITIONS = (
    Proposition(
        "sequences.inner_solution",
        "Hamming rewards have a factorised inner solution whatever the data; for exact match "
        "p* ∝ exp(u q/λ)",
        "new",
        (Check(inner.solution, solution, EXACT),),
        solver="solvers.rewards.windows:WindowMatch",
    ),
    Proposition(
        "sequences.soft_value_iteration",
        "for rewards of windows the inner solution is a Markov chain, by soft value iteration",
        "new",
        (
            Check(inner.soft_value, soft_value, EXACT),
            Check(inner.soft_value_iteration, soft_value_iteration, EXACT),
        ),
        solver="solvers.rewards.windows:inner_solution",
    ),
    Proposition(
        "sequences.total_correlation",
        "the best additive reward learns the product of the marginals and loses exactly the total "
        "correlation; the best reward of pairs loses what no Markov law of order 1 has",
        "new",
        (
            Check(outer.hypergradient, hypergradient, DIFFERENCES),
            Check(outer.cost, cost, SEARCH),
        ),
        solver="solvers.rewards.windows:optimal_windows",
    ),
    Proposition(
        "sequences.prefixes",
        "on prefixes of the data each position is a problem of classes, and any law is recovered",
        "new",
        (Check(outer.prefix_weights, prefix_weights, EXACT),),
    ),
)
