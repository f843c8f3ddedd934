"""Identities of learning categorical policies: policy gradients, and rewards found by bilevel."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from analysis import categorical
from paper_checks.conformance.class_problems import ClassProblem
from paper_checks.conformance.tolerances import agree, agree_on_average, closed_form
from solvers import bilevel
from solvers.families.baselines import Baseline
from solvers.families.categorical import Categorical
from solvers.hypergradients.implicit import HypergradientWarning
from solvers.rewards import between_classes
from solvers.rewards.between_classes import ClassReward, FreeReward, OneHotReward
from solvers.rewards.learnable import ConstantReward, RewardModel
from solvers.training.estimators import Analytic, Estimator, ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.categorical import (
    Form,
    data_of,
    enumerated,
    inner_objective,
    law_with,
    require,
    value,
)
from tests.gate.identities.categorical_scales import has_no_best_scale, slope_and_bend

OUTER, INNER = 1e-8, 1e-10  # slopes where the loops stop
# What the bound on the error of a solution must stay below, to mean anything; near π = ½, where U
# hardly moves the law, it comes to 2e-6.
SURE = 1e-5
Learnt = Form | Literal["nothing", "outcome"]


@dataclass(frozen=True)
class GivenNoise:
    """A noise source that hands out given uniform numbers, `(*b, M, N)`."""

    values: Tensor

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the given noise, whose trailing shape must be the one asked for."""
        assert tuple(self.values.shape[-2:]) == tuple(shape), (self.values.shape, shape)
        return self.values.to(dtype)


def estimates(problem: ClassProblem, estimator: Estimator, noise: Tensor) -> Tensor:
    """Return estimates `(T, C)` of the slope of the expected reward, for noise `(T, M)`."""
    t = problem.tensors()
    logits = law_with(t["p"]).logits.expand(len(noise), 1, -1).clone().requires_grad_()
    reward, source = ClassReward(t["r"][None, :, None]), GivenNoise(noise[..., None])
    surrogate = estimator(Categorical(logits), data_of(t["pi"]), reward, source)
    return torch.autograd.grad(surrogate.sum(), logits)[0][:, 0]


def every_group(problem: ClassProblem, M: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return all groups of `M` generations `(T, M)`, their probabilities, and noise for them."""
    p = problem.tensors()["p"]
    drawn = torch.tensor(list(product(range(problem.C), repeat=M)))
    middles = p.cumsum(0) - p / 2  # inside the interval of each class
    return drawn, p[drawn].prod(1), middles[drawn]


def by_definition(problem: ClassProblem, drawn: Tensor, baseline: Baseline) -> Tensor:
    """Return the mean of `(r - b) ∇ log p` over every group, generation by generation."""
    t, M = problem.tensors(), drawn.shape[1]
    r, score = t["r"][drawn], torch.eye(problem.C, dtype=torch.float64)[drawn] - t["p"]
    if baseline == "optimal":
        b = torch.as_tensor(value(categorical.estimators.optimal_baseline(problem.C), problem))
        return ((r[..., None] - b) * score).mean(1)
    if baseline == "standardised":
        pairs = (r.unsqueeze(-1) - r.unsqueeze(-2)).square().sum((-2, -1))
        deviation = (pairs / (2 * M * (M - 1))).sqrt().unsqueeze(-1)
        differ = deviation > 0  # a group of equal rewards says nothing
        advantage = torch.where(differ, (r - r.mean(1, keepdim=True)) / deviation, 0.0)
        return (advantage[..., None] * score).mean(1)
    if baseline == "leave-one-out":
        others = [torch.cat([r[:, :k], r[:, k + 1 :]], 1).mean(1) for k in range(M)]
        b = torch.stack(others, 1)
    else:
        b = {"none": 0 * r, "mean": r.mean(1, keepdim=True), "minimum": r.amin(1, keepdim=True)}
        b = b[baseline]
    return ((r - b)[..., None] * score).mean(1)


def slope_of_shifted_reward(problem: ClassProblem, M: int) -> Tensor:
    """Return `∇(E r - E min(r_1..r_M)/M)`, the minimum by the chance that all are above a level.

    A baseline `b` of the whole group changes the expected gradient by `-∇E b / M`.
    """
    t = problem.tensors()
    z = t["p"].log().requires_grad_()
    p, levels = z.softmax(-1), t["r"].sort().values
    above = torch.stack([p[t["r"] >= level].sum() ** M for level in levels])
    least = levels[0] + (levels.diff() * above[1:]).sum()
    (slope,) = torch.autograd.grad(p @ t["r"] - least / M, z)
    return slope


def expected_estimate(problem: ClassProblem, baseline: Baseline, M: int) -> None:
    """Every estimate is REINFORCE by its definition; their mean over all groups is the theory's.

    That is the derived gradient, shrunk by `(M-1)/M` for "mean"; for "minimum" another one; for
    "standardised" none is derived.
    """
    drawn, chance, noise = every_group(problem, M)
    found = estimates(problem, ScoreFunction(M, baseline), noise)
    name, scale = f"∇E r, {baseline}, M = {M}", float(problem.tensors()["r"].abs().max())
    want = by_definition(problem, drawn, baseline)
    agree(f"{name}, every group", found, want, rtol=closed_form(), scale=scale, inputs=problem)
    if baseline == "standardised":
        return
    if baseline == "minimum":
        want = slope_of_shifted_reward(problem, M)
    else:
        factor = (M - 1) / M if baseline == "mean" else 1.0
        want = factor * value(categorical.estimators.score_gradient(problem.C), problem)
    agree(f"E {name}", chance @ found, want, rtol=closed_form(), scale=scale, inputs=problem)


def exact_gradient(problem: ClassProblem) -> None:
    """The exact gradient is the derived one, and that of `J` is the enumerated one's.

    At two inputs, whose losses are averaged, with a reward each that is not symmetric in classes.
    """
    t, scale = problem.tensors(), float(problem.tensors()["r"].abs().max())
    got = estimates(problem, Analytic(), torch.zeros(1, 1))[0]
    want = value(categorical.estimators.score_gradient(problem.C), problem)
    agree("exact ∇E r", got, want, rtol=closed_form(), scale=scale, inputs=problem)
    data = data_of(t["pi"], t["p"])
    tables = torch.stack([enumerated(t["U"]), enumerated(2 * t["U"])]) + t["r"][:, None]
    z = torch.stack([t["p"].log() + 0.7, t["r"]]).requires_grad_()
    loss = PolicyGradient(ClassReward(tables), t["lam"])(Categorical(z), data)
    J = [inner_objective(z[i], tables[i], data.pi[i], t["lam"]) for i in range(2)]
    slopes = [torch.autograd.grad(f, z)[0] for f in (-loss, torch.stack(J).mean())]
    scale = float(tables.abs().max()) + problem.lam
    agree("exact ∇J", slopes[0], slopes[1], rtol=closed_form(), scale=scale, inputs=problem)


def sampled_estimate(problem: ClassProblem, M: int, seed: int) -> None:
    """The mean of sampled leave-one-out estimates is the derived gradient, by a z-test."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(20_000, M, generator=generator, dtype=torch.float64)
    got = estimates(problem, ScoreFunction(M, "leave-one-out"), noise)
    want = value(categorical.estimators.score_gradient(problem.C), problem)
    agree_on_average(f"E ∇E r, leave-one-out, M = {M}", got, want, inputs=problem)


def optimal_baseline(problem: ClassProblem) -> None:
    """The baselines are the derived ones; other constants have the larger variance they should.

    The variance of entry `j` is least, and `p_j (1 - p_j) δ²` larger at `b_j + δ`.
    """
    t, (drawn, p, noise) = problem.tensors(), every_group(problem, 1)
    found = estimates(problem, ScoreFunction(1, "optimal"), noise)
    score = torch.eye(problem.C, dtype=torch.float64) - t["p"]
    got = t["r"][:, None] - found / score  # the same in every row
    b = torch.as_tensor(value(categorical.estimators.optimal_baseline(problem.C), problem))
    scale = float(t["r"].abs().max() / score.abs().min())
    agree("optimal baseline b*", got, b.expand_as(got), rtol=closed_form(), scale=scale,
          inputs=problem)  # fmt: skip
    least = value(categorical.estimators.minimal_variance(problem.C), problem)
    for shift in (0.0, -0.3, 1.7):
        estimate = found - shift * score[drawn[:, 0]]
        variance = p @ estimate**2 - (p @ estimate) ** 2
        want = least + shift**2 * problem.p * (1 - problem.p)
        scale = float(estimate.abs().max()) ** 2
        name = f"variance of ∇E r at b* + {shift}"
        agree(name, variance, want, rtol=closed_form(), scale=scale, inputs=problem)


def class_problem(problem: ClassProblem, reward: RewardModel, pi: Tensor) -> bilevel.Bilevel:
    """Return the paper's problem for logits that are free at every input, the last one 0."""
    t, data = problem.tensors(), data_of(*pi)

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -PolicyGradient(reward(phi, data.x), t["lam"])(free_law(theta), data)

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(free_law(theta), data)

    return bilevel.Bilevel(J, F)


def free_law(theta: dict[str, Tensor]) -> Categorical:
    """Return the law with these logits, and 0 for the last class."""
    z = theta["z"]
    return Categorical(torch.cat([z, torch.zeros_like(z[:, :1])], -1))


def learns_the_best_reward(problem: ClassProblem, learnt: Learnt, start: int) -> None:
    """`bilevel.solve` from any start: a scalar reaches `exact_scale`, the others `p = π`.

    What is found may be off by the slope that is left, over how the slope grows with the error.
    """
    t, C, name = problem.tensors(), problem.C, f"bilevel solution, {learnt}"
    generator, kind = torch.Generator().manual_seed(start), learnt
    if kind in ("nothing", "outcome"):
        model, inputs = FreeReward(1, C, compares=kind), 2
        phi = model.start(generator)
    else:
        weight, inputs = ConstantReward(C, kind), 2 if kind == "scalar" else 1
        # of about the size of λ: laws are then not on one class alone, where nothing has a slope
        U = t["U"] / t["U"].trace() * C if kind == "full" else torch.diag((1 + C * t["p"]) / 2)
        model, phi = OneHotReward(weight), weight.start(t["u"] * U)
    pi = torch.stack([t["pi"], t["p"]])[:inputs]
    z = torch.randn(inputs, C - 1, dtype=torch.float64, generator=generator)
    # whole steps can overshoot to where laws are on one class alone, and nothing has a slope
    rate = 1.0 if learnt == "scalar" else 0.3
    with warnings.catch_warnings():
        # of points far out that a line search tries: what counts is where it ends
        warnings.simplefilter("ignore", HypergradientWarning)
        found = bilevel.solve(
            class_problem(problem, model, pi),
            {"z": z},
            phi,
            optimiser=lambda tensors: torch.optim.LBFGS(
                tensors,
                lr=rate,
                tolerance_grad=0,  # when to stop is for the loop to say
                tolerance_change=0,
                line_search_fn="strong_wolfe",
            ),
            steps=20,
            inner=bilevel.Exact(INNER),
            tolerance=OUTER,
        )
    require(found.converged, f"{name}: convergence, at {found.history[-1]},", problem)
    left, p = found.history[-1].hypergradient, free_law(found.theta).p
    if learnt == "scalar":
        u = between_classes.exact_scale(pi, t["lam"])
        _, bend = slope_and_bend(float(u), problem.lam, *pi)
        rtol = 2 * inputs * (left + closed_form()) / (float(u) ** 2 * -bend)
        agree(f"{name}: u = u*", found.phi["log_u"].exp(), u, rtol=rtol, inputs=problem)
        return
    uniform = has_no_best_scale(problem) and inputs == 1  # U then changes nothing, nor need it
    steepness = 1.0 if uniform else class_steepness(model, found.phi, pi)
    rtol = 2 * inputs * problem.lam * left / steepness + 2 * INNER / (problem.lam * float(p.min()))
    agree(f"{name}: p = π", p, pi, rtol=rtol, scale=1, inputs=problem)
    require(rtol < SURE, f"{name}: reward that is well determined, to {rtol},", problem)


def class_steepness(model: RewardModel, phi: dict[str, Tensor], pi: Tensor) -> float:
    """Return the least `‖Σ_c d_c ∂r̄(c)/∂φ‖` over changes `‖d‖ = 1` of probabilities."""
    x = data_of(*pi).x

    def levels(*values: Tensor) -> Tensor:
        r = model(dict(zip(phi, values, strict=True)), x).by_class(pi)
        return (r - r.mean(-1, keepdim=True)).flatten()

    parts = torch.autograd.functional.jacobian(levels, tuple(phi.values()))
    slopes = torch.cat([part.flatten(1) for part in parts], 1)
    return float(torch.linalg.svdvals(slopes)[pi.numel() - len(pi) - 1])
