"""A wrong formula does not pass: every stated result is perturbed, and `verify` must object."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import sympy as sp

import analysis
from analysis import (
    Condition,
    DerivationError,
    MomentError,
    bernoulli,
    bounded,
    catalogue,
    definitions,
    estimators,
    gaussian,
    hypergradients,
    reference,
    samples,
    sequences,
)
from analysis.calculus.general_n import is_general
from analysis.calculus.normal_form import is_clearly_nonzero, is_zero
from analysis.calculus.symbols import STRUCTURES, symbol
from analysis.derivation import Derivation
from tests.planting import derived_anew, unproved

ENTRIES = catalogue()
NAMES = [entry.name for entry in ENTRIES]
LAM = symbol("lam")


def dropped_term(expression):
    """Without the last term of the first entry (or scalar) that is a sum; else unchanged."""
    if isinstance(expression, (sp.Add, sp.MatAdd)):
        return expression.func(*expression.args[:-1])
    if isinstance(expression, sp.MatrixBase):
        entries = list(expression)
        for i, entry in enumerate(entries):
            if isinstance(entry, sp.Add):
                entries[i] = dropped_term(entry)
                return sp.ImmutableMatrix(expression.rows, expression.cols, entries)
    return expression


def transposed(expression):
    """The transpose of a square result (most are symmetric and unchanged)."""
    if isinstance(expression, sp.MatrixBase):
        return expression.T if expression.cols == expression.rows else expression
    return expression


PERTURBATIONS = {
    "sign": lambda stated: -stated,
    "factor 2": lambda stated: 2 * stated,
    "lam for lam/2": lambda stated: stated.subs(LAM, 2 * LAM),
    "dropped term": dropped_term,
    "transposed": transposed,
}


def changes_value(new, old) -> bool:
    """Whether a perturbation is one: decided by a value at a point, or by the normal form."""
    difference = new - old
    if is_general(difference):
        return not is_zero(difference)
    entries = list(difference) if isinstance(difference, sp.MatrixBase) else [difference]
    return any(is_clearly_nonzero(entry) for entry in entries)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_a_perturbed_result_fails(entry):
    derivation = entry.build()
    bitten: set[str] = set()
    for name, perturb in PERTURBATIONS.items():
        stated = perturb(derivation.stated)
        if stated == derivation.stated or not changes_value(stated, derivation.stated):
            continue
        with pytest.raises(DerivationError, match=r"fails|contains"):
            dataclasses.replace(derivation, stated=stated).verify()
        bitten.add(name)
    expected = {"sign", "factor 2"}
    if LAM in derivation.stated.free_symbols:
        expected.add("lam for lam/2")
    assert expected <= bitten, f"{entry.name}: only {bitten} bite"


def with_doubled(monkeypatch, name: str) -> None:
    """Double one definition (the entropy weight, the reward, or the quadratic of a density)."""
    for module in (definitions, bounded.definitions):
        if original := getattr(module, name, None):
            monkeypatch.setattr(module, name, lambda *args, f=original: 2 * f(*args))


@pytest.mark.parametrize("n", [1, 2, None])
@pytest.mark.parametrize("name", ["entropy", "reward", "log_density"])
def test_a_wrong_definition_fails(monkeypatch, name, n):
    """λ in place of λ/2, and the like, on the derived side."""
    with derived_anew():
        with_doubled(monkeypatch, name)
        wrong = gaussian.inner.solution("full", n)
        if name == "log_density":  # scales the entropy as a whole: the same optimum with 2λ
            assert not is_zero(wrong.residual())
        with pytest.raises(DerivationError):
            wrong.verify()
        with pytest.raises(DerivationError):
            gaussian.inner.objective(n).verify()
        monkeypatch.undo()


def test_a_missing_expectation_is_an_error():
    from analysis.errors import MomentError

    y = symbol("y", 1)
    with pytest.raises(MomentError, match="more than two moments"):
        definitions.expectation(y[0] ** 3, y, symbol("mu", 1), symbol("Sigma", 1))


@pytest.mark.parametrize("f", [1 / sp.Symbol("x"), sp.exp(sp.Symbol("x"))])
def test_noise_that_is_no_polynomial_is_an_error(f):
    x = sp.Symbol("x")
    with pytest.raises(MomentError, match="not a polynomial in the noise"):
        definitions.normal_expectation(f, x)
    assert [definitions.normal_expectation(x**k, x) for k in range(9)] == [
        *(1, 0, 1, 0, 3, 0, 15, 0, 105)
    ]


@pytest.mark.parametrize(
    ("name", "builds"),
    [
        (
            "reward",
            [
                *(
                    partial(estimators.score_function.score_gradient, data)
                    for data in ("averaged", "sampled")
                ),
                *(
                    partial(estimators.score_function.pathwise_variance, d)
                    for d in ("averaged", "sampled")
                ),
                partial(estimators.score_function.optimal_baseline, "conditional"),
                partial(estimators.score_function.leave_one_out_variance),
                partial(estimators.groups.mean),
                partial(estimators.baselines.matrix, "scale", 2),
                partial(hypergradients.surrogate.hessian),
                partial(hypergradients.surrogate.differentiable, "pathwise"),
                partial(hypergradients.surrogate.curvature, "isotropic", 2),
                partial(bounded.inner.log_expected_kernel, 1),
                partial(bounded.inner.expected_reward, 2),
            ],
        ),
        ("score", [partial(estimators.baselines.matrix, "mean", 2)]),
        ("entropy", [partial(estimators.groups.mean), partial(estimators.groups.minimum, 2)]),
        (
            "log_density",
            [
                partial(bounded.inner.expected_reward, 1),
                partial(hypergradients.surrogate.hessian),
                partial(hypergradients.surrogate.differentiable, "DiCE"),
                partial(hypergradients.surrogate.curvature, "diagonal", 2),
                partial(hypergradients.surrogate.hypergradient),
            ],
        ),
        (
            "normal_covariance",
            [
                partial(estimators.score_function.leave_one_out_variance),
                partial(estimators.score_function.variance, "averaged"),
                partial(estimators.score_function.minimal_variance, "sampled"),
            ],
        ),
    ],
)
def test_a_wrong_definition_of_an_estimator_fails(monkeypatch, name, builds):
    with derived_anew():
        with_doubled(monkeypatch, name)
        for build in builds:
            with pytest.raises(DerivationError):
                build().verify()
        monkeypatch.undo()


def test_a_wrong_variance_of_leave_one_out_fails():
    """1/M in place of 1/(M - 1), and the limits exchanged."""
    derivation = estimators.score_function.leave_one_out_variance()
    M = symbol("generations")
    with pytest.raises(DerivationError, match="fails"):
        dataclasses.replace(derivation, stated=derivation.stated * (M - 1) / M).verify()


def doubled(f):
    return lambda *args: 2 * f(*args)


def tilted(f):
    """Not linear in n any more."""
    return lambda n: SimpleNamespace(derived=1 / sp.sqrt(1 / f(n).derived ** 2 + n**2))


# A fault in what the derivations start from or go through, and the conditions that must notice it.
FAULTS = {
    "E r for 1/E r": (
        bounded.definitions,
        "log_expected_bounded_reward",
        lambda f: lambda *args: (-f(*args)[0], f(*args)[1]),
        {
            partial(bounded.inner.peak_variance, 2): {"h' < 0 after"},
            partial(bounded.inner.critical_weight, 2): {"h' = 0 at the peak"},
            partial(bounded.inner.reachable_weight, 2): {
                "it rises before",
                "β² < s̄ from there on",
            },
            partial(bounded.inner.growth, 2): {"the limit"},
        },
    ),
    "entropy doubled": (
        definitions,
        "entropy",
        doubled,
        {
            partial(bounded.inner.peak_variance, 2): {"h = (2s/A)(ω/A)^{n/2}"},
            partial(bounded.inner.critical_weight, 2): {"d²J/ds² = -(n/2s) h' where λ = h"},
            partial(bounded.inner.reachable_weight, 2): {
                "h(β²) = (2β²/A)(ω/A)^{n/2}, to 0 as ω -> ∞"
            },
        },
    ),
    "an inverse doubled in the square": (
        bounded.definitions,
        "inverse",
        doubled,
        {
            partial(bounded.inner.expected_reward, 2): {"the square is complete"},
            partial(bounded.inner.log_expected_kernel, 2): {"the square is complete"},
        },
    ),
    "the likelihood of bits negated": (
        bernoulli.definitions,
        "log_likelihood",
        lambda f: lambda psi, rho: -f(psi, rho),
        {partial(bernoulli.outer.optimal_reward, 2): {"-∂²F/∂u_i² > 0 (ρ_i = (1+x)/(2+x))"}},
    ),
    "the likelihood of bits tilted": (
        bernoulli.definitions,
        "log_likelihood",
        lambda f: lambda psi, rho: f(psi, rho) + psi[0],
        {partial(bernoulli.outer.optimal_reward, 2): {"∂F/∂u = 0 at u*"}},
    ),
    "the reward of bits negated": (
        definitions,
        "reward",
        lambda f: lambda *args: -f(*args),
        {partial(bernoulli.outer.optimal_reward, 2): {"u* > 0 (ρ_i = (1+x)/(2+x))"}},
    ),
    "a bit rewarded": (
        bernoulli.definitions,
        "objective",
        lambda f: lambda psi, rho, Sigma, U, lam: f(psi, rho, Sigma, U, lam) + U[0, 0] * psi[0],
        {
            partial(bernoulli.outer.optimal_reward, 2): {
                "u* is the same with the outcomes exchanged"
            }
        },
    ),
    "weights of prefixes doubled": (
        sequences.outer,
        "solve_linear",
        lambda f: lambda equations, unknowns: [2 * x for x in f(equations, unknowns)],
        {partial(sequences.outer.prefix_weights, 2): {"Π_t p*(y_t | y_{<t}) = q(y) at u*"}},
    ),
    "fourth moments doubled": (
        samples.excess,
        "gaussian_kurtosis",
        doubled,
        {
            partial(samples.excess.second_order, structure, n): {
                "the leading term of `expected` for Gaussian data"
            }
            for structure in STRUCTURES
            for n in (2, None)
        },
    ),
    "fourth moments doubled where structures cross": (
        samples.choice,
        "gaussian_kurtosis",
        doubled,
        {
            partial(samples.choice.crossing, pair, 2): {
                f"κ of Gaussian data, {structure}" for structure in pair.split(", ")
            }
            for pair in samples.choice.PAIRS
        },
    ),
    "a precision doubled": (
        reference.outer,
        "_precision",
        lambda f: lambda n: (2 * f(n)[0], *f(n)[1:]),
        {partial(reference.outer.covariance, 1): {"(κ + w) S S⁻¹ = (κ + w) I for every κ"}},
    ),
    "an entropy weight of another form in n": (
        reference.group_deviation,
        "entropy_weight",
        tilted,
        {partial(reference.group_deviation.largest_weight, None): {"1/λ² is linear in n"}},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed_by_a_condition(monkeypatch, fault):
    owner, name, plant, noticed = FAULTS[fault]
    for build in noticed:
        assert unproved(build()) == set()
    with derived_anew(), monkeypatch.context() as patch:
        patch.setattr(owner, name, plant(getattr(owner, name)))
        for build, texts in noticed.items():
            assert texts <= unproved(build()), build


@pytest.mark.parametrize("kind", ["zero", "positive"])
def test_a_condition_holds_of_every_entry_or_not_at_all(kind):
    x = sp.Symbol("x", positive=True)
    right, wrong = {
        "zero": ((x + 1) ** 2 - x**2 - 2 * x - 1, x - 1),
        "positive": (x / (1 + x), x - 1),
    }[kind]
    assert Condition("", kind, right).holds()
    assert Condition("", kind, sp.Matrix([right, right])).holds()
    for expression in (wrong, sp.Matrix([right, wrong]), sp.Matrix([wrong, right])):
        assert not Condition("", kind, expression).holds()


def test_the_entry_that_fails_is_named_by_row_and_column():
    U = symbol("U", 2)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        wrong = U + sp.ImmutableMatrix(2, 2, lambda k, m, at=(i, j): int((k, m) == at))
        found = Derivation(symbol="U", arguments={"U": U}, stated=U, derived=wrong)
        assert found.failure is not None
        assert f"fails at entry ({i + 1}, {j + 1}): derived - stated = 1" in found.failure


def test_the_stated_sides_are_independent():
    """They import matrix functions and one another, and no definition or derivation them."""
    room = Path(analysis.__file__).parent
    stated = sorted(room.rglob("stated.py"))
    assert len(stated) >= 6
    for path in stated:
        assert {name for name in imported(path) if not name.endswith("stated")} <= {
            "analysis.calculus.matrices"
        }, path
    rooms = ("", "categorical/", "bounded/", "reference/")
    for name in (f"{prefix}definitions" for prefix in rooms):
        assert not {found for found in imported(room / f"{name}.py") if "stated" in found}
    for name in ("matrices", "general_n", "structures", "stationary"):
        assert not {found for found in imported(room / f"calculus/{name}.py") if "stated" in found}


def test_no_helper_of_a_module_makes_both_sides():
    """Returning 0 it would prove whatever it is asked."""
    room = Path(analysis.__file__).parent
    found = {path: sorted(both_sides(ast.parse(path.read_text()))) for path in room.rglob("*.py")}
    assert {path: shared for path, shared in found.items() if shared} == {}


@pytest.mark.parametrize(
    ("body", "shared"),
    [
        ("return Derivation(stated=_flat(s), derived=_flat(d))", {"_flat"}),
        ("return Derivation(stated=s.replace(exp, _flat), derived=_flat(d))", {"_flat"}),
        ("return Derivation(stated=s, derived=_flat(d), arguments={})", set()),
        ("return Derivation(stated=_deep(s), derived=_flat(d))", {"_flat"}),
        ("(a, _), *b = _flat(s), d\n    return Derivation(stated=b, derived=_flat(d))", set()),
        ("(a, _), *b = _flat(s), d\n    return Derivation(stated=a, derived=_flat(d))", {"_flat"}),
        ("x = _flat(n)\n    return Derivation(arguments=x, stated=x, derived=_flat(x))", set()),
        ("def at(f): return f\n    return Derivation(stated=at(s), derived=at(d))", {"at"}),
    ],
)
def test_a_helper_that_makes_both_sides_is_found(body, shared):
    helpers = "def _flat(f): return 0\ndef _deep(f): return _flat(f)\n"
    tree = ast.parse(f"{helpers}def result(s, d):\n    {body}\n")
    assert set(both_sides(tree)) == shared


def both_sides(tree: ast.Module) -> Iterator[str]:
    """The private functions of a module on which both sides of one derivation stand.

    What gives the arguments is left out: symbols are the same on both sides.
    """
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    private = {f.name: f for f in functions if f.name.startswith("_")}
    for function in functions:
        inner = {f.name: f for f in ast.walk(function) if isinstance(f, ast.FunctionDef)}
        helpers = private | {name: f for name, f in inner.items() if f is not function}
        meanings: dict[str, list[ast.AST]] = {name: [f] for name, f in helpers.items()}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for name, value in assigned(target, node.value):
                        meanings.setdefault(name, []).append(value)
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                sides = {word.arg: word.value for word in node.keywords}
                if {"stated", "derived"} <= sides.keys():
                    stated, derived = (
                        names(sides[side], meanings) for side in ("stated", "derived")
                    )
                    given = names(sides["arguments"], meanings) if "arguments" in sides else set()
                    yield from (stated & derived & helpers.keys()) - given


def assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Names that an assignment binds, and what each may be: its own part where that is seen."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Starred):
        yield from assigned(target.value, value)
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=False))
        apart = [i for i, pair in enumerate(pairs) if any(isinstance(x, ast.Starred) for x in pair)]
        first = min(apart, default=len(pairs))  # from here on which is which is not seen
        for part, its in pairs[:first]:
            yield from assigned(part, its)
        for part in target.elts[first:]:
            yield from assigned(part, ast.Tuple(value.elts[first:]))
    elif isinstance(target, ast.Tuple):
        for part in target.elts:
            yield from assigned(part, value)


def names(expression: ast.AST, meanings: dict[str, list[ast.AST]]) -> set[str]:
    """All names that an expression reads, and those that what they mean reads."""
    found: set[str] = set()
    left = [expression]
    while left:
        for node in ast.walk(left.pop()):
            if isinstance(node, ast.Name) and node.id not in found:
                found.add(node.id)
                left += meanings.get(node.id, [])
    return found


def imported(path: Path) -> set[str]:
    """The modules of the room that a file imports, by what its relative imports stand for."""
    package = path.relative_to(Path(analysis.__file__).parent.parent).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
            found |= {name if name in sys.modules else module for name in names}
    return found
