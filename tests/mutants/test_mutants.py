"""The mutants themselves: what is planted, which tests it meets, what becomes of it."""

import ast
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from paper_checks import store
from paper_checks.report.mutants import reasons
from tests.mutants import mathematics, nearest, report, run, sample, traced
from tests.mutants.__main__ import Session
from tests.mutants.mutant import Mutant, statement
from tests.mutants.nearest import Checkout, Round, Selection

MODULE = "solvers/half.py"
TEXT = '''"""Halves."""

from __future__ import annotations


def half(x: int | float) -> float:
    """Return x / 2."""
    if x == 3 + 4:
        raise ValueError(f"{x - 1} is " + "seven")
    return x / 2


def twice(x: float) -> float:
    return _same(x) + x


def _same(x: float) -> float:
    return x
'''
TESTS = """
from solvers.half import half

def test_half():
    assert half(4.0) == 2.0
"""
OTHERS = """
import solvers.half

def test_twice():
    assert solvers.half.twice(4.0) == 8.0
"""
CONFTEST = """
from hypothesis import settings
from tests import shapes  # with which this process checks every `solvers`
settings.register_profile("gate")
"""
FAR, NAMED = "tests/solvers/test_far.py", "tests/solvers/test_near.py"
NEAR = Selection((Round((NAMED,)), Round((FAR,))), ("half",))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one module and two files of tests, which need no library."""
    monkeypatch.setattr(run, "LIBRARIES", ())
    files = {
        MODULE: TEXT,
        "solvers/__init__.py": "",
        "tests/__init__.py": "",
        "tests/conftest.py": CONFTEST,
        "tests/shapes.py": (store.ROOT / "tests/shapes.py").read_text(),
        "tests/solvers/__init__.py": "",
        "tests/solvers/test_near.py": TESTS,
        "tests/solvers/test_far.py": OTHERS,
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow"]\n',
    }
    for name, text in files.items():
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(text)
    return tmp_path / "made"


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("factor 2", "x / 2", {"x"}),
        ("factor 2", "half * x", {"x"}),
        ("factor 2", "sp.Rational(1, 2)", {"1"}),
        ("factor 2", "a + b", {"a + b / 2"}),
        ("sign", "a - b", {"a + b"}),
        ("sign", "-x", {"x"}),
        ("dropped term", "a - b", {"a", "-b"}),
        ("transpose", "X.mT", {"X"}),
        ("transpose", "A @ B", {"A.mT @ B"}),
        ("transpose", "A.mT @ B", {"A @ B"}),
        ("inverse", "inverse(Sigma)", {"Sigma"}),
        ("inverse", "torch.linalg.solve(A, b)", {"A @ b"}),
        ("inverse", "1 / x", {"x"}),
        ("power", "x**2", {"x"}),
        ("power", "x.square()", {"x"}),
        ("marginal for residual", "y - law.mean", {"y"}),
        ("dropped baseline", "r - r.mean(-1)", {"r"}),
        ("dropped baseline", "r - baseline", {"r"}),
        ("mean for sum", "x.sum(-1)", {"x.mean(-1)"}),
        ("stopped gradient", "x.detach()", {"x"}),
    ],
)
def test_an_operator_says_what_else_may_stand_there(operator, before, after):
    node = ast.parse(before, mode="eval").body
    assert isinstance(node, ast.expr)
    assert {ast.unparse(new) for new in mathematics.OPERATORS[operator](node)} == after


def test_only_what_computes_is_changed():
    found = {(m.operator, m.change(TEXT)) for m in mathematics.mutants(MODULE, TEXT)}
    assert all(m.text.count("\n") == TEXT.count("\n") for m in mathematics.mutants(MODULE, TEXT))
    assert ("factor 2", ("return x / 2", "return (x)")) in found
    changed = {before for _, (before, _) in found}
    assert changed == {"return x / 2", "if x == 3 + 4:", "return _same(x) + x"}
    assert not list(mathematics.mutants("analysis/show.py", TEXT))


def test_every_mutant_is_python_and_another_one():
    path = "solvers/rewards/mahalanobis.py"
    every = list(mathematics.mutants(path, (store.ROOT / path).read_text()))
    assert len({mutant.name for mutant in every}) == len(every) > 20
    for mutant in every:
        ast.parse(mutant.text)


def test_a_change_elsewhere_leaves_the_sample_in_its_order():
    """The same lines twice are different mutants."""
    further = TEXT.replace("return x\n", "return x\n\n\ndef three(x):\n    return x + 3\n")
    few, more = (list(sample.mathematical({MODULE: text}, 0)) for text in (TEXT, further))
    of_few = [m.change(TEXT) for m in few]
    assert of_few == [change for m in more if (change := m.change(further)) in of_few]
    assert len(more) > len(few) > 2
    assert of_few != [m.change(TEXT) for m in sample.mathematical({MODULE: TEXT}, 1)]
    line = "a = b + c\n"
    once, twice = (list(sample.mathematical({MODULE: line * i}, 0)) for i in (1, 2))
    assert len({m.name for m in twice}) == 2 * len(once) > 0


def test_the_nearest_tests_come_first(root):
    checkout = Checkout(root)
    at_half = next(mathematics.mutants(MODULE, TEXT))
    in_same = replace(at_half, at=(TEXT[: TEXT.index("return x\n")].count("\n") + 1, 4))
    files, words = checkout.nearest(in_same)  # which twice uses
    assert files[0] == FAR
    assert words[0] == "twice"
    assert checkout.near(in_same).files == files
    before = checkout.digest(files)
    (root / "tests/solvers/test_near.py").write_text(TESTS + "\n")
    assert Checkout(root).digest(files) != before
    assert Checkout(root).digest(files[:1]) == checkout.digest(files[:1])


def test_the_lines_of_a_statement():
    assert statement(TEXT, 8) == range(8, 9)  # the head of an if
    assert statement(TEXT, 10) == range(10, 11)
    assert statement("x = (\n    1 +\n    2\n)\n", 3) == range(1, 5)


def test_what_each_test_runs(root):
    with run.template(root) as copy:
        job = (None, Selection((Round((FAR,)),)))
        [(_, _, found)] = run.outcomes(root, copy, [job], 1, "traced")
    assert found.trace is not None
    trace = traced.Trace(FAR, "", **found.trace)
    test = f"{FAR}::test_twice"
    assert trace.names == (test,)
    assert trace.running(MODULE, range(14, 15)) == {test}  # the body of twice
    assert trace.running(MODULE, range(10, 11)) == set()  # that of half
    assert trace.running(MODULE, range(6, 7)) == {test}  # the import alone
    made = next(mathematics.mutants(MODULE, TEXT))
    chosen = Checkout(root).selection(made, {FAR: trace, NAMED: trace})
    assert chosen.rounds == Checkout(root).near(made).rounds  # as none runs its line
    in_twice = replace(made, at=(14, 4))
    assert Checkout(root).selection(in_twice, {FAR: trace}).rounds[0] == Round((FAR,), (test,))
    gone = f"{FAR}::test_gone"  # noticed it once
    assert Checkout(root).selection(in_twice, {FAR: trace}, gone).rounds[0].tests == (gone,)


def test_tests_that_do_not_fit_are_counted(root, monkeypatch):
    tests = {f"{FAR}::test_{i}": 5.0 for i in range(10)}
    trace = traced.Trace(FAR, "", tests, {MODULE: {"14": list(range(10))}})
    made = replace(next(mathematics.mutants(MODULE, TEXT)), at=(14, 4))
    (root / NAMED).unlink()
    chosen = Checkout(root).selection(made, {FAR: trace})
    assert [len(one.tests) for one in chosen.rounds] == [2, 8]
    assert chosen.left == 0
    monkeypatch.setattr(nearest, "BUDGET", 30.0)
    assert Checkout(root).selection(made, {FAR: trace}).left == 10 - 4


def test_what_near_tests_miss_is_noticed_by_what_runs_it(root, tmp_path, monkeypatch):
    """And what is known is taken from the file, until a test changes."""
    monkeypatch.setattr(nearest, "FILES", 1)
    fault = TEXT.replace("return _same(x) + x", "return _same(x) - x")
    made = Mutant(MODULE, "mathematical", "sign", (14, 4), fault)
    (root / NAMED).write_text("import solvers.half as twice\n" * 3 + TESTS)
    (root / FAR).write_text("from solvers import half as h\n\n"
        "def test_it():\n    assert getattr(h, 'twi' + 'ce')(4.0) == 8.0\n")  # fmt: skip
    assert Checkout(root).near(made).files == [NAMED]

    def judged(copy: Path, *, near: bool = False) -> report.Known:
        [one] = Session(root, copy, {MODULE: TEXT}, tmp_path / "out", 1).judged([made], near=near)
        return one

    with run.template(root) as copy:
        assert judged(copy, near=True).verdict == "open"
        first = judged(copy)
        assert (first.verdict, first.by, first.files) == ("killed", f"{FAR}::test_it", (FAR,))
        kept = (tmp_path / "out" / "mutants.jsonl").read_text()
        assert [one.split('"verdict": ')[1].split('"')[1] for one in kept.splitlines()] == [
            "open", "killed"
        ]  # fmt: skip
        assert judged(copy) == first
        assert (tmp_path / "out" / "mutants.jsonl").read_text() == kept
    (root / FAR).write_text("import solvers.half\n\ndef test_it():\n    pass\n")
    with run.template(root) as copy:
        assert judged(copy).verdict == "survived"


def test_what_is_open_stays_so_where_only_near_tests_are_asked(root, tmp_path):
    """And the record of a run is where the next one starts, in an empty folder."""
    (root / "tests/mutants").mkdir()
    blind = Mutant(MODULE, "code", "number", (8, 12), TEXT.replace("3 + 4", "3 + 5"))
    seen = Mutant(MODULE, "code", "sign", (10, 4), TEXT.replace("x / 2", "x * 2"))

    def judged(out: str, text: str = TEXT) -> list[report.Known]:
        made = [Mutant(m.path, m.kind, m.operator, m.at, m.text + text[len(TEXT) :])
                for m in (blind, seen)]  # fmt: skip
        session = Session(root, copy, {MODULE: text}, tmp_path / out, 1)
        return list(session.judged(made, near=True))

    with run.template(root) as copy:
        first = judged("first")
        assert [one.verdict for one in first] == ["open", "killed"]
        assert [one.tests for one in first] == [2, 2]
        report.record(root / report.RECORD, first)
        assert [one.key for one in report.read(root / report.RECORD).values()] == [
            one.key for one in first
        ]
        assert judged("second") == first
        assert list(report.read(tmp_path / "second" / "mutants.jsonl").values()) == first
    # the module has changed: what noticed the fault is asked first
    (root / MODULE).write_text(TEXT + "\n\nTHREE = 3\n")
    with run.template(root) as copy:
        again = judged("third", TEXT + "\n\nTHREE = 3\n")[1]
    assert (again.verdict, again.by, again.tests) == ("killed", first[1].by, 1)
    assert again.key != first[1].key


def test_what_becomes_of_a_mutant(root, monkeypatch):
    """Noticed, not noticed, never at an end, no Python; and the code as it is."""
    changes = {
        "a": ("return x / 2", "return x"),
        "b": ("3 + 4", "3 - 4"),
        "c": ("return x / 2", "while True: pass"),
        "d": ("return x / 2", "return ("),
    }
    made = [
        Mutant(MODULE, "code", name, (10, 4), TEXT.replace(*change))
        for name, change in changes.items()
    ]
    monkeypatch.setattr(run, "PER_TEST", 4)
    before = signal.getsignal(signal.SIGXCPU)
    with run.template(root) as copy:
        jobs = [(mutant, NEAR) for mutant in (*made, None)]
        found = list(run.outcomes(root, copy, jobs, workers=2))
    assert signal.getsignal(signal.SIGXCPU) is before
    verdicts = {m.operator if m else "": outcome for m, _, outcome in found}
    assert {name: outcome.verdict for name, outcome in verdicts.items()} == {
        "a": "killed", "b": "survived", "c": "timed out", "d": "killed", "": "survived"
    }  # fmt: skip
    assert verdicts["a"].by == verdicts["c"].by == f"{NAMED}::test_half"
    assert verdicts["d"].by == NAMED  # it cannot be imported
    assert (root / MODULE).read_text() == TEXT


def test_what_no_test_can_be_imported_with_is_noticed(root):
    """As `conftest.py` imports the module, every run ends with its error."""
    configure = "\ndef pytest_configure():\n    from solvers import half\n"
    (root / "tests/conftest.py").write_text(CONFTEST + configure)
    made = Mutant(MODULE, "code", "number", (6, 0), TEXT + "\nTHIRD = 1 / 0\n")
    with run.template(root) as copy:
        [(_, tests, outcome)] = run.outcomes(root, copy, [(made, NEAR)], workers=1)
    assert (outcome.verdict, outcome.by, outcome.tests) == ("killed", "import", 0)
    one = report.known(made, TEXT, tests, outcome)
    assert one.files == (NAMED, FAR)
    assert Checkout(root).near(made, one.by) == Checkout(root).near(made)
    (root / MODULE).write_text(made.text)
    with pytest.raises(RuntimeError, match="without a mutant: import"), run.template(root):
        pass


def test_tests_that_cannot_run_notice_nothing(root):
    mutant = next(mathematics.mutants(MODULE, TEXT))
    none = Selection((Round(("tests/solvers/test_gone.py",)),))
    with run.template(root) as copy:
        [(_, _, outcome)] = run.outcomes(root, copy, [(mutant, none)], workers=1)
    assert outcome.verdict == "void"
    (root / "tests/solvers/test_far.py").write_text("import no_such_module\n")
    with pytest.raises(RuntimeError, match="test_far"), run.template(root):
        pass


def known(verdict: str, kind: str = "code", reason: str = "") -> report.Known:
    where = ("key", MODULE, 10, kind, "sign", "a + b", "a - b")
    return report.Known(*where, verdict, "", 3, 1.0, reason=reason)


def test_a_survivor_needs_a_reason():
    killed = [known("killed"), known("timed out"), known("killed", "mathematical")]
    assert report.enough(killed)
    assert not report.enough([*killed, known("survived")])
    assert report.enough([*killed, known("survived", reason="a tolerance")])
    assert not report.enough([*killed, known("void")])
    assert report.unexplained([known("survived"), known("survived", reason="so")]) == [
        known("survived")
    ]
    text = report.told(known("survived"))
    assert text.splitlines() == [
        f"{MODULE}:10 survived, sign (3 tests)", "    - a + b", "    + a - b"
    ]  # fmt: skip


def test_a_line_that_was_cut_off_is_forgotten(tmp_path):
    one = report.known(Mutant(MODULE, "code", "sign", (1, 0), "x\n"), "y\n", NEAR,
                       run.Outcome("survived", "", 2, 0.5))  # fmt: skip
    assert one.files == (NAMED, FAR)
    path = tmp_path / "mutants.jsonl"
    path.write_text(report.line(one) + report.line(replace(one, key="l"))[:-5])
    assert report.read(path) == {one.key: one}
    assert report.read(tmp_path / "none.jsonl") == {}


def test_every_reason_is_of_a_line_that_is_there():
    for path, before, after in reasons():
        lines = {line.strip() for line in (store.ROOT / path).read_text().splitlines()}
        assert set(before.splitlines()) <= lines, (path, before)
        assert before != after
