"""Identities of sequences: solvers against derivations, and against enumeration.

The data are drawn words of bits that hold every word at least once; their law is exact.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from analysis import sequences as theory
from paper_checks.conformance.class_problems import ClassProblem
from paper_checks.conformance.tolerances import agree, agree_on_average
from solvers.data import Dataset
from solvers.families.sequence_networks import RecurrentPolicy
from solvers.families.sequences import Autoregressive
from solvers.rewards import windows
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from solvers.training.streams import MemberNoise, generator

CLOSED = 1e-10
SAMPLES, BATCHES = 400, 40
WINDOWS = {"positions": 0, "pairs": 1}


def length(problem: ClassProblem) -> int:
    """T: the classes of the problem are the 2ᵀ words."""
    return problem.C.bit_length() - 1


def words(problem: ClassProblem) -> Tensor:
    """Every word of bits, by enumeration in order."""
    return torch.tensor(list(product((0.0, 1.0), repeat=length(problem))), dtype=torch.float64)


def data_of(problem: ClassProblem) -> tuple[Dataset, np.ndarray]:
    """Words at one input, about as frequent as the problem says, each seen, not all alike; q."""
    times = torch.as_tensor(np.floor(20 * problem.pi) + np.arange(1, problem.C + 1)).long()
    y = words(problem).repeat_interleave(times, 0)
    data = Dataset.of(torch.ones(1, 1, dtype=torch.float64), y[None])
    return data, (times / times.sum().double()).numpy()


def policy_of(problem: ClassProblem) -> tuple[RecurrentPolicy, dict[str, Tensor]]:
    """A recurrent policy with parameters of the problem's own."""
    policy = RecurrentPolicy(inputs=1, V=2, T=length(problem), width=3)
    seed = int(problem.u * 1e9) % 2**31
    return policy, policy.init([generator(seed, "theta")], dtype=torch.float64)


def soft_value_iteration(problem: ClassProblem) -> None:
    """`p*` of pair rewards: soft value iteration, derivation, enumeration of all words."""
    T = length(problem)
    r = problem.lam * np.resize(problem.r, 4 * (T - 1))
    reward = windows.WindowReward(torch.as_tensor(r).reshape(T - 1, 4), 2)
    law = windows.inner_solution(reward, problem.lam)
    y = words(problem).long()
    total = sum(reward.table[t][2 * y[:, t] + y[:, t + 1]] for t in range(T - 1))
    assert isinstance(total, Tensor)
    found = law.log_p[0].exp()
    want = (total / problem.lam).softmax(-1)
    agree("p* of windows, by enumeration", found, want, rtol=CLOSED, inputs=problem)
    derived = theory.inner.soft_value_iteration(T).at(side="derived", r=r, lam=problem.lam)
    agree("p* of windows", found, derived, rtol=CLOSED, inputs=problem)


def inner_solution(problem: ClassProblem) -> None:
    """`p*` of Hamming and exact match: as derived, and where the gradient of training vanishes."""
    data, q = data_of(problem)
    T = length(problem)
    for reward, k in (("Hamming", 0), ("exact match", T - 1)):
        match = windows.WindowMatch(problem.u, V=2, k=k)
        values = windows.soft_values(match.against(data), problem.lam)
        derived = theory.inner.solution(reward, T).at(
            side="derived", pi=q, u=problem.u, lam=problem.lam
        )
        found = windows.markov(values, k).log_p[0].exp()
        agree(f"p* of {reward}", found, derived, rtol=CLOSED, inputs=problem)
        logits = [table.clone().requires_grad_() for table in values]
        loss = PolicyGradient(match, problem.lam)(windows.markov(logits, k), data)
        slopes = torch.cat([g.flatten() for g in torch.autograd.grad(loss, logits)])
        agree(
            f"∂J/∂z of {reward} at p*", slopes, torch.zeros_like(slopes),
            rtol=CLOSED, scale=problem.lam, inputs=problem,
        )  # fmt: skip


def policy_gradient(problem: ClassProblem) -> None:
    """`∇J = -λ ∇KL(p_θ ‖ p*)` of a recurrent policy, exact and on average by score function."""
    data, q = data_of(problem)
    T, (policy, theta) = length(problem), policy_of(problem)
    match = windows.WindowMatch(problem.u, V=2)
    star = theory.inner.solution("Hamming", T).at(
        side="derived", pi=q, u=problem.u, lam=problem.lam
    )
    log_star = torch.as_tensor(np.log(star))

    def slope(loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(theta.values()))])

    law = policy(theta, data.x)
    log_p = law.log_prob(words(problem).unsqueeze(1))[:, 0]
    want = slope(problem.lam * (log_p.exp() * (log_p - log_star)).sum())
    exact = slope(PolicyGradient(match, problem.lam)(policy(theta, data.x), data))
    agree("∇J of sequences", exact, want, rtol=1e-9, scale=problem.lam, inputs=problem)
    noise = MemberNoise([generator(0, "noise")])
    sampled = PolicyGradient(match, problem.lam, ScoreFunction(SAMPLES))
    draws = [slope(sampled(policy(theta, data.x), data, noise)).numpy() for _ in range(BATCHES)]
    agree_on_average("∇J of sequences", np.array(draws), want.numpy(), inputs=problem)


def likelihood(problem: ClassProblem) -> None:
    """NLL and entropy of a recurrent policy, by the probabilities of all words; they sum to 1."""
    data, q = data_of(problem)
    policy, theta = policy_of(problem)
    law = policy(theta, data.x)
    log_p = law.log_prob(words(problem).unsqueeze(1))[:, 0].detach().numpy()
    p = np.exp(log_p)
    agree("Σ p(y) = 1", p.sum(), 1.0, rtol=CLOSED, inputs=problem)
    agree("p of all words", law.log_p[0].detach(), log_p, rtol=CLOSED, inputs=problem)
    agree("H of sequences", law.entropy()[0].detach(), -p @ log_p, rtol=CLOSED, inputs=problem)
    agree("NLL of sequences", NLL()(law, data).detach(), -q @ log_p, rtol=CLOSED, inputs=problem)


def draws(problem: ClassProblem) -> None:
    """Words are drawn as often as they are probable."""
    policy, theta = policy_of(problem)
    law: Autoregressive = policy(theta, torch.ones(1, 1, dtype=torch.float64))
    y = law.draw(4000, MemberNoise([generator(1, "noise")]))[:, 0]
    seen = (y[:, None] == words(problem)).all(-1).double().numpy()
    p = law.log_prob(words(problem).unsqueeze(1))[:, 0].detach().exp().numpy()
    agree_on_average("frequencies of words", seen, p, inputs=problem)


def optimal_reward(problem: ClassProblem) -> None:
    """The best reward of windows: its cost, and its hypergradient there and elsewhere."""
    data, q = data_of(problem)
    T, lam = length(problem), problem.lam
    for name, k in WINDOWS.items():
        best = windows.optimal_windows(data, lam, V=2, k=k)
        learned = windows.inner_solution(best, lam)
        derived = theory.outer.cost(name, T).at(side="derived", pi=q)
        found = NLL()(learned, data) + q @ np.log(q)
        agree(f"F of {name}", found, derived, rtol=CLOSED, scale=1.0, inputs=problem)
        said = windows.cost(data, V=2, k=k)[0]
        agree(
            f"cost of {name}, by entropies", said, derived, rtol=CLOSED, scale=1.0, inputs=problem
        )
        for table in (best.table, lam * torch.as_tensor(np.resize(problem.r, best.table.shape))):
            _hypergradient(problem, data, q, name, table)


def _hypergradient(
    problem: ClassProblem, data: Dataset, q: np.ndarray, name: str, table: Tensor
) -> None:
    """`∂F/∂g` through soft value iteration, and as derived at its law."""
    g = table.clone().requires_grad_()
    law = windows.inner_solution(windows.WindowReward(g, 2), problem.lam)
    (slope,) = torch.autograd.grad(-NLL()(law, data), g)
    want = theory.outer.hypergradient(name, length(problem)).at(
        side="derived", pi=q, p=law.log_p[0].detach().exp().numpy(), lam=problem.lam
    )
    agree(
        f"∂F/∂g of {name}", slope.flatten(), want,
        rtol=1e-9, scale=1 / problem.lam, inputs=problem,
    )  # fmt: skip


def prefixes(problem: ClassProblem) -> None:
    """With the derived `u*_s` on prefixes of the data, classes by classes, the data come back."""
    _, q = data_of(problem)
    q = q * (1 + 1e-3 * np.arange(problem.C))  # no prefix with two symbols alike
    q = q / q.sum()
    T, y = length(problem), words(problem)
    u = theory.outer.prefix_weights(T).at(side="derived", pi=q, lam=problem.lam)
    p, pi, place = torch.ones(problem.C, dtype=torch.float64), torch.as_tensor(q), 0
    for t in range(T):
        share = pi.reshape(2**t, 2, -1).sum(-1)
        conditional = share / share.sum(-1, keepdim=True)
        weight = torch.as_tensor(u[place : place + 2**t])[:, None] / problem.lam
        chosen = (weight * conditional).softmax(-1)  # the inner solution of 1[ŷ = y] u_s
        p = p * chosen.flatten().repeat_interleave(2 ** (T - t - 1))
        place += 2**t
    assert len(y) == len(p)
    agree("law from prefixes", p, q, rtol=CLOSED, inputs=problem)
