"""Sequences: what is derived agrees with classes, with chains of steps, and wrong rewards fail."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import ArgumentError, DerivationError, StructureError, categorical, sequences
from analysis.calculus.normal_form import is_zero
from analysis.calculus.symbols import symbol
from analysis.forgetting import avoidable
from analysis.sequences import definitions, inner, outer
from tests.planting import derived_anew

WORDS = np.array(list(product((0, 1), repeat=3)))
PI = np.random.default_rng(0).dirichlet(np.ones(8))


def test_exact_match_is_a_scalar_reward_between_classes() -> None:
    """1[ŷ = y] is 1 - ½‖e_ŷ - e_y‖²: the reward of U = uI/2."""
    p = inner.solution("exact match", 3).at(pi=PI, u=0.8, lam=0.6)
    classes = categorical.inner.scalar_solution(8).at(pi=PI, u=0.4, lam=0.6)
    np.testing.assert_allclose(p, classes, rtol=1e-12)


def test_hamming_sees_the_marginals_alone() -> None:
    """The product of the marginals has the same inner solution as the law itself."""
    q = np.array([[PI[WORDS[:, t] == v].sum() for v in (0, 1)] for t in range(3)])
    independent = np.prod([q[t, WORDS[:, t]] for t in range(3)], 0)
    one, other = (
        inner.solution("Hamming", 3).at(pi=pi, u=1.3, lam=0.6) for pi in (PI, independent)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert outer.cost("positions", 3).at(pi=independent) == pytest.approx(0, abs=1e-12)
    assert outer.cost("positions", 3).at(pi=PI) > 0.01


CLOSED = [
    (outer.cost("positions", 2), {}),
    (outer.cost("positions", 3), {}),
    (outer.cost("pairs", 2), {}),
    (outer.cost("pairs", 3), {}),
    (outer.hypergradient("pairs", 3), {"p": PI, "lam": 0.6}),
    (inner.solution("Hamming", 3), {"u": 0.8, "lam": 0.6}),
    (inner.solution("exact match", 3), {"u": 0.8, "lam": 0.6}),
    (avoidable.classes(4), {"p0": PI[:4] / PI[:4].sum()}),
]


@pytest.mark.parametrize(("result", "others"), CLOSED, ids=lambda x: getattr(x, "name", ""))
@pytest.mark.parametrize("side", ["stated", "derived"])
@pytest.mark.parametrize("seed", range(4))
def test_what_does_not_occur_is_a_limit(result, others, side, seed) -> None:
    """Of laws that give it less and less: 0 log 0 = 0."""
    rng, size = np.random.default_rng(seed), result.arguments["pi"].rows
    pi = rng.dirichlet(np.ones(size))
    pi[rng.permutation(size - 1)[: rng.integers(1, size - 1)]] = 0  # the last class occurs
    pi[0 if seed % 2 else -2] = 0.5
    pi /= pi.sum()
    found = result.at(side, pi=pi, **others)
    assert np.isfinite(found).all()
    for tiny in (1e-9, 1e-12):
        near = np.where(pi == 0, tiny, pi)
        want = result.at(side, pi=near / near.sum(), **others)
        np.testing.assert_allclose(found, want, atol=300 * tiny)


def test_the_cost_of_two_sequences_is_log_2() -> None:
    assert outer.cost("positions", 2).at(pi=[0.5, 0, 0, 0.5]) == pytest.approx(np.log(2))
    assert outer.cost("pairs", 2).at(pi=[0.5, 0, 0, 0.5]) == 0
    assert outer.cost("positions", 3).at(pi=[1, 0, 0, 0, 0, 0, 0, 0]) == 0


def test_where_a_formula_has_no_value_or_no_law_that_is_said() -> None:
    with pytest.raises(ArgumentError, match=r"of sequences, .* give each some probability"):
        outer.prefix_weights(2).at(pi=[0.5, 0, 0, 0.5], lam=1.0)
    with pytest.raises(ArgumentError, match=r"entry -0.1; pass probabilities, 0 or more"):
        outer.cost("positions", 2).at(pi=[0.6, -0.1, 0, 0.5])
    with pytest.raises(ArgumentError, match="at a limit of the formula"):
        avoidable.classes(3).at(pi=[0, 0, 1], p0=[0.3, 0.3, 0.4])


def test_a_chain_costs_pairs_nothing() -> None:
    """q(a) q(b|a) q(c|b): a Markov law of order 1."""
    rng = np.random.default_rng(1)
    first, then = rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(2), size=2)
    chain = first[WORDS[:, 0]] * then[WORDS[:, 0], WORDS[:, 1]] * then[WORDS[:, 1], WORDS[:, 2]]
    assert outer.cost("pairs", 3).at(pi=chain) == pytest.approx(0, abs=1e-12)
    assert 0 < outer.cost("pairs", 3).at(pi=PI) < outer.cost("positions", 3).at(pi=PI)


def test_a_prefix_is_a_problem_of_two_classes() -> None:
    """u*_s of a prefix is twice that of U = uI for its two classes."""
    weights = outer.prefix_weights(3).at(pi=PI, lam=0.6)
    first = np.array([PI[:4].sum(), PI[4:].sum()])
    assert weights[0] == pytest.approx(2 * categorical.scalar.binary().at(pi=first, lam=0.6))
    last = PI[6:] / PI[6:].sum()
    assert weights[-1] == pytest.approx(2 * categorical.scalar.binary().at(pi=last, lam=0.6))


def test_a_wrong_reward_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    agreement, summed = definitions.agreement, definitions.summed_rewards
    with derived_anew():
        monkeypatch.setattr(definitions, "agreement", lambda *args: 2 * agreement(*args))
        monkeypatch.setattr(definitions, "summed_rewards", lambda *args: 2 * summed(*args))
        for build in (
            lambda: inner.solution("Hamming", 2),
            lambda: inner.solution("exact match", 2),
            lambda: inner.soft_value_iteration(2),
            lambda: outer.hypergradient("pairs", 2),
            lambda: outer.cost("positions", 2),
        ):
            with pytest.raises(DerivationError):
                build().verify()
        monkeypatch.undo()


def test_a_wrong_objective_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    on_prefixes, objective = definitions.on_prefixes, definitions.objective

    def doubled(chosen: Any, pi: Any, u: Any, lam: Any, T: int) -> Any:
        return on_prefixes(chosen, pi, u, 2 * lam, T)

    with derived_anew():
        monkeypatch.setattr(definitions, "on_prefixes", doubled)
        monkeypatch.setattr(definitions, "objective", lambda p, r, lam: objective(p, r, 2 * lam))
        for build in (outer.prefix_weights, inner.soft_value):
            with pytest.raises(DerivationError):
                build(2).verify()
        monkeypatch.undo()


def test_exponentials_are_reduced_as_free_symbols() -> None:
    lam = symbol("lam")
    x, y = symbol("r", 2)
    a, b, both = sp.exp(x / lam), sp.exp(2 * y / lam), sp.exp((x + 2 * y) / lam)
    assert is_zero(a * b / (a + b) - 1 / (1 / a + 1 / b))
    assert is_zero(both / (both + a) - b / (b + 1))
    assert not is_zero(1 / (a + b) - 1 / (a + sp.exp(y / lam)))


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ArgumentError, match="sums to 2"):
        outer.cost("positions", 2).at(pi=[0.5, 0.5, 0.5, 0.5])
    with pytest.raises(ArgumentError, match="window = 'triples' is unknown"):
        outer.cost("triples", 2)
    with pytest.raises(StructureError, match="takes any length"):
        sequences.inner.solution("Hamming", 4)
