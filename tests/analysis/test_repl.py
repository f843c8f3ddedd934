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
from analysis import ArgumentNameError, Derivation, StructureError, gaussian, show
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
    for word in ("derive(", "outcome(", "Gaussian(", "KL(", "%list", "%show", "%explain", "help("):
        assert word in guide()
    assert "python -m paper_checks explain" in guide()


def test_the_lines_of_the_guide_run():
    """Those that are Python, in a prompt as it opens."""
    shell = InteractiveShell()
    load_ipython_extension(shell)
    lines = [line.partition("   ")[0] for line in (row[2:] for row in guide().splitlines())]
    code = [
        line for line in lines if "(" in line and "..." not in line and "paper_checks" not in line
    ]
    ran = [
        line for line in code if line.partition(" ")[0] in ("h", "y_hat,") or line[:6] == "derive"
    ]
    assert len(ran) == 3
    for line in ran:
        assert shell.run_cell(line).success, line


def test_the_prompt_knows_symbols_packages_and_sympy():
    known = names()
    assert set(analysis.__all__) <= set(known)
    assert known["sp"] is sp
    assert known["lam"] == sp.Symbol("lambda", positive=True)
    assert known["U"].shape == (sp.Symbol("n", positive=True, integer=True),) * 2
    assert "pi" not in known  # has no form for any number of classes


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("gaussian.outer.hypergradient('full', n=1).at(U=-1, lam=1, Sigma=1)", "U is not positive"),
        ("gaussian.outer.hypergradient('ful', n=1)", "unknown structure 'ful'"),
        ("derive(-u * (y_hat - y) ** 2, Gaussian(1))", "y_hat, y = outcome(1)"),
        ("derive(-u * y_hat ** 2, Gaussian(1))", "y_hat, y = outcome(1)"),
        ("derive(u, Gaussian(4))", "Gaussian"),
    ],
)
def test_an_error_of_ours_is_shown_without_a_traceback(line: str, says: str, capsys) -> None:
    shell = InteractiveShell()
    load_ipython_extension(shell)
    assert not shell.run_cell(line).success
    shown = capsys.readouterr().out
    assert says in shown
    assert "Traceback" not in shown
    assert len([row for row in shown.splitlines() if row]) <= 2  # one says how to see the rest
    shell.run_line_magic("tb", "")
    assert "Traceback" in capsys.readouterr().out
    shell.run_cell("1 / 0")
    assert "Traceback" in capsys.readouterr().out


@pytest.mark.parametrize("family", FAMILIES)
def test_dir_shows_the_results_of_a_module(family):
    module = importlib.import_module(f"analysis.{family}")
    assert dir(module) == sorted(r.name for r in DERIVATIONS if r.family == family)
    for name in dir(module):
        assert pydoc.getdoc(getattr(module, name)), f"help({family}.{name}) says nothing"


@pytest.mark.parametrize("package", sorted({family.partition(".")[0] for family in FAMILIES}))
def test_dir_of_a_package_shows_the_modules_that_have_results(package):
    inside = {family.partition(".")[2] for family in FAMILIES if family.startswith(f"{package}.")}
    module = importlib.import_module(f"analysis.{package}")
    if inside:
        assert dir(module) == sorted(inside)
        assert inside < set(module.__all__)  # the others can be imported still
    assert dir(analysis) == sorted(analysis.__all__)


def test_a_module_without_results_shows_its_functions():
    stated = importlib.import_module("analysis.forgetting.stated")
    assert dir(stated)[:2] == ["class_kl", "conditional_kl"]


@pytest.mark.parametrize("result", DERIVATIONS, ids=[result.address for result in DERIVATIONS])
def test_dir_of_a_result_shows_what_it_comes_in(result):
    shown = [name for name in dir(result) if not name.startswith("_")]
    assert shown == ["address", "family", "key", "name", "sizes", "statement", "variants"]
    assert all(hasattr(result, name) for name in dir(result))


def test_help_says_for_which_sizes_there_is_a_derivation():
    for result, sizes in (
        (gaussian.inner.solution, "n: 1, 2, 3, ...; None for any n."),
        (analysis.bernoulli.inner.solution, "n: 1, 2, 3."),
    ):
        assert sizes in map(str.strip, pydoc.plain(pydoc.render_doc(result)).splitlines())


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
        ("forgetting.paths.", [".covariance", ".mean", ".metric"]),
        ("bounded.", [".inner"]),
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


@pytest.mark.parametrize("command", ["list", "show", "explain"])
@pytest.mark.parametrize("line", ["'x", '"', "mean_field.cost '", "mean_field.cost --n '2"])
def test_a_quote_that_does_not_close_is_no_traceback(prompt, command, line):
    with pytest.raises(UsageError) as caught:
        prompt.run_line_magic(command, line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [("zzz", "lam, U, M, Sigma"), ("Sgma", "Sigma"), ("lambda", "lam"), ("sigm", "sigma")],
)
def test_a_symbol_that_there_is_not_is_answered_by_the_nearest(name, said):
    with pytest.raises(ArgumentNameError, match=f"'{name}' is no symbol; .*{said}"):
        names()["symbol"](name, 2)


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


def test_the_command_offers_nothing_to_install():
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "explain" in shown
    assert "completion" not in shown
