"""General n against the definitions in NumPy: adjoints, steps, and words with L and diag(W)."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import DerivationError, definitions, gaussian, hypergradients, rules
from analysis.calculus import adjoint as adjoints
from analysis.calculus import matrices, structures
from analysis.calculus.general_n import LogDet, diagonal, normal, transpose, words_of
from analysis.calculus.matrices import diagonal_part, solve_word_equation
from analysis.calculus.symbols import DIMENSION, STRUCTURES, symbol, symbols
from analysis.errors import RuleError
from tests.analysis.test_derivations import spd
from tests.planting import derived_anew, unproved

SIZES = (4, 6)
LAM = 0.7


def basis(structure: str, n: int) -> list[np.ndarray]:
    """A basis of the symmetric matrices of a structure."""
    one = np.eye(n)
    if structure == "isotropic":
        return [one]
    if structure == "diagonal":
        return [np.diag(row) for row in one]
    pairs = [(i, j) for i in range(n) for j in range(i + 1)]
    return [np.outer(one[i], one[j]) + np.outer(one[j], one[i]) for i, j in pairs]


def gradient(f: Any, X: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """The symmetric G with df = Tr(G dX), by central differences."""
    n, G = len(X), np.zeros(X.shape)
    for i in range(n):
        for j in range(i + 1):
            E = np.zeros((n, n))
            E[i, j] = E[j, i] = step
            slope = (f(X + E) - f(X - E)) / (2 * step)
            G[i, j] = G[j, i] = slope if i == j else slope / 2
    return G


def problem(n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "m": rng.normal(size=n),
        "mu": rng.normal(size=n),
        "P": spd(n, rng),
        "Sigma": spd(n, rng),
        "U": spd(n, rng),
    }


def within(structure: str, P: np.ndarray) -> np.ndarray:
    n = len(P)
    parts = {"full": P, "diagonal": np.diag(np.diag(P)), "isotropic": P[0, 0] * np.eye(n)}
    return parts[structure]


def argument(structure: str, P: np.ndarray) -> dict[str, Any]:
    return {
        "full": {"P": P},
        "diagonal": {"L": np.diag(np.sqrt(np.diag(P)))},
        "isotropic": {"s": P[0, 0]},
    }[structure]


def log_likelihood(m: np.ndarray, P: np.ndarray, v: dict[str, Any]) -> float:
    e = m - v["mu"]
    fit = np.trace(np.linalg.solve(P, v["Sigma"] + np.outer(e, e)))
    return -(fit + np.linalg.slogdet(2 * np.pi * P)[1]) / 2


def adjoint(structure: str, v: dict[str, Any], m: np.ndarray, P: np.ndarray) -> Any:
    """(a, A): d²J of the written-out J, along every basis matrix, and dF by differences."""
    n, directions = len(m), basis(structure, len(m))
    step, inverse = 1e-5, np.linalg.inv(P)
    pull = np.array(
        [
            (log_likelihood(m, P + step * H, v) - log_likelihood(m, P - step * H, v)) / (2 * step)
            for H in directions
        ]
    )
    mean_pull = np.array(
        [
            (log_likelihood(m + h, P, v) - log_likelihood(m - h, P, v)) / (2 * step)
            for h in step * np.eye(n)
        ]
    )
    hessian = (
        -LAM
        / 2
        * np.array([[np.trace(inverse @ G @ inverse @ H) for G in directions] for H in directions])
    )
    shares = np.linalg.solve(hessian, -pull)
    A = sum(share * H for share, H in zip(shares, directions, strict=True))
    return np.linalg.solve(2 * v["U"], mean_pull), A


def hypergradient(a: np.ndarray, A: np.ndarray, e: np.ndarray) -> np.ndarray:
    """∂_U of dJ(a, A) = -2aᵀUe - Tr(UA) + terms without U."""
    return -np.outer(a, e) - np.outer(e, a) - A


def inner_solution(structure: str, U: np.ndarray) -> np.ndarray:
    n = len(U)
    return {
        "full": LAM / 2 * np.linalg.inv(U),
        "diagonal": np.diag(LAM / (2 * np.diag(U))),
        "isotropic": LAM * n / (2 * np.trace(U)) * np.eye(n),
    }[structure]


@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n", [2, *SIZES])
def test_the_functional_form_against_a_linear_solve(structure, n):
    v = problem(n)
    P, e = within(structure, v["P"]), v["m"] - v["mu"]
    a, A = adjoint(structure, v, v["m"], P)
    outputs = {"m": v["m"], "mu": v["mu"], **argument(structure, P)}
    data = {"Sigma": v["Sigma"], "lam": LAM}
    found_A = hypergradients.functional.covariance_adjoint(structure, n)
    found_G = hypergradients.functional.hypergradient(structure, n)
    for side in ("stated", "derived"):
        np.testing.assert_allclose(found_A.at(side, **outputs, **data), A, atol=1e-8)
        G = found_G.at(side, **outputs, **data, U=v["U"])
        np.testing.assert_allclose(G, hypergradient(a, A, e), atol=1e-8)
    if structure == "full":
        found = hypergradients.functional.mean_adjoint(n).at("derived", **outputs, U=v["U"])
        np.testing.assert_allclose(found, a, atol=1e-8)


@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n", [2, *SIZES])
def test_at_the_inner_solution_against_differences_of_the_likelihood(structure, n):
    v = problem(n)

    def F(U: np.ndarray) -> float:
        return log_likelihood(v["mu"], inner_solution(structure, U), v)

    expected = gradient(F, v["U"])
    for build in (gaussian.outer.implicit_hypergradient, hypergradients.functional.at_solution):
        for side in ("stated", "derived"):
            found = build(structure, n).at(side, U=v["U"], Sigma=v["Sigma"], lam=LAM)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.gate
@pytest.mark.parametrize("n", [2, *SIZES])
def test_the_gap_of_a_restricted_mean_by_linear_algebra(n):
    """Functional less parametric at P*(U), both from their definitions, for one shared P."""
    rng, U, w = np.random.default_rng(n), problem(n)["U"], 0.3
    laws = [problem(n, seed) for seed in (1, 2)]
    v_a, v_b = rng.normal(size=n), rng.normal(size=n)
    inputs = ((w, laws[0], v_a), (1 - w, laws[1], v_b))

    def beta(U: np.ndarray) -> float:
        fit = sum(p * (x @ U @ law["mu"]) for p, law, x in inputs)
        return float(fit / sum(p * (x @ U @ x) for p, _, x in inputs))

    def F(U: np.ndarray) -> float:
        P = inner_solution("full", U)
        return sum(p * log_likelihood(beta(U) * x, P, law) for p, law, x in inputs)

    P, free = inner_solution("full", U), np.zeros((n, n))
    for p, law, x in inputs:
        m = beta(U) * x
        a, A = adjoint("full", {**law, "U": U}, m, P)
        free += p * hypergradient(a, A, m - law["mu"])
    e_a, e_b = (beta(U) * x - law["mu"] for _, law, x in inputs)
    for side in ("stated", "derived"):
        found = hypergradients.functional.restricted_mean_gap(n).at(
            side, w=w, e_a=e_a, e_b=e_b, lam=LAM
        )
        np.testing.assert_allclose(found, free - gradient(F, U), rtol=1e-5, atol=1e-6)


@pytest.mark.gate
@pytest.mark.parametrize("structure", ["diagonal", "isotropic"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("n", [2, *SIZES])
def test_steps_in_log_s_against_differences_of_the_loop(structure, steps, n):
    v = problem(n)
    count, eta = (n if structure == "diagonal" else 1), 0.15 / (LAM * n)
    start = np.log(np.diag(inner_solution(structure, v["U"]))[:count]) / 2

    def F(U: np.ndarray) -> float:
        x = start
        for _ in range(steps):  # J = -Σ U_ii s_i² + λ Σ log s_i + terms without s
            share = np.diag(U) if count == n else np.array([np.trace(U)])
            x = x + eta * (-2 * share * np.exp(2 * x) + LAM * n / count)
        return log_likelihood(v["mu"], np.diag(np.broadcast_to(np.exp(2 * x), n)), v)

    values = {"U": v["U"], "Sigma": v["Sigma"], "lam": LAM, "eta": eta, "steps": steps}
    for side in ("stated", "derived"):
        found = hypergradients.unrolled_gaussian.hypergradient(structure, n).at(side, **values)
        np.testing.assert_allclose(found, gradient(F, v["U"]), rtol=1e-6, atol=1e-8)


@pytest.mark.gate
@pytest.mark.parametrize("n", [2, *SIZES])
def test_the_gradient_of_log_det_by_differences(n):
    U = problem(n)["U"]
    expected = gradient(lambda X: float(np.linalg.slogdet(X)[1]), U)
    for side in ("stated", "derived"):
        np.testing.assert_allclose(rules.log_det_gradient(n).at(side, U=U), expected, rtol=1e-6)


BUILDS: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    **{
        f"{build.name}[{structure}]": (build, (structure,), "entropy")
        for build in (
            gaussian.outer.implicit_hypergradient,
            hypergradients.functional.covariance_adjoint,
            hypergradients.functional.hypergradient,
            hypergradients.functional.at_solution,
        )
        for structure in STRUCTURES
    },
    "mean_adjoint": (hypergradients.functional.mean_adjoint, (), "reward"),
    "restricted_mean_gap": (hypergradients.functional.restricted_mean_gap, (), "log_density"),
    "unrolled[diagonal]": (
        hypergradients.unrolled_gaussian.hypergradient,
        ("diagonal",),
        "entropy",
    ),
    "unrolled[isotropic]": (
        hypergradients.unrolled_gaussian.hypergradient,
        ("isotropic",),
        "entropy",
    ),
    "log_det_gradient": (rules.log_det_gradient, (), "reward"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_definition_that_is_doubled_fails(monkeypatch, name):
    build, args, which = BUILDS[name]
    original = getattr(definitions, which)
    assert build(*args, None).failure is None
    monkeypatch.setattr(definitions, which, lambda *given: 2 * original(*given))
    with pytest.raises(DerivationError):
        build.derive(*args, None).verify()


def of_wrong_sign(kind: type) -> Any:
    """A differential of which that of one kind of node has the wrong sign."""
    return lambda f: lambda X, *along: -f(X, *along) if isinstance(X, kind) else f(X, *along)


unrolled = hypergradients.unrolled_gaussian
FAULTS: tuple[tuple[Any, str, Any], ...] = (
    (definitions, "entropy", lambda f: lambda P: 2 * f(P)),
    (definitions, "expected_reward", lambda f: lambda m, *of: f(2 * m, *of)),
    (
        definitions,
        "objective",
        lambda f: lambda m, P, mu, *of: f(m, P, mu, *of) + sp.Trace(m * mu.T * P),
    ),
    (definitions, "log_density", lambda f: lambda *of: 2 * f(*of)),
    (adjoints, "solve_word_equation", lambda f: lambda *of: f(*of) + symbol("b", None)),
    (structures, "solve_word_equation", lambda f: lambda *of: 2 * f(*of)),
    (structures, "solve_linear", lambda f: lambda *of: [2 * x for x in f(*of)]),
    (unrolled, "after", lambda f: lambda *of: f(*of) + 1),
    (unrolled, "diagonal_part", lambda f: lambda X: X),
    (matrices, "differential", of_wrong_sign(sp.Inverse)),
    (rules, "differential", of_wrong_sign(sp.Inverse)),
    (matrices, "differential", of_wrong_sign(LogDet)),
)
ALONE = {"unrolled[isotropic]": {"log s separates, with one curvature"}}  # one s is all there is


@pytest.mark.parametrize("name", BUILDS)
def test_every_condition_of_general_n_notices_a_fault(name):
    """In what a result is derived from or goes through, the inner solution being right."""
    build, args, _ = BUILDS[name]
    right, noticed = build(*args, None), set[str]()
    assert unproved(right) == set()
    for owner, attribute, plant in FAULTS:
        with derived_anew(), pytest.MonkeyPatch.context() as patch:
            for structure in STRUCTURES:
                gaussian.inner.solution(structure, None)
            patch.setattr(owner, attribute, plant(getattr(owner, attribute)))
            noticed |= unproved(build.derive(*args, None))
    every = {condition.text for condition in right.conditions}
    assert every - noticed == ALONE.get(name, set())


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_does_not_solve_the_adjoint_equation_fails(monkeypatch, structure):
    solve_words, solve_scalar = structures.solve_word_equation, structures.solve_linear
    for module in (adjoints, structures):
        monkeypatch.setattr(module, "solve_word_equation", lambda *of: 2 * solve_words(*of))
    monkeypatch.setattr(structures, "solve_linear", lambda *of: [2 * x for x in solve_scalar(*of)])
    for build in (
        hypergradients.functional.covariance_adjoint,
        hypergradients.functional.at_solution,
    ):
        wrong = build.derive(structure, None)
        assert not all(condition.holds() for condition in wrong.conditions)
        with pytest.raises(DerivationError):
            wrong.verify()


@pytest.mark.parametrize("n", [1, 2])
def test_what_solves_another_adjoint_equation_fails(monkeypatch, n):
    """In entries: without the ½ of ½ d²J + dF its maximiser is half the adjoint."""
    outputs, second = hypergradients.outputs, hypergradients.outputs.second
    monkeypatch.setattr(outputs, "second", lambda *of: 2 * second(*of))
    for wrong in (
        hypergradients.functional.mean_adjoint.derive(n),
        hypergradients.functional.covariance_adjoint.derive("full", n),
    ):
        (equation,) = (c for c in wrong.conditions if "= 0 for every" in c.text)
        assert not equation.holds()


def test_only_equations_in_one_word_are_solved():
    U, P, Sigma = symbols("U P Sigma", None)
    found = solve_word_equation(3 * U * P * sp.Inverse(Sigma) - Sigma, P)
    assert normal(found - sp.Inverse(U) * Sigma * Sigma / 3).is_ZeroMatrix
    for G in (U * P + P * U - Sigma, U * P * Sigma * P - U, U - Sigma):
        with pytest.raises(ValueError, match="not of the form"):
            solve_word_equation(G, P)


U, P, SIGMA, L, M, MU = (symbol(name, None) for name in ("U", "P", "Sigma", "L", "m", "mu"))
DIAGONAL = [
    diagonal_part(P),
    sp.Inverse(diagonal_part(P)),
    diagonal_part(L),
    diagonal_part(M * MU.T),
    diagonal_part(U * SIGMA),
    diagonal_part(SIGMA * U),
]
PLAIN = [U, sp.Inverse(U), SIGMA, L, L.T, sp.Inverse(L), M * MU.T, MU * M.T]


RULES: dict[Any, Any] = {
    sp.MatAdd: lambda *of: sum(of),
    sp.Add: lambda *of: sum(of),
    sp.Mul: lambda *of: np.prod(of),
    sp.MatMul: lambda *of: reduce(np.matmul, [np.eye(3) * x if np.ndim(x) == 0 else x for x in of]),
    sp.Pow: lambda x, power: x**power,
    sp.MatPow: lambda X, power: np.linalg.matrix_power(X, int(power)),
    sp.Inverse: lambda X, _: np.linalg.inv(X),
    sp.Transpose: np.transpose,
    sp.Trace: np.trace,
    sp.DiagonalMatrix: lambda X: np.diag(np.diag(X)),
    type(sp.Identity(3)): np.eye,
}


def evaluated(X: Any, numbers: dict[Any, Any]) -> Any:
    """A matrix expression or a trace in NumPy, node by node."""
    if X in numbers or X.is_number:
        return numbers[X] if X in numbers else float(X)
    return RULES[type(X)](*(evaluated(part, numbers) for part in X.args))


@pytest.mark.gate
@given(
    letters=st.lists(st.sampled_from([*PLAIN, *DIAGONAL]), min_size=1, max_size=6),
    sides=st.tuples(*2 * [st.sampled_from(DIAGONAL)]),
    inner=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_the_normal_form_keeps_the_value(letters, sides, inner, seed):
    rng = np.random.default_rng(seed)
    numbers: dict[Any, Any] = {DIMENSION: 3} | {X: spd(3, rng) for X in (U, P, SIGMA)}
    numbers |= {L: np.linalg.cholesky(spd(3, rng))}
    numbers |= {x: rng.normal(size=(3, 1)) for x in (M, MU)}
    product = sp.MatMul(*letters)
    turned = diagonal_part(sp.MatMul(sides[0], *inner, sides[1]))
    for X in (product, product.T, sp.Trace(product), turned, sp.Trace(product * turned)):
        expected = evaluated(X, numbers)
        found = evaluated(normal(X), numbers)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.max(np.abs(expected)))
    assert normal(sp.Trace(product) - sp.Trace(product.T)) == 0


def test_a_matrix_without_a_rule_is_named():
    X = symbol("P", None)
    with pytest.raises(RuleError, match=r"no rule for HadamardProduct"):
        words_of(sp.HadamardProduct(X, X))


def test_a_diagonal_part_is_its_own_transpose():
    """`diag(AW)` and `diag((AW)ᵀ)` are one letter, which a transpose leaves as it is."""
    U, Sigma = symbol("U", None), symbol("Sigma", None)
    ((word, _),) = words_of(U * Sigma).items()
    part = diagonal(word)
    assert part == transpose(part) == diagonal(transpose(word))
    ((other, _),) = words_of(sp.DiagonalMatrix(Sigma * U)).items()
    assert other == part
    assert not normal(sp.Transpose(sp.DiagonalMatrix(Sigma * U))).has(sp.Transpose)
