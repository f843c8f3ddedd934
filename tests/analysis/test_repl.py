"""The prompt, its commands, and what `dir` and `help` say of the results."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import subprocess
import sys

import pytest
import sympy as sp
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from typer.testing import CliRunner

import analysis
from analysis import Derivation, StructureError, gaussian, show
from analysis.__main__ import app, main
from analysis.catalogue import DERIVATIONS
from analysis.explain import Matches
from analysis.repl import guide, load_ipython_extension, names
from analysis.show import Shown, read_size
from analysis.source import ROOT

FAMILIES = sorted({result.family for result in DERIVATIONS})


@pytest.fixture(scope="module")
def prompt():
    shell = InteractiveShell()
    shell.Completer.use_jedi = False
    load_ipython_extension(shell)
    return shell


def test_the_guide_fits_a_screen_and_names_every_package():
    lines = guide().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    for package in {family.partition(".")[0] for family in FAMILIES}:
        assert package in guide()


def test_the_prompt_knows_symbols_packages_and_sympy():
    known = names()
    assert set(analysis.__all__) <= set(known)
    assert known["sp"] is sp
    assert known["lam"] == sp.Symbol("lambda", positive=True)
    assert known["U"].shape == (sp.Symbol("n", positive=True, integer=True),) * 2
    assert "pi" not in known  # has no form for any number of classes


@pytest.mark.parametrize("family", FAMILIES)
def test_dir_shows_what_a_module_offers(family):
    module = importlib.import_module(f"analysis.{family}")
    shown = dir(module)
    assert {r.name for r in DERIVATIONS if r.family == family} <= set(shown)
    for name in shown:
        value = getattr(module, name)
        assert not name.startswith("_")
        assert value.__module__ == module.__name__
        assert pydoc.getdoc(value), f"help({family}.{name}) says nothing"


def test_dir_of_a_package_is_what_it_exports():
    assert dir(gaussian) == sorted(gaussian.__all__)
    assert dir(analysis) == sorted(analysis.__all__)


@pytest.mark.parametrize("result", DERIVATIONS, ids=[result.address for result in DERIVATIONS])
def test_help_says_arguments_values_and_a_call_that_works(result):
    text = pydoc.plain(pydoc.render_doc(result))
    assert f"<result {result.address}(" in text
    for parameter in inspect.signature(result.derive).parameters:
        assert f"{parameter}: " in text.partition("Values:")[2]
    example = text.partition("Example: ")[2].splitlines()[0]
    derivation = eval(example, vars(analysis).copy())
    assert isinstance(derivation, Derivation)
    assert derivation.key.address == result.address


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gaussian.mean_field.", [".cost", ".shrinkage"]),
        ("gaussian.mean_field.sh", [".shrinkage"]),
        ("dynamics.outer_flow.", [".covariance"]),
    ],
)
def test_completion_offers_public_names_only(prompt, typed, offered):
    with provisionalcompleter():
        found = [c.text for c in prompt.Completer.completions(typed, len(typed))]
    assert found == offered


def test_the_commands_answer_as_the_functions_do(prompt, capsys):
    assert repr(prompt.run_line_magic("list", "mean_field")) == repr(analysis.listing("mean_field"))
    explained = prompt.run_line_magic("explain", "mean_field.cost")
    assert repr(explained) == repr(analysis.explain("mean_field.cost"))
    shown = prompt.run_line_magic("show", "mean_field.cost --n 2")
    assert repr(shown) == repr(show("mean_field.cost", n=2))
    assert prompt.run_line_magic("show", "mean_field.cost --n any --latex") is None
    assert capsys.readouterr().out == gaussian.mean_field.cost(None).latex() + "\n"


@pytest.mark.parametrize("line", ["xyzzy", "mean_field.cost --n two", "mean_field.cost --n 0"])
def test_a_wrong_question_is_answered_in_one_line(prompt, line):
    with pytest.raises(UsageError) as caught:
        prompt.run_line_magic("show", line)
    assert "\n" not in str(caught.value)


def test_it_shows_every_step():
    shown = show("mean_field.cost", n=2)
    assert isinstance(shown, Shown)
    (derivation,) = shown.derivations
    assert derivation is gaussian.mean_field.cost(2)
    text = repr(shown)
    assert text.startswith(str(derivation))
    assert [f"{i}. {step.text}" in text for i, step in enumerate(derivation.steps, 1)] == [True] * 2
    assert shown.latex() == derivation.latex()
    assert shown._repr_latex_() == derivation._repr_latex_()


def test_it_shows_every_variant():
    shown = show("gaussian.inner.solution", n="any")
    assert isinstance(shown, Shown)
    assert [d.name for d in shown.derivations] == [
        f"gaussian.inner.solution[{structure}, any n]"
        for structure in ("isotropic", "diagonal", "full")
    ]
    assert shown.latex().count("\n") == 2


def test_several_results_are_listed():
    assert isinstance(show("mean_field"), Matches)


@pytest.mark.parametrize(
    ("name", "n"), [("heuristic_gap", 2), ("mean_field.cost", 0), ("mean_field.cost", True)]
)
def test_a_size_that_is_not_there_is_refused(name, n):
    with pytest.raises(StructureError):
        show(name, n=n)


@pytest.mark.parametrize(("text", "n"), [(None, None), ("any", "any"), ("3", 3)])
def test_a_size_is_read(text, n):
    assert read_size(text) == n
    with pytest.raises(StructureError, match="n = two"):
        read_size("two")


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["list", "mean", "field"], "gaussian.mean_field.cost: "),
        (["list"], "results in all:"),
        (["show", "mean_field.cost", "--n", "2"], "1. F at the best diagonal reward"),
        (["show", "mean_field.cost", "--latex"], "\\Delta F = "),
        (["explain", "mean_field.cost"], "analysis/gaussian/stated.py:"),
    ],
)
def test_the_command_line_prints(words, printed):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert printed in done.stdout


def test_what_is_unknown_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analysis", "show", "xyzzy"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_prompt_opens_and_evaluates():
    done = subprocess.run(
        [sys.executable, "-m", "analysis"],
        input="print(lam, explain('mean_field.cost').result.address)\n%show mean_field.cost\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    shown = done.stdout + done.stderr
    assert "lambda gaussian.mean_field.cost" in shown
    assert "1. F at the best diagonal reward" in shown
    assert guide().splitlines()[0] in shown
