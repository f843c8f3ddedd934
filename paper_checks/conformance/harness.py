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
    factor `L`, `(n, n)` lower triangle. It must be deterministic. Its expectation is computed
    exactly for groups of 2 to 4, by quadrature over `epsilon` with one call per node, if it is a
    polynomial of degree at most 5 in the noise of each generation, times anything of the others:
    rewards times scores have degree 4. Nodes lie up to 4.8 from 0, elsewhere for every problem, so
    that an estimator that clips or drops noise or rewards fails: it is biased, if little. Groups of
    64 are drawn, for what happens in large ones only, and bias of more than 5 standard errors
    fails, a tenth of the gradient or so.

Of `n` independent bits, `P(y_i = 1) = ρ_i`, with the reward `-Σ_i u_i (ŷ_i - y_i)²`:

`f(u, rho, lam) -> z`: inner solution
    `z`, `(n,)`: logits of the policy that maximises `E r_u + λ H`.
`f(u, rho, lam, z) -> g`: hypergradient
    `g`, `(n,)`: `dF/du_i` of the expected log-likelihood at the inner solution `z`.
`f(rho, lam) -> u`: optimal reward
    `u`, `(n,)`: the weights whose inner solution is the data's law.

Parameters without a default choose among these; of several that fit, it is the one with fewest
names. `f(U, lam, Sigma=None)` is an inner solution, and keeps its own `Sigma`.
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

from analysis.calculus.symbols import STRUCTURES, Structure
from solvers.errors import check_count, check_seed

from . import EXAMPLES, bits, derived, identities, signatures
from .bits import BitIdentity, BitProblem, bit_problems
from .derived import PolicyGradient
from .identities import Identity
from .report import Report, Row
from .signatures import DETERMINISTIC, Target, name_of, recognise, show
from .strategies import Group, Problem, groups, problems

ANY_GROUP = tuple((n, M) for n in range(1, 6) for M in range(2, 7))
LARGE_GROUP = tuple((n, 64) for n in range(1, 4))
ON_AVERAGE = "E g = ∂E r on average, M = 64"
DRAWS = 500  # of large groups, for one mean
CUTS = (
    "with other nodes the mean is another: in the noise of one generation this is no polynomial\n"
    "           of degree 5 or less, as rewards times scores are; do not clip, drop or rank them"
)


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
    return Report(name_of(function), target.signature.kind, target.because, tuple(rows))


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

    def estimates(problem: Problem, noise: np.ndarray) -> list[PolicyGradient]:
        inputs = at(problem)
        return [PolicyGradient(*target(**inputs, epsilon=epsilon)) for epsilon in noise]

    @cache  # both identities look at the same groups
    def expected(group: Group, seed: int) -> PolicyGradient:
        def both(nodes: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
            found = estimates(group.problem, nodes)
            return [g.m for g in found], [g.L for g in found]

        return identities.expectation(both, group.n, group.M, seed)

    def shown(problem: Problem, what: str) -> str:
        taken = {name: value for name, value in at(problem).items() if name in target.takes}
        return f"{show(taken)}, {what}"

    def unbiased(identity: str, part: Literal["m", "L"], group: Group) -> None:
        problem, M = group.problem, group.M
        got, (want, _) = expected(group, group.seed), derived.policy_gradient(problem)
        where = shown(problem, f"mean over epsilon ~ N(0, I), M = {M}")
        compare = partial(identities.agree_on_policy_gradient, f"{identity}, M = {M}", part)
        try:
            compare(got, want, problem, where)
        except AssertionError as error:
            other = expected(group, group.seed + 1)
            if _agrees(lambda: compare(other, got, problem, where)):
                raise
            raise AssertionError(f"{error}\n  note     {CUTS}") from None

    def unbiased_on_average(identity: str, group: Group) -> None:
        problem, shape = group.problem, (DRAWS, group.M, group.n)
        noise = np.random.default_rng([group.n, group.seed]).standard_normal(shape)
        want, _ = derived.policy_gradient(problem)
        where = shown(problem, f"{DRAWS} draws of epsilon ~ N(0, I), M = {group.M}")
        draws = estimates(problem, noise)
        identities.agree_on_average_gradient(identity, draws, want, problem, where)

    parts: tuple[tuple[str, Literal["m", "L"]], ...] = (
        ("E g_m = ∂E r/∂m", "m"),
        ("E g_L = ∂E r/∂L", "L"),
    )
    return [
        Trial(_usable(target), "full", groups(ANY_GROUP), call),
        *(Trial(name, "full", groups(), partial(unbiased, name, part)) for name, part in parts),
        Trial(ON_AVERAGE, "full", groups(LARGE_GROUP), partial(unbiased_on_average, ON_AVERAGE), 8),
    ]


def _agrees(compare: Callable[[], None]) -> bool:
    try:
        compare()
    except AssertionError:
        return False
    return True
