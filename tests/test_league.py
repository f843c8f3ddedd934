"""The league: its closed forms are right, and what is wrong or missing in a library is seen."""

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.league import __main__ as command
from benchmarks.league import failures, libraries, problems, race
from benchmarks.league.failures import RIGHT, Case
from benchmarks.league.libraries import Effort, Library, bimle, plain
from benchmarks.league.problems import F64, Problem

SMALL = {
    "ridge": problems.ridge(6),
    "gaussian": problems.gaussian(3),
    "categorical": problems.categorical(5),
    "steps": problems.steps(5, 4),
}
OURS = Library("bimle", "", bimle.implicit, bimle.unrolled)
PLAIN = Library("plain", "", plain.implicit, plain.unrolled)


def call(library: Library, problem: Problem) -> libraries.Call:
    if problem.steps is not None:
        assert library.unrolled is not None
        return library.unrolled(problem)
    assert library.implicit is not None
    return library.implicit(problem, Effort())


def flipped(library: Library) -> Library:
    """The same with the sign of every hypergradient turned."""
    assert library.implicit is not None
    implicit = library.implicit
    return Library("flipped", "", lambda *of: lambda: -implicit(*of)())


def reached(problem: Problem, phi: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Where Newton's method, or the problem's own steps, end at another `φ`."""
    inner, _ = problem.in_torch()
    shapes = [leaf.shape for leaf in problem.theta]
    x = torch.cat([leaf.flatten() for leaf in problem.theta])

    def leaves(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = x.split([shape.numel() for shape in shapes])
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return inner(leaves(x), phi)

    for _ in range(problem.steps or 8):
        slope = torch.func.grad(loss)(x)
        if problem.steps is None:
            slope = torch.linalg.solve(torch.func.jacrev(torch.func.grad(loss))(x), slope)
        x = x - (problem.rate if problem.steps is not None else 1) * slope
    return leaves(x)


@pytest.mark.parametrize("name", SMALL)
def test_closed_forms_are_difference_quotients(name: str) -> None:
    problem = SMALL[name]
    _, outer = problem.in_torch()
    if problem.steps is None:
        for got, want in zip(reached(problem, problem.phi), problem.theta, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    steps = 1e-4 * torch.eye(len(problem.phi), dtype=F64)
    ends = [
        [outer(reached(problem, p), p) for p in (problem.phi + h, problem.phi - h)] for h in steps
    ]
    slopes = [(above - below) / 2e-4 for above, below in ends]
    torch.testing.assert_close(problem.exact, torch.stack(slopes), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("library", [OURS, PLAIN], ids=lambda library: library.name)
@pytest.mark.parametrize("name", SMALL)
def test_both_reach_the_truth(name: str, library: Library) -> None:
    assert SMALL[name].error(call(library, SMALL[name])()) < 1e-8


@pytest.mark.parametrize("case", failures.cases(), ids=lambda case: case.name)
def test_truth_of_the_failing_inputs(case: Case) -> None:
    """By difference quotients; the surrogate's is that of the objective it stands for."""
    problem = case.problem
    if case.name == "surrogate curvature":

        def expected(xp, theta, phi, data):
            return ((theta[0] - phi[0]) ** 2).sum()

        slope = torch.func.grad(problem.in_torch()[0])(problem.theta, problem.phi)
        assert float(slope[0]) == 0  # as that of the objective: the first derivative is right
        problem = replace(problem, inner=expected)
    _, outer = problem.in_torch()
    h = torch.tensor([1e-4], dtype=F64)
    ends = [outer(reached(problem, p), p) for p in (problem.phi + h, problem.phi - h)]
    assert float(problem.exact) == pytest.approx(float(ends[0] - ends[1]) / 2e-4, rel=1e-6)


def test_we_are_never_silently_wrong() -> None:
    outcomes = {case.name: failures.judge(case, OURS) for case in failures.cases()}
    assert not any(outcome.silent for outcome in outcomes.values())
    told = {name: outcome.told for name, outcome in outcomes.items() if outcome.told}
    assert told == dict.fromkeys(("surrogate curvature", "not stationary"), "HypergradientWarning")
    assert sum(outcome.result == "right" for outcome in outcomes.values()) == len(outcomes) - 2


def test_a_flipped_sign_is_noticed() -> None:
    for case in failures.cases():
        plainly = failures.judge(case, PLAIN)
        outcome = failures.judge(case, flipped(PLAIN))
        assert outcome.silent
        if plainly.result == "right":
            assert outcome.error == pytest.approx(2)
            assert str(outcome) == "wrong by 2, no word"


def test_exceptions_and_nan_are_outcomes() -> None:
    case = failures.cases()[0]

    def broken(problem: Problem, effort: Effort) -> libraries.Call:
        raise ValueError("no")

    assert str(failures.judge(case, Library("broken", "", broken))) == "raises ValueError"
    lost = Library("lost", "", lambda *_: lambda: torch.tensor([float("nan")], dtype=F64))
    assert failures.judge(case, lost).silent
    other = Library("other", "", lambda *_: lambda: torch.ones(2, dtype=F64))
    assert str(failures.judge(case, other)) == "raises ValueError"  # another shape


def test_what_cannot_be_imported_is_named(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "planted_league"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_shared.py").write_text("raise RuntimeError")
    (folder / "absent.py").write_text("import a_library_nobody_has")
    (folder / "old.py").write_text("import torch\ntorch.of_another_version")
    (folder / "there.py").write_text("PACKAGES = ('torch',)\ndef implicit(problem, effort): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    found, missing = libraries.load(importlib.import_module("planted_league"))
    assert [library.name for library in found] == ["there"]
    assert found[0].unrolled is None
    assert found[0].version.startswith("torch ")
    assert set(missing) == {"absent", "old"}
    assert missing["absent"] == "ModuleNotFoundError: No module named 'a_library_nobody_has'"


def test_the_folder_has_a_file_for_each_library() -> None:
    found, missing = libraries.load()
    names = {library.name for library in found} | set(missing)
    assert names >= {
        "bimle", "plain", "torchopt", "jaxopt", "optimistix", "higher", "betty", "boat"
    }  # fmt: skip
    assert found[0].name == "bimle"
    assert "plain" in [library.name for library in found]


def test_the_race(monkeypatch) -> None:
    monkeypatch.setattr(race, "ROUNDS", (2, 2))

    def broken(problem: Problem, effort: Effort) -> libraries.Call:
        return lambda: 1 / 0

    fields = [OURS, PLAIN, flipped(PLAIN), Library("broken", "", broken), Library("none", "")]
    rows = {row.library: row for row in race.run("ridge", SMALL["ridge"], fields)}
    for name in ("bimle", "plain"):
        error, seconds = rows[name].error, rows[name].seconds
        assert error is not None
        assert error <= race.ERROR
        assert seconds is not None
        assert seconds[1] <= seconds[0] <= seconds[2]
    assert rows["bimle"].ratio == (1, 1, 1)
    worst = rows["flipped"].error
    assert worst is not None
    assert worst > 0.9  # that of 0, which little effort ends with
    assert rows["flipped"].seconds is None
    assert "does not reach" in rows["flipped"].note
    assert "ZeroDivisionError" in rows["broken"].note
    assert "offers no implicit" in rows["none"].note
    assert rows["plain"].gradients is not None
    assert rows[race.SLOPES].gradients == 2
    assert rows[race.FLOOR].gradients is None
    assert rows[race.FLOOR].seconds is not None


def test_effort_is_the_least_that_reaches(monkeypatch) -> None:
    """Also where more of it is worse, as without a tolerance; and the best one if none does."""
    monkeypatch.setattr(race, "EFFORTS", tuple(Effort(iterations=k) for k in range(1, 9)))
    problem = SMALL["ridge"]

    def at(errors: list[float]) -> Library:
        def implicit(problem: Problem, effort: Effort) -> libraries.Call:
            k = effort.limit(problem) - 1
            return lambda: problem.exact * (1 + errors[k])

        return Library("made", "", implicit)

    _, error = race.cheapest(problem, at([1, 1, 1e-7, 1e-8, 1e-9, 1e-9, 1e-9, 1e-9]))
    assert error == pytest.approx(1e-7, rel=1e-3)
    _, error = race.cheapest(problem, at([0.2, 1e-7, 1, 1, 1, 1, 1, 1]))
    assert error == pytest.approx(1e-7, rel=1e-3)
    _, error = race.cheapest(problem, at([1, 0.5, 0.7, 9, 1e-7, 1, 1, 1]))
    assert error == pytest.approx(0.5)


def test_the_command(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(race, "ROUNDS", (1, 1))
    monkeypatch.setattr(problems, "ALL", {"small": lambda: SMALL["gaussian"]})
    monkeypatch.setattr(libraries, "load", lambda: ([OURS, PLAIN], {"gone": "ImportError: why"}))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    done = CliRunner().invoke(command.app, ["--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "gone: not imported, ImportError: why" in done.output
    text = (tmp_path / "tables" / "league.md").read_text(encoding="utf-8")
    assert "gone: not imported" in text
    written = json.loads((tmp_path / "league.json").read_text(encoding="utf-8"))
    assert written["missing"] == {"gone": "ImportError: why"}
    assert [row["library"] for row in written["race"]] == ["bimle", "plain", race.SLOPES]
    assert all(row["error"] < RIGHT for row in written["race"][:2])
    assert len(written["failures"]) == 2 * len(failures.cases())
    assert not any(one["silent"] for one in written["failures"] if one["library"] == "bimle")
    wrong = CliRunner().invoke(command.app, ["--out", str(tmp_path), "--only", "nonsense"])
    assert wrong.exit_code == 2
