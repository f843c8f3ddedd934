"""`explain`: which results a name means, and whether the lines it gives are the right ones."""

from __future__ import annotations

import pytest

from analysis import Key, UnknownResultError, catalogue, explain, gaussian, listing
from analysis.catalogue import DERIVATIONS
from analysis.explain import Explanation, Matches, find, plain, smallest, stated_places, title
from analysis.source import ROOT, Place, place, read, uses

UNSTATED = {"gaussian.outer.bilevel_solution"}  # its stated side is Σ itself


def line(at: Place) -> str:
    return (ROOT / at.path).read_text(encoding="utf-8").splitlines()[at.line - 1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gaussian.mean_field.cost", ["gaussian.mean_field.cost"]),
        ("mean_field.cost", ["gaussian.mean_field.cost"]),
        ("Mean-field cost", ["gaussian.mean_field.cost"]),
        ("diagonal inner solution", ["gaussian.inner.solution[diagonal]"]),
        ("gaussian.inner.solution[full]", ["gaussian.inner.solution[full]"]),
        ("leave one out", ["estimators.score_function.leave_one_out_variance"]),
        ("β* gap", ["categorical.costs.heuristic_gap"]),
        ("beta* GAP", ["categorical.costs.heuristic_gap"]),
        ("unrolled bias", ["hypergradients.unrolled.bias"]),
        ("no loss in being gaussian", ["gaussian.inner.gibbs_gap"]),
        ("bias", ["hypergradients.unrolled.bias", "hypergradients.penalty.bias"]),
        ("mean_field", ["gaussian.mean_field.shrinkage", "gaussian.mean_field.cost"]),
        ("minimum_planar", ["estimators.groups.minimum_planar"]),
    ],
)
def test_a_name_means(asked, found):
    assert [title(entry) for entry in find(asked)] == found


@pytest.mark.parametrize(
    "asked", ["λ/(2 U_ii)", "lambda / (2U_ii)", "Λ/(2u_II)", r"\lambda/(2U_ii)"]
)
def test_a_formula_is_found_however_it_is_typed(asked):
    assert "gaussian.inner.solution[diagonal]" in map(title, find(asked))


def test_letters_are_compared_plainly():
    assert plain("½ U⁻¹ - Σ/λ") == plain("1/2 u1  Sigma / lambda")
    assert plain("λ") != plain("μ")


def test_an_address_without_variant_shows_them_all():
    explained = explain("gaussian.inner.solution")
    assert isinstance(explained, Explanation)
    assert [d.key.variant for d in explained.derivations] == ["isotropic", "diagonal", "full"]
    assert all(d.key.n == 1 for d in explained.derivations)


def test_it_prints_formula_assumptions_status_and_places():
    text = repr(explain("mean_field.cost"))
    derivation = gaussian.mean_field.cost(1)
    assert derivation.statement in text
    for words in ("P diagonal, U full", "status: verified", "analysis/gaussian/stated.py:"):
        assert words in text
    where = place("analysis.gaussian.mean_field.cost")
    assert where is not None
    assert f"{where.path}:{where.line}" in text


def test_several_are_listed_in_a_line_each():
    matches = explain("mean_field")
    assert isinstance(matches, Matches)
    head, *lines = repr(matches).splitlines()
    assert head == "2 results match 'mean_field':"
    assert [text.partition(":")[0].strip() for text in lines] == [
        "gaussian.mean_field.shrinkage",
        "gaussian.mean_field.cost",
    ]


@pytest.mark.parametrize(
    ("asked", "proposed"),
    [("meanfeild.cost", "mean_field.cost"), ("xyzzy", "catalogue()"), ("", "")],
)
def test_what_is_unknown_is_refused_with_the_nearest_names(asked, proposed):
    with pytest.raises(UnknownResultError) as caught:
        explain(asked)
    assert proposed in str(caught.value)
    assert repr(asked) in str(caught.value)


@pytest.mark.parametrize("result", DERIVATIONS, ids=[result.address for result in DERIVATIONS])
def test_both_sides_of_every_result_are_found(result):
    derivation = place(f"analysis.{result.address}")
    assert derivation is not None
    assert line(derivation).startswith(f"def {result.name}(")
    stated = stated_places(result)
    assert bool(stated) == (result.address not in UNSTATED)
    for at in stated:
        assert at.path.endswith("/stated.py")
        assert line(at).startswith(f"def {at.name}(")


def test_every_statement_is_that_of_the_built_derivation():
    for entry in catalogue():
        if entry.key.n in (1, 2, None) and not isinstance(entry.key.variant, int):
            (result,) = (r for r in DERIVATIONS if r.address == entry.key.address)
            statement = entry.build().statement
            assert statement == result.statement(entry.key.variant)
            assert statement
            assert not statement.endswith(".")


def test_a_derivation_before_it_is_registered_has_neither_key_nor_statement():
    bare = gaussian.mean_field.cost.derive(1)
    assert (bare.key, bare.statement) == (Key("", "derivation"), "")


def test_names_of_imports_and_definitions_are_resolved():
    module = read("analysis.hypergradients.functional")
    assert module is not None
    assert module.imports["outer_problem"] == "analysis.gaussian.stated"
    assert "analysis.calculus.adjoint.adjoint" in uses(f"{module.name}.hypergradient")
    assert "analysis.definitions.objective" in uses(f"{module.name}.hypergradient", "analysis")
    assert module.imports["sp"] == "sympy"
    kept = read("analysis.kept")
    assert kept is not None
    assert kept.imports["pickle"] == "pickle"
    assert read("analysis.nowhere") is None
    assert place("analysis.gaussian.mean_field.nothing") is None
    assert place("nothing") is None


def test_a_list_holds_all_or_those_with_the_words():
    assert len(listing().entries) == len(smallest())
    assert repr(listing()).startswith(f"{len(smallest())} results in all:")
    assert repr(listing("mean_field")) == repr(explain("mean_field"))
    with pytest.raises(UnknownResultError, match="xyzzy"):
        listing("xyzzy")
