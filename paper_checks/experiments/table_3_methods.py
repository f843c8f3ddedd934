"""The methods of table 3: models of the next observation, all splits of a task at once.

Members `*b` are `(methods, splits)`. The law is `N(m(x), diag(s(x)²))`; in the corrected experiment
mean and scale have networks of their own, so that no term of the variance moves the features of the
mean, and what theory says of the mean holds of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from solvers.bilevel import cross_fitted
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.rewards.learnable import InputReward
from solvers.rewards.mahalanobis import DiagonalReward, MahalanobisReward, optimal_reward
from solvers.training import streams
from solvers.training.early_stopping import EarlyStopping
from solvers.training.ensemble import adam
from solvers.training.objectives import MSE, NLL, BetaNLL, Faithful, Objective, PolicyGradient

from . import arms
from .affine import affine, coefficients
from .table_3_data import Problem

LawAt = Callable[[Tensor], Gaussian]
"""From inputs `(*b, N, d)` to the law of the target."""

TEMPERATURES = (0.0, 0.5, 1.0)
"""Powers `β` of `λ(x) = Σ(x)^β` that held-out rows choose from; 0 is one λ for all inputs."""
COVERAGE = 0.9
CONSTANT = (
    *arms.labels((arms.PG_IDENTITY, arms.PG_MARGINAL_SCALAR, arms.PG_MARGINAL_FULL)),
    "PG(residual diagonal)",
    "PG(residual, online)",
)
LEARNED, TEMPERED = "PG(learned U(x))", "PG(learned U(x), λ(x))"


def named(betas: Sequence[float]) -> tuple[str, ...]:
    """Return the names of β-NLL for each β: 0 is NLL, 0.5 the β-NLL of the table."""
    known = {0.0: arms.NLL.label, 0.5: "β-NLL"}
    return tuple(known.get(beta, f"β-NLL, β = {beta:g}") for beta in betas)


def powers() -> tuple[str, ...]:
    """Return the names of the arms of `tempered` with each of the `TEMPERATURES`."""
    return tuple(LEARNED if power == 0 else f"{LEARNED}, λ = Σ^{power:g}" for power in TEMPERATURES)


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    Attributes:
        hidden: widths of every network.
        steps: at most so many Adam steps.
        learning_rate: Adam's.
        batch: rows per step.
        max_norm: clipping of each member's gradient.
        every: steps from one look at the validation rows to the next.
        patience: looks without an improvement after which a member is done.
        least: improvement that counts, of the mean over dimensions of the score.
        folds: parts of the training rows, for residuals of rows a mean was not trained on.
        rounds: how often `U(x)` is learned: each time anew, from residuals of means it weighs.
        reward_hidden: widths of the network of `U(x)`.
        reward_decay: its weight decay.
        reward_steps: at most so many Adam steps on it.
        reward_rate: Adam's learning rate for it.
        outer_steps: of the bilevel solver, on `U(x)` and `λ(x)`.
        outer_rate: Adam's learning rate for them there.
        evaluations: of gradients and Hessian-vector products of each of its inner solves; ten times
            as many of the first.
        decay: weight decay `ρ` of its policy, in nats.
    """

    hidden: tuple[int, ...] = (64, 64)
    steps: int = 2000
    learning_rate: float = 1e-3
    batch: int = 100
    max_norm: float = 10.0
    every: int = 50
    patience: int = 6
    least: float = 0.005
    folds: int = 3
    rounds: int = 2
    reward_hidden: tuple[int, ...] = (32, 32)
    reward_decay: float = 1e-3
    reward_steps: int = 1500
    reward_rate: float = 3e-3
    outer_steps: int = 6
    outer_rate: float = 1e-2
    evaluations: int = 150
    decay: float = 1e-3


@dataclass(frozen=True)
class Trained:
    """Members of one group after training.

    Attributes:
        law: `(methods, splits, N, ...)` at inputs.
        ended: whether a member gained nothing any more, before the number of steps was reached.
        validation: score on the validation rows per dimension, `(methods, splits)`.
    """

    law: LawAt
    ended: Bool[Tensor, "methods splits"]
    validation: Float[Tensor, "methods splits"]

    def error(self, data: Dataset) -> Float[Tensor, "methods splits"]:
        """Return the mean squared error of each member."""
        with torch.no_grad():
            return (self.law(data.x).mean - data.mean).square().mean((-2, -1))


def policy(problem: Problem, training: Training) -> GaussianPolicy:
    """Return the policy of the corrected experiment."""
    body = MLP(training.hidden)
    return GaussianPolicy(problem.inputs, problem.n, "diagonal", mean=body, scale=body)


def start(model: GaussianPolicy, methods: int, problem: Problem, seed: int) -> dict[str, Tensor]:
    """Return one initial policy per split, the same for every method, `(methods, splits, ...)`."""
    generators = [streams.generator(seed, "init", split) for split in problem.splits]
    drawn = model.init(generators, (len(generators),))
    return {
        name: p.detach().to(problem.device).expand(methods, *p.shape).clone()
        for name, p in drawn.items()
    }


ObjectiveAt = Callable[[Tensor, Params], Objective]
"""From the rows of a batch, and the parameters, to the objective there."""


def train(
    problem: Problem,
    model: GaussianPolicy,
    begin: dict[str, Tensor],
    objective: ObjectiveAt,
    score: Objective,
    training: Training,
    seed: int,
) -> Trained:
    """Train all members of a group, each up to its best score on the validation rows.

    Batches are the same rows, by position, for all methods: splits are in a random order.
    """
    N = problem.train.x.shape[-2]
    order = streams.MemberNoise([streams.generator(seed, "order")], device=problem.device)
    batches: list[Tensor] = []

    def losses(theta: Params, step: int) -> Tensor:
        if not batches:
            batches.extend(order.permutation(N).split(training.batch))
        rows = batches.pop()
        part = rows_of(problem.train, rows)
        return objective(rows, theta)(model(theta, part.x), part)

    def judged(theta: Params) -> Tensor:
        return score(model(theta, problem.validation.x), problem.validation) / problem.n

    stop = EarlyStopping(
        judged, every=training.every, patience=training.patience, least=training.least
    )
    adam(
        begin,
        losses,
        steps=training.steps,
        learning_rate=training.learning_rate,
        batch_ndim=2,
        max_norm=training.max_norm,
        observe=stop,
    )
    return kept(model, stop)


def kept(model: GaussianPolicy, stop: EarlyStopping) -> Trained:
    """Return the members where early stopping keeps them."""
    best = stop.best()
    return Trained(lambda x: model(best, x), stop.done, stop.score)


def rows_of(data: Dataset, rows: Int[Tensor, "B"]) -> Dataset:
    """Return the same rows, by position, of every split."""
    return pairs(data.x[..., rows, :], data.mean[..., rows, :])


def pairs(x: Float[Tensor, "*b N d"], y: Float[Tensor, "*b N n"]) -> Dataset:
    """Return data of one outcome per input, whose covariance of 0 takes no memory."""
    n = y.shape[-1]
    nothing = y.new_zeros(()).expand(*y.shape[:-1], n, n)
    return Dataset(x, y.unsqueeze(-2), y, nothing)


# --- without training ---
# No law is checked here: where a rollout runs away, its means and variances overflow, and so does
# the error of that split alone.


def copied(problem: Problem) -> LawAt:
    """Return the law of no change: the next observation is this one; its variance is constant."""
    still = problem.still  # of the target, where nothing changes
    deviation = (problem.train.mean - still(problem.train.x)).square().mean(-2, keepdim=True)

    def law(x: Tensor) -> Gaussian:
        mean = still(x)
        return Gaussian(mean, deviation.sqrt().expand_as(mean), check=False)

    return law


def least_squares(problem: Problem) -> LawAt:
    """Return the linear least-squares fit with the variances of its residuals."""
    x, y = problem.train.x.double(), problem.train.mean.double()
    weight = coefficients(x, y, collinear=True)
    free = x.shape[-2] - weight.shape[-2]
    spread = (y - affine(x) @ weight).square().sum(-2, keepdim=True) / free
    scale = spread.sqrt().to(problem.train.x)
    weight = weight.to(problem.train.x)

    def law(x: Tensor) -> Gaussian:
        mean = affine(x) @ weight
        return Gaussian(mean, scale.expand_as(mean), check=False)

    return law


# --- squared error, and what is left of it on rows it was not trained on ---


@dataclass(frozen=True)
class Means:
    """A network of weighted least squares, and residuals of rows it was not trained on.

    Attributes:
        trained: the network trained on all training rows, one method.
        residuals: of every training row by the network of the folds it is not in, `(splits, N, n)`.
    """

    trained: Trained
    residuals: Float[Tensor, "splits N n"]


@dataclass(frozen=True)
class _OnFolds:
    """Weighted squared error over the rows that a member is trained on."""

    mask: Float[Tensor, "methods splits B"]
    weights: Tensor

    def __call__(self, law: Gaussian, data: Dataset, noise: object = None) -> Tensor:
        error = (self.weights * (law.mean - data.mean).square()).sum(-1)
        return (self.mask * error).sum(-1) / self.mask.sum(-1).clamp(min=1)


def means(
    problem: Problem,
    training: Training,
    seed: int,
    weights: Float[Tensor, "splits N n"] | None = None,
) -> Means:
    """Train by weighted squared error: on all training rows, and on all but one fold, for each.

    Args:
        problem: the data.
        training: settings.
        seed: of initial networks and the order of rows.
        weights: `U(x)` at the training rows; all 1 if not given, and then the first network is the
            arm MSE.
    """
    model = replace(policy(problem, training), scale="constant")
    K = training.folds
    own = problem.folds(K)  # (splits, N)
    mask = torch.stack([torch.ones_like(own), *(own != k for k in range(K))]).to(problem.train.x)
    w = torch.ones_like(problem.train.mean) if weights is None else weights

    def objective(rows: Tensor, theta: Params) -> Objective:
        return _OnFolds(mask[..., rows], w[:, rows])

    begin = start(model, K + 1, problem, seed)
    found = train(problem, model, begin, objective, MSE(), training, seed)
    with torch.no_grad():
        every = problem.train.mean - found.law(problem.train.x).mean[1:]  # (K, splits, N, n)
    chosen = own[None, ..., None].expand(1, *own.shape, problem.n)
    return Means(select(found, torch.zeros_like(own[:, 0])), every.gather(0, chosen)[0])


# --- likelihood and its relatives ---


def likelihood(
    problem: Problem, training: Training, betas: Sequence[float], seed: int
) -> tuple[Trained, Trained]:
    """Train by β-NLL for each β, and by faithful regression."""
    model = policy(problem, training)
    beta = problem.train.x.new_tensor(betas)[:, None].expand(-1, len(problem.splits))
    by_beta = BetaNLL(beta)
    weighted = train(
        problem,
        model,
        start(model, len(betas), problem, seed),
        lambda rows, theta: by_beta,
        NLL(),
        training,
        seed,
    )
    begin = start(model, 1, problem, seed)
    faithful = train(problem, model, begin, lambda rows, theta: Faithful(), NLL(), training, seed)
    return weighted, faithful


# --- policy gradient ---


def constant_rewards(
    problem: Problem, residuals: Tensor, lam: float
) -> Float[Tensor, "methods splits n n"]:
    """Return the factors of `U` of the arms `CONSTANT`; online starts from the marginal one."""
    y = problem.train.mean
    deviation = (y - y.mean(-2, keepdim=True)).double()
    product = deviation.mT @ deviation / y.shape[-2]
    marginal = (product + product.mT) / 2  # a batched product may be off by rounding
    second = residuals.square().mean(-2)
    rewards = (
        MahalanobisReward.scalar(y.new_ones(len(y)), problem.n),
        optimal_reward(marginal, lam, "isotropic"),
        optimal_reward(marginal, lam, "full"),
        optimal_reward(torch.diag_embed(second), lam, "diagonal"),
        optimal_reward(marginal, lam, "diagonal"),
    )
    return torch.stack([each.cholesky.to(y) for each in rewards])


def constant(
    problem: Problem, training: Training, residuals: Tensor, lam: float, seed: int
) -> Trained:
    """Train on the constant rewards `CONSTANT`, with exact gradients.

    The last one is estimated again, from the policy's own residuals on the training rows, each time
    the validation rows are looked at.
    """
    model = policy(problem, training)
    factors = constant_rewards(problem, residuals, lam)
    calls = 0

    def objective(rows: Tensor, theta: Params) -> PolicyGradient:
        nonlocal calls
        if calls % training.every == 0 and calls:
            last = {name: p.detach()[-1:] for name, p in theta.items()}
            error = model(last, problem.train.x).mean[0] - problem.train.mean
            reward = optimal_reward(torch.diag_embed(error.square().mean(-2)), lam, "diagonal")
            factors[-1] = reward.cholesky
        calls += 1
        return PolicyGradient(MahalanobisReward(factors), lam)

    begin = start(model, len(factors), problem, seed)
    return train(problem, model, begin, objective, NLL(), training, seed)


@dataclass(frozen=True)
class LearnedReward:
    """`U(x)` learned from cross-fitted residuals, as the variance `Σ̂(x) = (λ/2) U(x)⁻¹`.

    Attributes:
        variance: at the training rows, `(splits, N, n)`.
        validation: at the validation rows.
        found: the outer search.
    """

    variance: Float[Tensor, "splits N n"]
    validation: Float[Tensor, "splits V n"]
    found: cross_fitted.Learned


def reward(problem: Problem, training: Training) -> InputReward:
    """Return the network of `U(x)`."""
    return InputReward(problem.inputs, problem.n, MLP(training.reward_hidden), "diagonal")


def learn_reward(
    problem: Problem, training: Training, residuals: Tensor, mean: LawAt, lam: float, seed: int
) -> LearnedReward:
    """Learn `U(x)` on residuals of held-out rows; validation rows say when to stop."""
    model = reward(problem, training)
    drawn = [
        model.start(streams.generator(seed, "reward", split), problem.train.x.dtype)
        for split in problem.splits
    ]
    begin = {
        name: torch.stack([each[name] for each in drawn]).to(problem.device) for name in drawn[0]
    }
    weight, bias = model.network.last
    # Start at the constant reward of the residuals.
    begin[bias] = 0.5 * (lam / (2 * residuals.square().mean(-2))).log()
    begin[weight] *= 0.1
    with torch.no_grad():
        left = problem.validation.mean - mean(problem.validation.x).mean[0]
    found = cross_fitted.learn(
        model,
        begin,
        lam,
        pairs(problem.train.x, residuals),
        pairs(problem.validation.x, left),
        steps=training.reward_steps,
        learning_rate=training.reward_rate,
        weight_decay=training.reward_decay,
    )
    with torch.no_grad():
        at_train, at_validation = (
            cross_fitted.inner_law(model, found.value, lam, data.x).scale.square()
            for data in (problem.train, problem.validation)
        )
    return LearnedReward(at_train, at_validation, found)


def learned_rewards(
    problem: Problem, training: Training, squares: Means, lam: float, seed: int
) -> LearnedReward:
    """Learn `U(x)` from residuals of the least-squares mean, then from those of a mean it weighs.

    Residuals of later rounds are those of networks weighted by `Σ̂(x)^(-½)`, as `λ(x) = Σ̂(x)^½`
    weighs them.
    """
    found = learn_reward(problem, training, squares.residuals, squares.trained.law, lam, seed)
    for _ in range(1, training.rounds):
        weights = found.variance.rsqrt()
        weights = weights / weights.mean((-2, -1), keepdim=True)
        again = means(problem, training, seed, weights)
        found = learn_reward(problem, training, again.residuals, again.trained.law, lam, seed)
    return found


def tempered(
    problem: Problem,
    training: Training,
    learned: LearnedReward,
    powers: Sequence[float],
    lam: float,
    seed: int,
) -> Trained:
    """Train on `U(x) = ½ λ(x) Σ̂(x)⁻¹` with `λ(x) = λ Σ̂(x)^β`, for each power β.

    The outer level goes on meanwhile, in closed form: at every look at the validation rows
    `Σ̂_ii(x)` is multiplied by the mean of `e_i²/Σ̂_ii(x)` there, the scale of largest held-out
    likelihood.
    """
    model = policy(problem, training)
    power = problem.train.x.new_tensor(powers)[:, None, None, None]
    scale = problem.train.x.new_ones(len(powers), len(problem.splits), 1, problem.n)
    calls = 0

    def objective(rows: Tensor, theta: Params) -> PolicyGradient:
        nonlocal calls, scale
        if calls % training.every == 0:
            at = {name: p.detach() for name, p in theta.items()}
            left = problem.validation.mean - model(at, problem.validation.x).mean
            scale = (left.square() / learned.validation).mean(-2, keepdim=True)
        calls += 1
        variance = scale * learned.variance[:, rows]
        tau = variance**power  # (methods, splits, B, n)
        reward = DiagonalReward(lam * tau / (2 * variance))
        return PolicyGradient(reward, lam, temperature=tau)

    begin = start(model, len(powers), problem, seed)
    return train(problem, model, begin, objective, NLL(), training, seed)


def choose(group: Trained, squares: Trained, problem: Problem) -> Int[Tensor, "splits"]:
    """Return, for each split, the power of the lowest NLL on the validation rows.

    Of those whose squared error there is not above that of least squares; where there is none, the
    one of the lowest squared error.
    """
    error = group.error(problem.validation)
    allowed = error <= squares.error(problem.validation)
    nll = torch.where(allowed, group.validation, torch.inf)
    return torch.where(allowed.any(0), nll.argmin(0), error.argmin(0))


def select(group: Trained, chosen: Int[Tensor, "splits"]) -> Trained:
    """Return, for each split, the method chosen there, as one method."""
    methods, splits = group.validation.shape
    place = torch.arange(splits, device=chosen.device)

    def law(x: Tensor) -> Gaussian:
        found = group.law(x.expand(methods, *x.shape[-3:]))
        mean, scale = found.mean, found.scale.expand_as(found.mean)
        return Gaussian(mean[chosen, place][None], scale[chosen, place][None], check=False)

    return Trained(law, group.ended[chosen, place][None], group.validation[chosen, place][None])


# --- metrics ---


def metrics(law: LawAt, data: Dataset) -> dict[str, Tensor]:
    """Return RMSE, NLL per dimension, coverage of 90 % intervals and R², `(methods, splits)`."""
    with torch.no_grad():
        at = law(data.x)
        error = at.mean - data.mean
        whole = data.mean - data.mean.mean(-2, keepdim=True)
        unexplained = error.square().sum(-2) / whole.square().sum(-2)
        z = NormalDist().inv_cdf((1 + COVERAGE) / 2)
        return {
            "rmse": error.square().mean((-2, -1)).sqrt(),
            "nll": NLL()(at, data) / data.n,
            "coverage": (error.abs() <= z * at.scale).to(error).mean((-2, -1)),
            "r2": 1 - unexplained.mean(-1),
        }
