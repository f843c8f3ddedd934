"""Conformance of any solver: which identities of the paper hold for a function of yours.

`conform(function)` runs the gate's random problems and witnesses on a function with one of these
signatures, recognised by the names of its parameters, in any order. Arrays are float64 NumPy, going
in and coming out, so that any framework can adapt; `lam` is a float.

`f(U, lam, [structure]) -> P`: inner solution
    `P`, `(n, n)`: covariance of the Gaussian policy that maximises `E r_U + λ H`.
`f(U, Sigma, lam, [structure]) -> G`: hypergradient
    `G`, symmetric `(n, n)` with `dF = Tr(G dU)`: gradient of the expected log-likelihood `F(U)` of
    data with covariance `Sigma` at the inner solution.
`f(m, L, U, y, [lam], epsilon) -> (g_m, g_L)`: policy-gradient estimator
    From the generations `ŷ_k = m + L ε_k` (`epsilon` is `(M, n)`) and one data point `y`, an
    estimate of the gradient of `E r_U(ŷ, y)`, without entropy, in `m`, `(n,)`, and in the Cholesky
    factor `L`, `(n, n)` lower triangle. It must be deterministic: its expectation is computed
    exactly, by quadrature over `epsilon` with one call per node, `3^(M n)` of them.

Of `n` independent bits, `P(y_i = 1) = ρ_i`, with the reward `-Σ_i u_i (ŷ_i - y_i)²`:

`f(u, rho, lam) -> z`: inner solution
    `z`, `(n,)`: logits of the policy that maximises `E r_u + λ H`.
`f(u, rho, lam, z) -> g`: hypergradient
    `g`, `(n,)`: `dF/du_i` of the expected log-likelihood at the inner solution `z`.
`f(rho, lam) -> u`: optimal reward
    `u`, `(n,)`: the weights whose inner solution is the data's law.

A function with the parameter `structure` is checked for "isotropic", "diagonal" and "full"
covariances, another for full ones. Tolerances are those of closed forms: let an iterative solver
converge. A function that raises, returns another type, dtype or shape, what is not finite, or
different results for the same inputs fails a check of its own, and the identities are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from analysis.calculus.symbols import Structure
from solvers.errors import check_count, check_seed

from . import EXAMPLES, bits, derived, identities, signatures
from .bits import BitIdentity, BitProblem, bit_problems
from .derived import PolicyGradient
from .identities import Identity
from .report import Report, Row
from .signatures import DETERMINISTIC, Target, name_of, recognise, show
from .strategies import Group, Problem, groups, problems

STRUCTURES: tuple[Structure, ...] = ("isotropic", "diagonal", "full")
ANY_GROUP = tuple((n, M) for n in range(1, 6) for M in range(2, 7))


@dataclass(frozen=True)
class Trial:
    """One row to be: a check and the random inputs it is run on.

    Attributes:
        identity: what should hold.
        structure: of the policy's covariance.
        inputs: strategy of the check's argument.
        check: raises `AssertionError` where the identity does not hold.
        one_in: costly ones get one in so many examples.
    """

    identity: str
    structure: Structure
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], object]
    one_in: int = 1


def conform(function: Callable[..., Any], *, examples: int = EXAMPLES, seed: int = 0) -> Report:
    """Return which identities hold for a solver of your own.

    Args:
        function: with one of the signatures that this module's docstring explains.
        examples: random problems per identity, fewer for the costly ones.
        seed: of the random problems.
    Raises:
        UnknownSignature: its parameters are those of none of them; the message lists them.
        InputError: `examples` is no number from 1 to 100,000, `seed` no number >= 0.
    """
    check_count("examples", examples, 1, 100_000)
    check_seed(seed)
    examples, seed = int(examples), int(seed)  # from NumPy's integers, which Hypothesis refuses
    target = recognise(function)
    rows: list[Row] = []
    for first, *others in _trials(target):
        usable = _run(first, examples, seed)
        rows.append(usable)
        if usable.passed:
            rows += [_run(trial, examples, seed) for trial in others]
    return Report(name_of(function), target.signature.kind, tuple(rows))


def _run(trial: Trial, examples: int, seed: int) -> Row:
    """Run one check on random inputs; Hypothesis finds the smallest that fail."""
    tried = 0
    failures: list[str] = []

    def check(drawn: Any) -> None:
        nonlocal tried
        tried += not failures
        try:
            trial.check(drawn)
        except AssertionError as error:
            failures.append(str(error))
            raise

    profile = settings(
        max_examples=max(1, examples // trial.one_in),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
    )
    try:
        seeded(seed)(profile(given(drawn=trial.inputs)(check)))()
    except AssertionError as error:
        return Row(trial.identity, trial.structure, tried, str(error))
    except Flaky:
        message = (
            f"{failures[-1]}\n  but not when called again with the same inputs: {DETERMINISTIC}"
        )
        return Row(trial.identity, trial.structure, tried, message)
    return Row(trial.identity, trial.structure, tried)


def _trials(target: Target) -> list[list[Trial]]:
    """Return per structure what to run, first whether results can be compared at all."""
    if target.signature in signatures.BITS:
        return [_of_bits(target)]
    if target.signature is signatures.ESTIMATOR:
        return [_of_estimator(target)]
    structures = STRUCTURES if "structure" in target.takes else ("full",)
    table = identities.INNER if target.signature is signatures.INNER else identities.HYPERGRADIENT
    return [_of_matrix(target, table, structure) for structure in structures]


def _usable(target: Target) -> str:
    return f"returns finite float64 {', '.join(target.signature.returns)}"


def _of_matrix(target: Target, table: Sequence[Identity], structure: Structure) -> list[Trial]:
    """Return the checks of a function that returns one matrix."""

    def solve(*inputs: Any) -> np.ndarray:
        names = (*target.signature.required, "structure")
        return target(**dict(zip(names, inputs, strict=True)))[0]

    def call(problem: Problem) -> None:
        names = target.signature.required
        inputs = {name: getattr(problem, name) for name in names}
        target.deterministic(**inputs, structure=structure)

    def holds(identity: Identity, problem: Problem) -> None:
        identity(solve, problem, structure)

    return [
        Trial(_usable(target), structure, problems(5), call),
        *(
            Trial(
                identity.name,
                structure,
                problems(identity.max_n),
                partial(holds, identity),
                identity.one_in,
            )
            for identity in table
        ),
    ]


def _of_bits(target: Target) -> list[Trial]:
    """Return the checks of a function of bits."""
    tables = (bits.HYPERGRADIENT, bits.INNER, bits.OPTIMAL)
    table = dict(zip(signatures.BITS, tables, strict=True))[target.signature]

    def at(problem: BitProblem) -> dict[str, Any]:
        return {name: getattr(problem, name) for name in target.signature.required}

    def call(problem: BitProblem) -> None:
        target.deterministic(**at(problem))

    def holds(identity: BitIdentity, problem: BitProblem) -> None:
        identity(lambda problem: target(**at(problem))[0], problem)

    return [
        Trial(_usable(target), "diagonal", bit_problems(5), call),
        *(
            Trial(each.name, "diagonal", bit_problems(), partial(holds, each), each.one_in)
            for each in table
        ),
    ]


def _of_estimator(target: Target) -> list[Trial]:
    """Return the checks of a policy-gradient estimator."""

    def at(problem: Problem) -> dict[str, Any]:
        L = np.linalg.cholesky(problem.P)
        return {"m": problem.m, "L": L, "U": problem.U, "y": problem.mu, "lam": problem.lam}

    def call(group: Group) -> None:
        shape = (group.M, group.n)
        epsilon = np.random.default_rng(shape).standard_normal(shape)
        target.deterministic(**at(group.problem), epsilon=epsilon)

    @cache  # both identities look at the same groups
    def expected(group: Group) -> PolicyGradient:
        inputs = at(group.problem)

        def estimates(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            in_mean, in_factor = zip(*(target(**inputs, epsilon=e) for e in nodes), strict=True)
            return np.stack(in_mean), np.stack(in_factor)

        return identities.expectation(estimates, group.n, group.M)

    def unbiased(identity: str, part: Literal["m", "L"], group: Group) -> None:
        problem, M = group.problem, group.M
        want, _ = derived.policy_gradient(problem)
        taken = {name: value for name, value in at(problem).items() if name in target.takes}
        where = f"{show(taken)}, mean over epsilon ~ N(0, I), M = {M}"
        name = f"{identity}, M = {M}"
        identities.agree_on_policy_gradient(name, part, expected(group), want, problem, where)

    parts: tuple[tuple[str, Literal["m", "L"]], ...] = (
        ("E g_m = ∂E r/∂m", "m"),
        ("E g_L = ∂E r/∂L", "L"),
    )
    return [
        Trial(_usable(target), "full", groups(ANY_GROUP), call),
        *(Trial(name, "full", groups(), partial(unbiased, name, part)) for name, part in parts),
    ]
