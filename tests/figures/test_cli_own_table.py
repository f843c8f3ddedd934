"""A table of the user's own at the command line: how it is written, and names of any kind."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_checks import gate
from paper_checks.experiments import wrong_covariance
from solvers.errors import InputError
from tests.fakes import Settings, names

RNG = np.random.default_rng(0)


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


weights = st.floats(0.1, 10) | st.floats(-10, -0.1)


@settings(max_examples=25)
@given(st.lists(weights, min_size=0, max_size=2), weights, weights, st.integers(0, 12))
def test_targets_without_a_residual_are_named(
    tmp_path_factory: Any, of_targets: list[float], slope: float, scale: float, digits: int
) -> None:
    """Exactly and to the digits that a file has, by features, targets, or both."""
    data = tmp_path_factory.mktemp("own") / "mine.csv"
    rows = np.random.default_rng(0).standard_normal((40, 4)).round(1)
    frame = pd.DataFrame(rows, columns=["x", "a", "b", "c"])
    parts = ["a", "b"][: len(of_targets)]
    frame["z"] = scale * (frame[parts] @ np.array(of_targets) + slope * frame["x"]) + 3
    frame["z"] += 10.0**-digits * 1e-14 * rows[:, 0] * abs(scale)
    frame.to_csv(data, index=False)
    own = wrong_covariance.Settings(data, ("a", "b", "z", "c"))
    known = f"of the targets {parts} and of the features" if parts else "of the features"
    with pytest.raises(InputError, match=r"drop the column 'z'") as caught:
        wrong_covariance.tasks(own)
    assert f"target 'z' is a linear function {known}" in str(caught.value)
    frame["z"] += 0.01 * frame["a"].round(0) * frame["b"]  # no linear function of them
    frame.to_csv(data, index=False)
    assert wrong_covariance.tasks(own)


def test_collinear_targets_are_refused_before_the_gate(call, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "recorded", None)
    data = tmp_path / "mine.csv"
    frame = table("x", "a", "b")
    frame.assign(c=frame["a"] - 2 * frame["b"]).to_csv(data, index=False)
    result = call("wrong-covariance", "--data", str(data), "--targets", "a,b,c")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "target 'c' is a linear function of the targets ['a', 'b'] and of the feat" in message
    assert names(tmp_path / "out") == set()


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
