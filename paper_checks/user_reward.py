"""A reward given to `analysis.derive`, as the function of tensors that `so.PolicyGradient` takes.

No solver comes from a derivation here: the expression is the user's own reward, before anything was
derived from it. What trains on it is compared with what is derived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from analysis import KL, ArgumentNameError, Derived, Gaussian
from analysis.calculus.symbols import symbol
from analysis.derive.parameters import by_symbol
from analysis.derive.problem import exact_matrix
from solvers.errors import InputError, ShapeError
from solvers.families.gaussian import Gaussian as GaussianLaw
from solvers.families.module import ModulePolicy, Wrapped

DIGITS = 17  # of numbers in the reward: a double has no more
FUNCTIONS = {"exp": torch.exp, "cosh": torch.cosh, "sinh": torch.sinh}  # of outcomes: no others


def torch_reward(derived: Derived, /, **parameters: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `r(ŷ, y)` of tensors `(..., n)`, outcome dimension last, as `(...)`.

    With a `KL(...)` regulariser the reward is the same: the reference goes beside it, as
    `so.PolicyGradient(..., reference=torch_reference(...))`.

    Args:
        derived: of a reward of vectors.
        parameters: of the reward, by name, as `derived.solve` takes them.

    Raises:
        ArgumentNameError: a parameter is missing, unknown or no number; or the reward is a table;
            or `derived` is something else.
        ArgumentError: a parameter outside its domain.

    The function raises `InputError` for what is no tensor, and `ShapeError` for one whose last axis
    is not of length n, or two that do not fit together.
    """
    _check_derived("torch_reward", derived)
    if not derived.outcomes:
        raise ArgumentNameError(
            "torch_reward takes rewards of vectors; for classes pass the table to so.ClassReward"
        )
    if set(derived.parameters) != set(parameters):
        raise ArgumentNameError(
            f"pass the parameters {sorted(derived.parameters)}, not {sorted(parameters)}"
        )
    numbers = _numbers(derived, sp.Tuple(*derived.parameters.values()), parameters)
    r = sp.N(derived.reward.xreplace(numbers), DIGITS)
    outcomes = [x for X in derived.outcomes.values() for x in sp.Matrix([X])]
    n = len(outcomes) // 2
    function = sp.lambdify(outcomes, r, modules=[FUNCTIONS])

    def reward(generated: Tensor, outcome: Tensor) -> Tensor:
        _check_outcomes(generated, outcome, n)
        generated, outcome = torch.broadcast_tensors(generated, outcome)
        found = function(*generated.unbind(-1), *outcome.unbind(-1))
        return torch.as_tensor(found).to(generated).expand(generated.shape[:-1])

    return reward


def torch_reference(derived: Derived, policy: Any, /, **constants: Any) -> Callable[[Tensor], Any]:
    """Return `p₀ = N(m₀, P₀)` of a `KL(...)`, as the `reference` of `so.PolicyGradient`.

    Args:
        derived: of a Gaussian family with `KL(...)`.
        policy: the policy to be trained, of whose family the laws are: of `so.policy(module)` laws
            of torch, `Normal` for n = 1, else `MultivariateNormal`; else Gaussian ones.
        constants: m0 and P0, or the symbols of what was given for them.

    Raises:
        ArgumentNameError: a constant is missing or unknown, or there is no Gaussian reference, or
            `derived` is something else.
        ArgumentError: a constant outside its domain.
    """
    _check_derived("torch_reference", derived)
    chosen = derived.regulariser
    if not isinstance(chosen, KL) or not isinstance(derived.family, Gaussian):
        raise ArgumentNameError(
            "torch_reference takes what is derived with a Gaussian family and KL(...); for bits "
            "and classes pass so.Reference(policy, params) to so.PolicyGradient"
        )
    n = derived.family.n
    given = (("m0", (n, 1), chosen.mean), ("P0", (n, n), chosen.covariance))
    parts = [
        symbol(name, n) if value is None else exact_matrix(value, shape, name)
        for name, shape, value in given
    ]
    numbers = _numbers(derived, sp.Tuple(*(x for X in parts for x in X)), constants)
    m0, P0 = (
        torch.tensor([float(x.xreplace(numbers)) for x in X], dtype=torch.float64).reshape(shape)
        for X, (_, shape, _) in zip(parts, given, strict=True)
    )
    L, m0 = torch.linalg.cholesky(P0), m0[:, 0]

    def reference(x: Tensor) -> Any:
        mean, factor = m0.to(x).expand(*x.shape[:-1], n), L.to(x)
        if not isinstance(policy, ModulePolicy):
            return GaussianLaw.cholesky(mean, factor)
        if n == 1:
            return Wrapped(Normal(mean, factor[0].expand_as(mean)))
        return Wrapped(MultivariateNormal(mean, scale_tril=factor))

    return reference


def _check_derived(name: str, value: object) -> None:
    if not isinstance(value, Derived):
        raise ArgumentNameError(
            f"{name} takes what derive(...) returns, not {type(value).__name__}: pass "
            "derive(reward, family)"
        )


def _check_outcomes(generated: object, outcome: object, n: int) -> None:
    """Raise `InputError` unless both are tensors `(..., n)` that fit together."""
    if not (isinstance(generated, Tensor) and isinstance(outcome, Tensor)):
        kinds = f"{type(generated).__name__} and {type(outcome).__name__}"
        raise InputError(f"the reward takes tensors (..., {n}), not {kinds}: pass torch tensors")
    shapes = [tuple(x.shape) for x in (generated, outcome)]
    try:
        fit = tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        fit = ()
    if not fit or any(shape[-1:] != (n,) for shape in shapes):
        raise ShapeError(
            f"generations have shape {shapes[0]} and outcomes {shapes[1]}: the reward is of "
            f"vectors of length n = {n}, pass tensors (..., {n}) whose other axes fit together"
        )


def _numbers(derived: Derived, asked: Any, values: Mapping[str, Any]) -> dict[Any, Any]:
    """Symbols to exact numbers, of those that are asked for."""
    read = derived.read(asked, values)
    numbers = by_symbol({name: derived.arguments[name] for name in read}, read)
    return {x: sp.Rational(value) for x, value in numbers.items()}
