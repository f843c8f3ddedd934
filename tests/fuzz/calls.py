"""A valid call of every public callable of the solvers: small, and fast."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

import solvers as so
from solvers.hypergradients.implicit import implicit
from solvers.numerics.optimisers import Moments
from tests.fuzz import public
from tests.solvers import test_copies as copies
from tests.solvers.test_copies import (
    CLASSIFIER,
    POLICY,
    Next,
    normal,
    sgd,
    square,
)

F64 = torch.float64
DATA, LABELLED = copies.data(), copies.labelled()
SIGMA = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=F64)
LAW = so.Gaussian(normal(3, 6, 2), normal(4, 6, 2).exp())
CLASSES = so.Categorical(normal(0, 6, 3))
BITS = so.Dataset.of(normal(0, 6, 2), (normal(1, 6, 3, 2) > 0).double())
WORDS = so.Dataset.of(torch.ones(1, 1, dtype=F64), (normal(1, 1, 3, 2) > 0).double())
BIT_LAW = so.Bernoulli(normal(2, 6, 2))
SEQUENCES = so.RecurrentPolicy(1, 2, 2, 3)
REWARD = so.MahalanobisReward.full(SIGMA)
CLASS_REWARD = so.ClassReward.scalar(0.5, 3)
NOISE = so.MemberNoise([so.generator(0)])
SGD = so.SGD(0.1)


def start(policy: Any) -> dict[str, Tensor]:
    """Return parameters, plain numbers."""
    drawn = policy.init([so.generator(0)], dtype=F64)
    return {name: p.detach() for name, p in drawn.items()}


def sequence_law(params: Any, x: Any) -> Any:
    return SEQUENCES(params, x)


POINT = torch.ones(2, dtype=F64)
LEVELS = {"J": square, "F": square, "theta": POINT, "phi": POINT + 1}
PROBLEM = so.Bilevel(square, square)
LIKELIHOOD = so.maximum_likelihood(POLICY, so.ConstantReward(2), DATA, lam=0.5)
PHI = so.ConstantReward(2).start(SIGMA)
INPUT = so.InputReward(2, 2, so.MLP(), "diagonal")
TEMPERED = so.TemperedReward(INPUT)
FREE = so.FreeReward(2, 3)

WINDOWS = so.WindowReward(normal(0, 2, 4), 2)
SEARCHED = {
    "policy": POLICY,
    "params": start(POLICY),
    "objective": so.NLL(),
    "data": DATA,
    "tolerance": 1e-6,
    "max_iterations": 20,
    "weight_decay": 0.1,
}

DESCENT = {
    "params": {"a": normal(0, 2, 3)},
    "losses": lambda theta, step: theta["a"].square().sum(-1),
    "steps": 2,
    "learning_rate": 0.1,
    "batch_ndim": 1,
    "observe": None,
}
REFERRED = {
    "lam": 0.5,
    "mu": normal(0, 2),
    "reference": so.Gaussian(normal(5, 2), normal(6, 2).exp()),
}
WIDE = so.Gaussian(normal(0, 2) + 0.1, 5 + normal(6, 2).exp())
ONE_STEP = {**LEVELS, "optimiser": SGD, "tolerance": 0.1, "distance": 0.1, "strict": False}

# Of a method, what follows `self`, which is an example of its class.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "policy": {"module": torch.nn.Linear(2, 1)},
    "accuracy": {"law": CLASSES, "data": LABELLED},
    "calibration_error": {"law": CLASSES, "data": LABELLED, "bins": 5},
    "causal_policy": {"module": Next(), "inputs": 2, "V": 3, "T": 4},
    "closed_form": {
        "reward": REWARD,
        "lam": 0.5,
        "mu": normal(0, 2),
        "structure": "full",
    },
    "exact_diagonal": {"pi": LABELLED.pi, "lam": 0.5},
    "exact_scale": {"pi": LABELLED.pi, "lam": 0.5},
    "heuristic_scale": {"pi": LABELLED.pi, "lam": 0.5, "samples": 6},
    "fit": {
        "policy": POLICY,
        "data": DATA,
        "objective": so.NLL(),
        "params": start(POLICY),
        "weight_decay": 0.1,
        "tolerance": 1e-6,
    },
    "generator": {"seed": 0},
    "gibbs": {"reward": CLASS_REWARD, "lam": 0.5, "pi": LABELLED.pi},
    "maximum_likelihood": {
        "policy": POLICY,
        "reward": so.ConstantReward(2),
        "data": DATA,
        "lam": 0.5,
        "held_out": DATA,
        "weight_decay": 0.1,
        "reference": so.Reference(POLICY, start(POLICY)),
    },
    "optimal_reward": {"Sigma": SIGMA, "lam": 0.5, "structure": "full"},
    "optimal_scale": {"M": SIGMA, "Sigma": SIGMA, "lam": 0.5},
    "projected_reward": {"Sigma": SIGMA, **REFERRED},
    "plug_in": {
        "policy": POLICY,
        "params": start(POLICY),
        "lam": 0.5,
        "data": DATA,
        "estimate": "residual",
        "weight_decay": 0.1,
        "rounds": 2,
        "tolerance": 1e-3,
    },
    "single_loop": {
        "problem": PROBLEM,
        "theta": POINT,
        "phi": POINT + 1,
        "steps": 2,
        "inner_rate": lambda k: 0.1,
        "outer_rate": lambda k: 0.1,
        "generator": so.generator(0),
        "every": 1,
        "tolerance": 1e-3,
        "checkpoint": None,
        "observe": None,
    },
    "solve": {
        "problem": LIKELIHOOD,
        "seed": 0,
        "theta": start(POLICY),
        "phi": PHI,
        "optimiser": sgd,
        "steps": 1,
        "inner": so.Inexact(max_iterations=5),
        "hypergradient": so.Implicit(),
        "tolerance": 1e-3,
        "checkpoint": None,
    },
    "train": {
        "policy": POLICY,
        "params": start(POLICY),
        "objective": so.PolicyGradient(REWARD, 0.5, so.ScoreFunction(2)),
        "data": DATA,
        "epochs": 1,
        "learning_rate": 0.1,
        "batch_ndim": 0,
        "batch_size": 3,
        "shuffle": so.MemberNoise([so.generator(1)]),
        "noise": NOISE,
        "max_norm": 1.0,
        "weight_decay": 0.1,
        "observe": None,
    },
    "training.ensemble.adam": {**DESCENT, "max_norm": 1.0, "weight_decay": 0.1},
    "training.ensemble.gradient_descent": DESCENT,
    "training.inner.gradient": SEARCHED,
    "training.inner.second_order": SEARCHED,
    "training.inner.minimum": {
        "params": {"a": normal(0, 3)},
        "loss": lambda theta: (theta["a"] - 1).square().sum(),
        "methods": None,
        "tolerance": 1e-6,
        "max_iterations": 20,
    },
    "tasks.gaussian.draw": {
        "generators": [so.generator(0)],
        "inputs": 2,
        "n": 2,
        "samples": 3,
        "mean": 1.0,
        "scale": 2.0,
        "dtype": F64,
    },
    "tasks.bits.draw": {
        "generator": so.generator(0),
        "inputs": 2,
        "n": 2,
        "rows": 6,
        "samples": 3,
        "dtype": F64,
    },
    "tasks.linear.draw": {
        "generators": [so.generator(0)],
        "n": 2,
        "rows": 6,
        "samples": 3,
        "sigma": (0.5,),
        "dtype": F64,
    },
    "hypergradients.implicit.implicit": {
        **LEVELS,
        "method": "cg",
        "tolerance": 1e-6,
        "max_iterations": 5,
        "damping": 0.1,
        "rank": 2,
        "step": 0.1,
        "generator": so.generator(0),
        "distance": 1e-3,
        "strict": False,
    },
    "hypergradients.penalty.penalty": {
        **LEVELS,
        "weight": 10.0,
        "tolerance": 0.1,
        "max_iterations": 50,
        "strict": False,
    },
    "hypergradients.unrolled.unrolled": {**ONE_STEP, "steps": 3, "last": 2},
    "hypergradients.unrolled.one_step": ONE_STEP,
    "hypergradients.functional.functional": {
        "policy": POLICY,
        "params": start(POLICY),
        "reward_of": lambda U: so.MahalanobisReward(torch.linalg.cholesky(U)),
        "phi": SIGMA,
        "lam": 0.5,
        "data": DATA,
        "outer_data": DATA,
        "reference": None,
        "distance": 0.1,
        "strict": False,
    },
    "hypergradients.differentiable.inner_solution": {
        "J": square,
        "theta0": POINT,
        "phi": POINT + 1,
        "methods": None,
        "tolerance": 1e-6,
        "max_iterations": 20,
    },
    "rewards.windows.soft_values": {"reward": WINDOWS, "lam": 0.5},
    "rewards.windows.inner_solution": {"reward": WINDOWS, "lam": 0.5},
    "rewards.windows.optimal_windows": {"data": WORDS, "lam": 0.5, "V": 2, "k": 0},
    "rewards.windows.cost": {"data": WORDS, "V": 2, "k": 1},
    "rewards.mahalanobis.optimal_weights": {"rho": BITS.mean[0] * 0.5 + 0.2, "lam": 0.5},
    "rewards.mahalanobis.isotropic_weight": {"trace": 2.0, "n": 2, "lam": 0.5},
    "rewards.with_reference.inner_solution": {"reward": REWARD, **REFERRED},
    "rewards.with_reference.optimal_reward": {"Sigma": SIGMA, **REFERRED, "reference": WIDE},
    "rewards.with_reference.stationary_weight": {"Sigma": SIGMA, **REFERRED},
    "rewards.bounded.critical_lam": {"omega": 1.0, "variance": 0.5, "n": 2},
    "rewards.bounded.inner_solution": {
        "reward": so.BoundedReward(torch.ones((), dtype=F64)),
        "lam": 0.1,
        "mu": normal(0, 2),
        "variance": 0.5,
    },
    "bilevel.loop.solve": {
        "problem": PROBLEM,
        "theta": POINT,
        "phi": POINT + 1,
        "optimiser": sgd,
        "steps": 2,
        "inner": so.Exact(),
        "hypergradient": so.Implicit(),
        "tolerance": 1e-3,
        "generator": None,
        "checkpoint": None,
        "observe": None,
        "progress": None,
    },
    "bilevel.likelihood.problem": {
        "policy": POLICY,
        "reward": so.ConstantReward(2),
        "lam": 0.5,
        "data": DATA,
        "weight_decay": 0.1,
        "held_out": DATA,
        "estimator": so.ScoreFunction(2),
        "batch_size": 3,
        "reference": None,
    },
    "bilevel.cross_fitted.inner_law": {
        "model": INPUT,
        "phi": INPUT.start(so.generator(0)),
        "lam": 0.5,
        "x": DATA.x,
    },
    "bilevel.cross_fitted.learn": {
        "model": INPUT,
        "start": INPUT.start(so.generator(0)),
        "lam": 0.5,
        "residuals": DATA,
        "validation": DATA,
        "steps": 2,
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "every": 1,
        "patience": 2,
    },
    "families.bernoulli.inner_solution": {
        "U": torch.diag_embed(POINT),
        "lam": 0.5,
        "mu": BITS.mean * 0.5 + 0.2,
    },
    "families.baselines.advantage": {"rewards": normal(0, 6, 3), "baseline": "leave-one-out"},
    "MLP.__call__": {"params": so.MLP((3,)).init(so.generator(0), 2, 1), "prefix": "", "x": DATA.x},
    "MLP.features": {"params": so.MLP((3,)).init(so.generator(0), 2, 1), "prefix": "", "x": DATA.x},
    "MLP.init": {"generator": so.generator(0), "inputs": 2, "outputs": 1},
    "MLP.shapes": {"inputs": 2, "outputs": 1},
    "*.init": {"generators": [so.generator(0)], "batch": (), "dtype": F64},
    "*.zeros": {"dtype": F64},
    "*Policy.__call__": {"x": DATA.x},
    "NLL.__call__": {"law": LAW, "data": DATA},
    "MSE.__call__": {"law": LAW, "data": DATA},
    "BetaNLL.__call__": {"law": LAW, "data": DATA},
    "Faithful.__call__": {"law": LAW, "data": DATA},
    "PolicyGradient.__call__": {"law": LAW, "data": DATA, "noise": NOISE},
    "PolicyGradient.rows": {"index": torch.tensor([0, 2])},
    "*.step": {
        "theta": normal(0, 3),
        "slope": normal(1, 3),
        "moments": Moments(normal(2, 3), normal(3, 3).square(), 1),
    },
    "Analytic.__call__": {"law": LAW, "data": DATA, "reward": REWARD, "noise": None},
    "Pathwise.__call__": {"law": LAW, "data": DATA, "reward": REWARD, "noise": NOISE},
    "ScoreFunction.__call__": {"law": LAW, "data": DATA, "reward": REWARD, "noise": NOISE},
    "Bernoulli.check_data": {"data": BITS},
    "Bernoulli.cross_entropy": {"q": BITS},
    "Bernoulli.log_prob": {"y": BITS.y.movedim(-2, -3)},
    "Bernoulli.rewards": {"y_hat": BITS.y.movedim(-2, -3), "data": BITS, "reward": REWARD},
    "Bernoulli.reinforce": {
        "data": BITS,
        "reward": REWARD,
        "M": 3,
        "baseline": "mean",
        "noise": NOISE,
    },
    "Categorical.check_classes": {"name": "pi", "pi": LABELLED.pi},
    "Categorical.check_data": {"data": LABELLED},
    "Categorical.check_moments": {"mu": LABELLED.mean, "Sigma": LABELLED.covariance},
    "Categorical.cross_entropy": {"q": LABELLED},
    "Categorical.kl": {"reference": so.Categorical(normal(5, 6, 3))},
    "Categorical.trace": {"U": torch.eye(3, dtype=F64)},
    "Categorical.reinforce": {
        "data": LABELLED,
        "reward": CLASS_REWARD,
        "M": 3,
        "baseline": "mean",
        "noise": NOISE,
    },
    "*.kl": {"reference": so.Bernoulli(normal(5, 6, 2))},
    "*.draw": {"M": 3, "noise": NOISE},
    "*.check_moments": {"mu": DATA.mean, "Sigma": DATA.covariance},
    "*.check_data": {"data": DATA},
    "*.trace": {"U": SIGMA},
    "*.covariance": {},
    "*.entropy": {},
    "*.entropies": {},
    "*.log_det_scale": {},
    "*.precision": {},
    "*.standard_deviations": {},
    "*.options": {},
    "*.of_all": {},
    "*.table": {},
    "Gaussian.kl": {"reference": so.Gaussian(normal(5, 6, 2), normal(6, 6, 2).exp())},
    "Gaussian.cholesky": {"mean": DATA.mean, "L": torch.linalg.cholesky(SIGMA)},
    "Gaussian.diagonal": {"mean": DATA.mean, "s": LAW.scale},
    "Gaussian.cross_entropy": {"q": DATA},
    "Gaussian.log_prob": {"y": DATA.mean},
    "Gaussian.whiten": {"deviation": DATA.mean},
    "Gaussian.pathwise": {"data": DATA, "reward": REWARD, "M": 2, "noise": NOISE},
    "Gaussian.reinforce": {
        "data": DATA,
        "reward": REWARD,
        "M": 2,
        "baseline": "optimal",
        "noise": NOISE,
    },
    "BoundedReward.of": {"deviation": DATA.mean},
    "BoundedReward.__call__": {"generation": DATA.mean, "y": DATA.mean + 1},
    "BoundedReward.expected": {"law": LAW, "q": DATA},
    "MahalanobisReward.scalar": {"u": 0.5, "n": 2},
    "MahalanobisReward.diagonal": {"u": LAW.scale},
    "MahalanobisReward.full": {"U": SIGMA},
    "MahalanobisReward.quadratic": {"deviation": DATA.mean},
    "MahalanobisReward.of": {"deviation": DATA.mean},
    "MahalanobisReward.__call__": {"generation": DATA.mean, "y": DATA.mean + 1},
    "MahalanobisReward.expected": {"law": LAW, "q": DATA},
    "ClassReward.scalar": {"u": 0.5, "C": 3},
    "ClassReward.diagonal": {"u": LABELLED.pi},
    "ClassReward.full": {"U": torch.eye(3, dtype=F64).expand(6, 3, 3).clone()},
    "ClassReward.mahalanobis": {"U": torch.eye(3, dtype=F64).expand(6, 3, 3).clone()},
    "ClassReward.by_class": {"pi": LABELLED.pi},
    "ClassReward.where_possible": {"law": CLASSES, "data": LABELLED},
    "ClassReward.expected": {"law": CLASSES, "data": LABELLED},
    "ClassReward.rows": {"index": torch.tensor([0, 2])},
    "ConstantReward.start": {"U": SIGMA},
    "ConstantReward.__call__": {"phi": PHI, "x": DATA.x},
    "InputReward.start": {"generator": so.generator(0), "dtype": F64},
    "InputReward.__call__": {"phi": INPUT.start(so.generator(0)), "x": DATA.x},
    "InputReward.weights": {"phi": INPUT.start(so.generator(0)), "x": DATA.x},
    "Tempered.expected": {"law": LAW, "q": DATA},
    "TemperedReward.start": {"generator": so.generator(0), "dtype": F64},
    "TemperedReward.__call__": {"phi": TEMPERED.start(so.generator(0)), "x": DATA.x},
    "FreeReward.start": {"generator": so.generator(0), "dtype": F64},
    "FreeReward.__call__": {"phi": FREE.start(so.generator(0)), "x": DATA.x},
    "OneHotReward.__call__": {
        "phi": so.ConstantReward(3).start(torch.eye(3, dtype=F64)),
        "x": DATA.x,
    },
    "Dataset.of": {"x": DATA.x, "y": DATA.y},
    "Dataset.pairs": {"x": DATA.x, "y": DATA.mean},
    "Dataset.rows": {"index": torch.tensor([0, 2])},
    "LabelledData.of": {"x": DATA.x, "labels": torch.tensor([0, 1, 2, 0, 1, 2]), "C": 3},
    "LabelledData.soft": {"x": DATA.x, "pi": LABELLED.pi},
    "LabelledData.rows": {"index": torch.tensor([0, 2])},
    "Implicit.__call__": LEVELS,
    "Unrolled.__call__": LEVELS,
    "Penalty.__call__": LEVELS,
    "MemberNoise.normal": {"shape": (3,), "dtype": F64},
    "MemberNoise.uniform": {"shape": (3,), "dtype": F64},
    "MemberNoise.permutation": {"N": 4},
    "RecurrentPolicy.__call__": {"params": start(SEQUENCES), "x": WORDS.x},
    "Reference.__call__": {"x": DATA.x},
    "WindowMatch.__call__": {"y_hat": WORDS.y, "y": WORDS.y},
    "WindowMatch.against": {"data": WORDS},
    "WindowMatch.expected": {"law": SEQUENCES(start(SEQUENCES), WORDS.x), "data": WORDS},
    "WindowReward.of": {"y_hat": WORDS.y},
    "WindowReward.__call__": {"y_hat": WORDS.y, "y": WORDS.y},
    "WindowReward.expected": {"law": SEQUENCES(start(SEQUENCES), WORDS.x), "data": WORDS},
}

# What a method is called on, where the first example of its class does not fit its arguments.
SELVES: dict[str, Any] = {
    "MLP": so.MLP((3,)),
    "Bernoulli": BIT_LAW,
    "Gaussian": LAW,
    "Categorical": CLASSES,
    "RecurrentPolicy": SEQUENCES,
    "InputReward": INPUT,
    "TemperedReward": TEMPERED,
    "FreeReward": FREE,
    "OneHotReward": so.OneHotReward(so.ConstantReward(3)),
    "MahalanobisReward": REWARD,
    "ClassReward": CLASS_REWARD,
    "PolicyGradient": so.PolicyGradient(REWARD, 0.5, temperature=normal(0, 6).exp()),
    "ScoreFunction": so.ScoreFunction(3, "optimal"),
    "WindowMatch": so.WindowMatch(0.5, 2, 1),
    "WindowReward": so.WindowReward(normal(0, 1, 4), 2),
    "Result": copies.solved(),
    "Solution": so.Solution(POINT, True, 0.0, 1, 0.0, "it is a test"),
    "Hypergradient": implicit(square, square, POINT, POINT),
    "GaussianPolicy": POLICY,
    "CategoricalPolicy": CLASSIFIER,
    "BernoulliPolicy": so.BernoulliPolicy(2, 2),
    "Unrolled": so.Unrolled(SGD, 2),
    "Bilevel": PROBLEM,
    "Reference": so.Reference(POLICY, start(POLICY)),
    "ConstantReward": so.ConstantReward(2),
    "LabelledData": LABELLED,
    "Dataset": DATA,
    "MemberNoise": NOISE,
}


def example(name: str) -> Any:
    """Return a value of the class."""
    if name in SELVES:
        return SELVES[name]
    return copies.EXAMPLES[name]()


def call(key: str, thing: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return a public callable of the solvers, and arguments by name that it takes."""
    if inspect.isfunction(thing) and thing.__qualname__ == thing.__name__:  # of no class
        return thing, ARGUMENTS[key]
    owner, _, method = key.partition(".")
    if not method:
        value = example(key)
        return thing, {
            f.name: getattr(value, f.name)
            for f in fields(value)
            if f.init and hasattr(value, f.name)
        }
    arguments = next(
        (
            ARGUMENTS[k]
            for k in (key, f"*Policy.{method}" if owner.endswith("Policy") else key, f"*.{method}")
            if k in ARGUMENTS
        ),
        None,
    )
    if arguments is None:
        raise KeyError(key)
    if getattr(thing, "__self__", None) is getattr(so, owner):  # a class method
        return thing, arguments
    value = example(owner)
    if owner.endswith("Policy") and method == "__call__" and "params" not in arguments:
        arguments = {"params": start(value), **arguments}
    return _on, {"self": value, "method": _Named(method), **arguments}


class _Named:
    """The name of a method, which is not spoilt."""

    def __init__(self, name: str) -> None:
        self.name = name


def _on(self: Any, method: _Named, **arguments: Any) -> Any:
    """Call a method of a value that may have been built anew."""
    return getattr(self, method.name)(**arguments)


def all_calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Return a valid call of every public callable."""
    return {key: call(key, thing) for key, thing in public.of_solvers().items()}
