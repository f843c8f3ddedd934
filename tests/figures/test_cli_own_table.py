"""A table of the user's own at the command line: how it is written, and names of any kind."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from paper_checks import gate
from tests import fakes
from tests.fakes import Settings, names

RNG = np.random.default_rng(0)


@pytest.fixture
def fake(monkeypatch) -> SimpleNamespace:
    return fakes.install(monkeypatch)


@pytest.fixture
def passed(monkeypatch) -> gate.GateResult:
    return fakes.pass_gate(monkeypatch)


@pytest.fixture
def call(tmp_path):
    return fakes.command_line(tmp_path / "out")


def table(*columns: str) -> pd.DataFrame:
    return pd.DataFrame(RNG.standard_normal((30, len(columns))), columns=list(columns))


def test_how_the_table_is_written_is_passed_on(fake, passed, call, tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text("a\tb\tc\n1\t2\t3\n", encoding="utf-16")
    options = ["--sep", r"\t", "--encoding", "utf-16", "--na-values", "?", "--na-values", "n/a"]
    result = call("T", "--data", str(data), "--targets", "a,b", "--decimal", ",", *options)
    assert result.exit_code == 0, result.output
    written = Settings(
        data=data,
        targets=("a", "b"),
        sep="\t",
        encoding="utf-16",
        decimal=",",
        na_values=("?", "n/a"),
    )
    assert fake.runs == [(written, 0)]
    call("T", "--data", str(data), "--targets", "a,b", "--decimal", ".", *options)
    assert len(fake.runs) == 2


def test_columns_with_commas(fake, passed, call, tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text('a,"a, b",b,c\n1,2,3,4\n')
    call("T", "--data", str(data), "--target", "a, b", "--target", "c")
    assert fake.runs[-1][0].targets == ("a, b", "c")
    call("T", "--data", str(data), "--targets", "a,c")
    assert fake.runs[-1][0].targets == ("a", "c")
    for text in ("a,b", "a, b", "c,a,b"):
        result = call("T", "--data", str(data), "--targets", text)
        assert result.exit_code == 2
        message = " ".join(result.stderr.replace("│", "").split())
        assert "may mean the column 'a, b' or ['a', 'b']: name each column by a" in message
    assert len(fake.runs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{data}", "--targets", "a,b", "--target", "c"], "not both"),
        (["--data", "{data}"], "--targets a,b go together"),
        (["--target", "a"], "go together"),
        (["--sep", ";"], "are about --data"),
        (["--na-values", "?"], "are about --data"),
        (["--data", "{data}", "--targets", "a,b", "--sep", ";"], "pass sep=','"),
        (["--data", "{data}", "--targets", "a,b", "--encoding", "utf-9"], "called 'utf-9'"),
        (["--data", "{folder}", "--targets", "a"], "is a directory"),
    ],
)
def test_bad_usage_is_named_before_any_work(fake, call, tmp_path, arguments, message):
    data = tmp_path / "mine.csv"
    data.write_text("a,b,c\n1,2,3\n")
    result = call("T", *(a.format(data=data, folder=tmp_path) for a in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert (fake.runs, (tmp_path / "out").exists()) == ([], False)


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("mine", "身長", "DejaVu Sans has no '身'"),
        ("年齢", "a", "DejaVu Sans has no '年'"),
        ("mine", "рост", "no LaTeX form for 'р'"),
    ],
)
def test_names_that_cannot_be_printed_are_refused_before_the_gate(
    fake, call, tmp_path, monkeypatch, name, target, message
):
    monkeypatch.setattr(gate, "recorded", None)
    data = tmp_path / f"{name}.csv"
    data.write_text(f"{target},b\n1,2\n", encoding="utf-8")
    result = call("T", "--data", str(data), "--target", target)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (fake.runs, names(tmp_path / "out")) == ([], set())


def test_real_figure_with_hostile_names(passed, call, tmp_path):
    data = tmp_path / "Größe & 50% $x_1$.csv"
    target = "Θ_#1, {a}|\\b $2$"
    table(target, "_b", "*c*").to_csv(data, index=False, sep=";", decimal=",")
    result = call(
        *(
            "wrong-covariance",
            "--data",
            str(data),
            "--target",
            target,
            "--sep",
            ";",
            "--decimal",
            ",",
        ),
    )
    assert result.exit_code == 0, result.output
    stem = f"wrong-covariance-{data.stem}"
    folder = tmp_path / "out"
    assert {f"{stem}.{e}" for e in ("pdf", "png", "txt", "json")} == names(folder / "figures")
    assert target in (folder / f"figures/{stem}.txt").read_text(encoding="utf-8")
    tex = (folder / f"tables/{stem}.tex").read_text(encoding="utf-8")
    assert r"$\Theta$\_\#1, \{a\}\textbar{}\textbackslash{}b \$2\$" in tex
    assert r"Gr\"{o}\ss{}e \& 50\% \$x\_1\$" in tex
    markdown = (folder / f"tables/{stem}.md").read_text(encoding="utf-8")
    assert r"Θ\_#1, {a}\|\\b \$2\$" in markdown
    assert r"Größe \& 50% \$x_1\$" in markdown


def test_real_figure_names_a_bad_cell_before_the_gate(call, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "recorded", None)
    data = tmp_path / "mine.csv"
    frame = table("a", "b").astype(str)
    frame.loc[7, "b"] = "?"
    frame.to_csv(data, index=False)
    result = call("wrong-covariance", "--data", str(data), "--targets", "a")
    assert result.exit_code == 2
    assert "mine: column 'b' holds numbers, but '?' in row 7 (counted from 0)" in result.stderr
    result = call("wrong-covariance", "--data", str(data), "--targets", "a", "--na-values", "?")
    assert result.exit_code == 2
    assert "mine: row 7 (counted from 0), column 'b' is nan" in result.stderr
