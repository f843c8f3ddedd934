"""``python -m paper_checks explain``: every place of a result, found in the sources."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest
from typer.testing import CliRunner

from analysis.catalogue import DERIVATIONS
from analysis.explain import Explanation, Matches, find, smallest, title
from analysis.source import ROOT, Place
from paper_checks import __main__ as cli
from paper_checks.claims.theory import PROPOSITIONS
from paper_checks.explain import explain, places, propositions

EXAMPLES = {
    "diagonal inner solution": {
        "derivation": "analysis/gaussian/inner.py:solution",
        "stated": "analysis/gaussian/stated.py:inner_solution",
        "solver": "solvers/training/inner.py:closed_form",
        "check": "paper_checks/claims/theory/gaussian_inner.py:inner_solution",
        "claim": "paper_checks/claims/theory/gaussian_inner.py:proposition.inner_solution.diagonal",
        "identity": "tests/gate/identities/inner.py:inner_solution",
    },
    "mean-field cost": {
        "derivation": "analysis/gaussian/mean_field.py:cost",
        "stated": "analysis/gaussian/stated.py:mean_field_cost",
        "solver": "solvers/training/inner.py:closed_form",
        "check": "paper_checks/claims/theory/gaussian_outer.py:mean_field_cost",
        "claim": "paper_checks/claims/theory/gaussian_outer.py:proposition.mean_field",
        "identity": "tests/gate/identities/outer.py:mean_field",
    },
    "leave-one-out variance": {
        "derivation": "analysis/estimators/score_function.py:leave_one_out_variance",
        "stated": "analysis/estimators/stated.py:leave_one_out_variance",
        "solver": "solvers/training/estimators.py:ScoreFunction",
        "check": "paper_checks/claims/theory/estimators.py:leave_one_out_variance",
        "claim": "paper_checks/claims/theory/estimators.py:proposition.estimators.leave_one_out",
        "identity": "tests/gate/identities/estimators.py:variances",
    },
    "heuristic gap": {
        "derivation": "analysis/categorical/costs.py:heuristic_gap",
        "stated": "analysis/categorical/stated.py:binary_gap",
        "solver": "solvers/rewards/between_classes.py:heuristic_scale",
        "check": "paper_checks/claims/theory/categorical.py:heuristic_gap",
        "claim": "paper_checks/claims/theory/categorical.py:proposition.categorical.heuristic",
        "identity": "tests/gate/identities/categorical_scales.py:scalar_cost",
    },
    "unrolled bias": {
        "derivation": "analysis/hypergradients/unrolled.py:bias",
        "stated": "analysis/hypergradients/stated.py:bias",
        "solver": "solvers/hypergradients/unrolled.py:unrolled",
        "check": "paper_checks/claims/theory/hypergradients.py:unrolled",
        "claim": "paper_checks/claims/theory/hypergradients.py:proposition.unrolled",
        "identity": "tests/gate/identities/unrolled.py:decay",
    },
}
EXAMPLES["β* gap"] = EXAMPLES["heuristic gap"]


def call(*arguments: str):
    return CliRunner().invoke(cli.app, ["explain", *arguments])


def line(at: Place) -> str:
    return (ROOT / at.path).read_text(encoding="utf-8").splitlines()[at.line - 1]


@pytest.mark.parametrize("asked", EXAMPLES)
def test_one_command_finds_every_place(asked):
    result = call(asked, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["places"]
    for kind, where in EXAMPLES[asked].items():
        path, _, name = where.partition(":")
        assert any(at["path"] == path and at["name"] == name for at in found[kind]), (kind, found)
    text = call(asked).stdout
    assert "status: verified" in text
    for at in (at for some in found.values() for at in some):
        assert f"{at['path']}:{at['line']}" in text


def test_the_propositions_read_are_those_that_run():
    read = {item.name: item for item in propositions()}
    assert list(read) == sorted(read, key=lambda name: read[name].place)
    assert set(read) == {item.name for item in PROPOSITIONS}
    for item in PROPOSITIONS:
        written = read[item.name]
        assert (written.statement, written.solver) == (item.statement, item.solver)
        for check, claimed in zip(written.checks, item.checks, strict=True):
            witness = claimed.witness
            witness = witness.func if isinstance(witness, partial) else witness
            assert check.address == claimed.result.address
            assert check.variant == claimed.variant
            assert check.witness == f"{witness.__module__}.{witness.__name__}"


@pytest.mark.parametrize("result", DERIVATIONS, ids=[result.address for result in DERIVATIONS])
def test_every_result_has_a_check_and_a_claim_and_every_line_is_right(result):
    found = places(find(result.address))
    assert found["check"]
    assert found["claim"]
    for kind, some in found.items():
        for at in some:
            words = line(at).split()
            if kind == "claim":
                assert words == ["Proposition("]
            else:
                assert at.name in line(at), (kind, at)


@pytest.mark.parametrize("item", propositions(), ids=[item.name for item in propositions()])
def test_its_solver_is_there(item):
    covered = tuple(entry for entry in smallest() if item.covers(entry))
    found = places(covered).get("solver", ())
    assert item.solver.rpartition(":")[2] in ["", *(at.name for at in found)]


def test_experiments_and_figures_are_found():
    _, found = explain("rays.loss")
    assert {at.path for at in found["experiment"]} == {
        "paper_checks/experiments/full_covariance.py",
        "paper_checks/experiments/how_much_data.py",
    }
    assert {(at.path, at.name) for at in found["figure"]} == {
        ("figures/full_covariance.py", "draw"),
        ("figures/full_covariance.py", "draw_as_published"),
        ("figures/how_much_data.py", "draw"),
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("proposition.ray", ["gaussian.rays.optimal_scale", "gaussian.rays.loss"]),
        ("optimal_scale", ["gaussian.rays.optimal_scale"]),
        ("isotropic_weight", ["gaussian.outer.optimal_reward[isotropic]"]),
        ("solvers.hypergradients.unrolled:one_step", ["hypergradients.unrolled.one_step"]),
        ("policy gradient minimises the reverse KL", ["gaussian.divergences.kl",
                                                      "gaussian.divergences.reverse_kl"]),
    ],
)  # fmt: skip
def test_solvers_and_claims_are_names_too(asked, found):
    explained, _ = explain(asked)
    if isinstance(explained, Explanation):
        names = [f"{d.key.address}[{d.key.variant}]" if d.key.variant else d.key.address
                 for d in explained.derivations]  # fmt: skip
    else:
        assert isinstance(explained, Matches)
        names = [title(entry) for entry in explained.entries]
    assert names == found


def test_a_solver_of_several_results_lists_them():
    result = call("closed_form")
    assert result.exit_code == 0
    assert "gaussian.inner.solution[diagonal]: m* = μ, P*_ii = λ/(2U_ii)" in result.stdout
    listed = json.loads(call("closed_form", "--json").stdout)["matches"]
    assert len(listed) == len(result.stdout.splitlines()) - 1


def test_what_is_unknown_ends_with_2_and_the_nearest_names():
    result = call("meanfeild", "cost")
    assert result.exit_code == 2
    assert "mean_field.cost" in result.stderr


def test_torch_is_not_imported():
    program = (
        "import sys; from paper_checks.explain import explain; explain('closed_form'); "
        "explain('mean_field.cost'); sys.exit('torch' in sys.modules or 'figures' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)
