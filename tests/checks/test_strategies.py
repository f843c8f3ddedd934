"""The strategies draw what they promise: else the property tests prove less than they say."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from paper_checks.conformance.class_problems import (
    KINDS,
    ClassProblem,
    class_problems,
    make_class_problem,
    probabilities,
)
from paper_checks.conformance.strategies import (
    CONDITION,
    GROUPS,
    Group,
    Problem,
    Sizes,
    groups,
    make_problem,
    problems,
    sizes,
    spd,
)

T = TypeVar("T")
MATRICES = ("U", "Sigma", "P", "M")


@given(problem=problems(5))
def test_matrices_are_spd_with_bounded_condition(problem: Problem) -> None:
    assert problem.lam > 0
    for name in MATRICES:
        A = getattr(problem, name)
        assert A.shape == (problem.n, problem.n)
        assert np.array_equal(A, A.T)
        eigenvalues = np.linalg.eigvalsh(A)
        assert eigenvalues[0] > 0
        assert eigenvalues[-1] / eigenvalues[0] <= CONDITION * (1 + 1e-9)


@given(problem=problems(5))
def test_problems_tell_their_inputs_apart(problem: Problem) -> None:
    assert problem.mu.shape == problem.m.shape == (problem.n,)
    assert not np.allclose(problem.mu, problem.m)
    drawn = [getattr(problem, name) for name in MATRICES]
    assert all(not np.allclose(A, B) for i, A in enumerate(drawn) for B in drawn[:i])


def test_dimensions_one_to_max_all_occur() -> None:
    for n in range(1, 6):
        assert find(problems(5), lambda p, n=n: p.n == n).n == n
    assert find(problems(5), lambda p: p.n >= 1, settings=settings(database=None)).n == 1


def test_eigenvalues_fill_their_range() -> None:
    rng = np.random.default_rng(0)
    logs = np.log10(np.concatenate([np.linalg.eigvalsh(spd(rng, 2)) for _ in range(400)]))
    half = np.log10(CONDITION) / 2
    assert -half <= logs.min() < -0.95 * half
    assert 0.95 * half < logs.max() <= half
    assert abs(np.mean(logs)) < 0.1


def test_matrices_are_not_diagonal() -> None:
    rng = np.random.default_rng(0)
    off_diagonal = [abs(spd(rng, 2)[0, 1]) for _ in range(100)]
    assert float(np.median(off_diagonal)) > 0.1


@given(n=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_same_seed_same_problem(n: int, seed: int) -> None:
    first, second = make_problem(n, seed), make_problem(n, seed)
    assert repr(first) == repr(second)


def test_tensors_and_pick_keep_the_values() -> None:
    problem = make_problem(3, 0)
    for name, tensor in problem.tensors().items():
        assert tensor.dtype == torch.float64
        assert np.array_equal(tensor.numpy(), getattr(problem, name))
    assert problem.pick("U")["U"] is problem.U
    scalar = make_problem(1, 0).pick("U", "mu", "lam")
    assert all(isinstance(value, float) for value in scalar.values())
    assert scalar["U"] == make_problem(1, 0).U[0, 0]


def test_a_problem_shows_every_number() -> None:
    shown = repr(make_problem(2, 0))
    assert all(f"{name}=" in shown for name in ("lam", "U", "Sigma", "mu", "m", "P", "M"))


@given(drawn=sizes())
def test_sizes_are_distinct(drawn: Sizes) -> None:
    values = list(vars(drawn).values())
    assert len(set(values)) == len(values) == 6
    assert min(values) >= 1
    assert drawn.generations >= 2


def test_outcome_dimension_one_occurs() -> None:
    assert find(sizes(), lambda s: s.n == 1).n == 1
    assert find(sizes(), lambda s: s.n == 5).n == 5


@given(group=groups())
def test_groups_are_small_enough_for_quadrature(group: Group) -> None:
    assert group.M >= 2
    assert group.n * group.M <= 6
    assert repr(group.problem) == repr(make_problem(group.n, group.seed))


def test_groups_of_every_size_occur() -> None:
    for n, M in GROUPS:
        found = find(groups(), lambda g, size=(n, M): (g.n, g.M) == size)
        assert (found.problem.n, found.M) == (n, M)


@given(problem=class_problems())
def test_class_problems_hold_laws_and_weights(problem: ClassProblem) -> None:
    assert 2 <= problem.C <= 10
    assert problem.lam > 0
    assert problem.u > 0
    for law in (problem.pi, problem.p):
        assert law.shape == problem.r.shape == (problem.C,)
        assert law.min() > 0
        assert abs(law.sum() - 1) < 1e-14
    eigenvalues = np.linalg.eigvalsh(problem.U)
    assert eigenvalues[0] > 0
    assert eigenvalues[-1] / eigenvalues[0] <= CONDITION * (1 + 1e-9)
    assert eigenvalues.sum() == pytest.approx(problem.lam)
    assert np.array_equal(problem.U, problem.U.T)
    assert np.array_equal(problem.H, problem.H.T)
    assert not np.allclose(problem.pi, problem.p)


HAS: dict[str, Callable[[np.ndarray], bool]] = {
    "generic": lambda pi: len(set(pi.tolist())) == len(pi) and not (pi == 0.5).any(),
    "tie": lambda pi: len(set(pi.tolist())) < len(pi),
    "half": lambda pi: bool((pi == 0.5).any()),
    "dominant": lambda pi: pi.max() >= 0.6,
    "near uniform": lambda pi: np.ptp(pi) * len(pi) <= 2.1e-2 and len(set(pi.tolist())) > 1,
}


@pytest.mark.parametrize("kind", KINDS)
@given(C=st.integers(2, 10), seed=st.integers(0, 2**32 - 1))
def test_probabilities_are_of_their_kind(kind: str, C: int, seed: int) -> None:
    pi = probabilities(np.random.default_rng(seed), C, kind)
    assert pi.shape == (C,)
    assert pi.min() > 0
    assert abs(pi.sum() - 1) < 1e-14
    assert HAS[kind](pi)


@pytest.mark.parametrize("C", [2, 3, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_occurs_for_few_and_many_classes(kind: str, C: int) -> None:
    found = find(class_problems(), lambda p: p.C == C and HAS[kind](p.pi))
    assert repr(found.pi.tolist()) in repr(found)
    assert np.array_equal(found.tensors()["pi"].numpy(), found.pi)


@given(C=st.integers(2, 10), seed=st.integers(0, 2**32 - 1))
def test_same_seed_same_class_problem(C: int, seed: int) -> None:
    assert repr(make_class_problem(C, seed)) == repr(make_class_problem(C, seed))


def test_every_class_can_be_the_likeliest() -> None:
    """The order is random: no kind puts its special class in one place."""
    for kind in KINDS:
        rng = np.random.default_rng(0)
        assert {int(probabilities(rng, 4, kind).argmax()) for _ in range(200)} == {0, 1, 2, 3}
