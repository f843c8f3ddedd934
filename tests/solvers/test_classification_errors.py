"""Tables with classes: what is refused before any work, and what the message says."""

import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.tasks.classification import (
    from_arrays,
    from_frame,
    load,
    load_openml,
    load_table,
    mixed_columns,
    split,
)
from tests.labelled import FRAME, GAPS, MIXED, NUMBERS, N, changed, same_bits


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (NUMBERS, InputError, r"no column 'kind': pass one of \['a', 'b', 'c'\]"),
        (FRAME.set_axis(["a", "b", "b", "kind"], axis=1), InputError, r"names repeat: \['b'\]"),
        (FRAME[["kind"]], InputError, "no columns to predict from"),
        (FRAME.head(0), InputError, "is empty: pass a table with rows"),
        (changed("b", 4, np.nan), NonFiniteError, r"row 4 .*'b' is nan .*impute=True"),
        (changed("a", 0, np.inf), NonFiniteError, r"row 0 .*'a' is inf \(1 such .*correct or"),
        (FRAME.assign(b=np.nan), InputError, "column 'b' has no value in any row: drop it"),
        (MIXED, InputError, r"'colour' is not numeric \(e.g. '\w+'\): pass pipeline=mixed_columns"),
        (FRAME.assign(a=1j), InputError, "column 'a' holds complex128, neither"),
        (
            FRAME.assign(a=pd.Timestamp("2020-01-01")),
            InputError,
            "column 'a' holds datetime64.*convert it to numbers or strings, or drop it",
        ),
        (changed("kind", 3, np.nan), NonFiniteError, r"row 3 .*target column 'kind' is nan \(1 su"),
        (FRAME.assign(kind=[np.inf, *[0.0, 1.0] * 29, 1.0]), NonFiniteError, "'kind' is inf"),
        (FRAME.assign(kind=[1, "a"] * 30), InputError, "'kind' cannot be sorted .*all strings or"),
        (FRAME.assign(kind="oak"), InputError, r"fewer than two classes: \['oak'\]"),
        (changed("kind", 3, "yew"), InputError, "class 'yew' has 1 of 60 rows, .*merge it .*drop"),
    ],
)
def test_bad_tables_are_refused(frame, error, words) -> None:
    with pytest.raises(error, match=words):
        from_frame("mine", frame, "kind")


def test_infinity_is_refused_even_with_a_pipeline() -> None:
    with pytest.raises(NonFiniteError, match=r"row 9 .*column 'b' is -inf .*correct or drop it"):
        from_frame("t", changed("b", 9, -np.inf, GAPS), "kind", pipeline=mixed_columns(impute=True))


def test_long_lists_of_columns_are_cut() -> None:
    with pytest.raises(InputError, match=r"'19'\] and 80 more"):
        from_frame("t", pd.DataFrame(np.zeros((9, 100))), "kind")


X, Y = NUMBERS.to_numpy(), np.arange(N) % 3


@pytest.mark.parametrize(
    ("x", "y", "classes", "error", "words"),
    [
        (X, Y, 2, InputError, r"label 2 of row 2 .* is outside 0 .. 1: name all classes"),
        (X, Y - 1, None, InputError, r"label -1 of row 0 .* is outside 0 .. 1"),
        (X, np.where(Y == 2, 10**9, Y), None, InputError, r"label 1000000000 of row 2 .*0 .. 59"),
        (X, Y, 4, InputError, r"class '3' has 0 of 60 rows"),
        (X, Y, ("a", "b", "c", "d"), InputError, r"class 'd' has 0 of 60 rows"),
        (X, Y, ("a", "b", "b"), InputError, r"class names repeat: \['b'\]"),
        (X, 0 * Y, None, InputError, r"fewer than two classes: \['0'\]"),
        (X, Y / 1, None, InputError, r"labels are float64: pass integers"),
        (X, Y[1:], None, ShapeError, r"x is \(60, 3\), y \(59,\): pass \(N, d\) and \(N,\)"),
        (X[:, 0], Y, None, ShapeError, r"x is \(60,\)"),
        (X[:, :0], Y, None, InputError, "no columns to predict from"),
        (X[:0], Y[:0], None, InputError, "is empty"),
        (X.astype(str), Y, None, InputError, "x holds .*pass real numbers"),
        (np.where(X > 100, np.nan, X), Y, None, NonFiniteError, r"row \d+ .*'x1' is nan"),
    ],
)
def test_bad_arrays_are_refused(x, y, classes, error, words) -> None:
    with pytest.raises(error, match=words):
        from_arrays("mine", x, y, classes)


def test_tensors_of_any_real_type() -> None:
    x = torch.from_numpy(X.copy()).bfloat16().requires_grad_()
    task = from_arrays("t", x, torch.from_numpy(Y.copy()).to(torch.uint8))
    np.testing.assert_array_equal(task.table, x.detach().double())
    assert split(task, seed=0).train.y.dtype == torch.int64


def test_names_of_columns_must_fit() -> None:
    with pytest.raises(ShapeError, match="2 names for 3 columns"):
        from_arrays("mine", X, Y, features=("a", "b"))
    with pytest.raises(InputError, match=r"column names repeat: \['a'\]"):
        from_arrays("mine", X, Y, features=("a", "b", "a"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot read .*t.csv as a CSV table"),
        ("a,y\n1,2\n1,2,3,4\n", "cannot read .*t.csv as a CSV table"),
        ("a,a,y\n1,2,3\n", r"column names repeat: \['a'\]"),
        (",a,y\n0,2,3\n", r"column 0 .* has no name; .*index=False"),
        ("a,y\n1,2,3\n4,5,6\n", "cannot read .*Expected 2 fields in line 2, saw 3"),
    ],
)
def test_unreadable_csv_files_are_refused(content, words, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        load_table(tmp_path / "t.csv", "y")


def test_other_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no parquet")
    for file, words in [
        ("t.parquet", "cannot read .*t.parquet as a Parquet table"),
        ("none.parquet", "cannot read .*none.parquet"),
        ("none.csv", "cannot read .*none.csv"),
        ("t.xlsx", "ends in '.xlsx': pass a .csv or a .parquet file"),
    ]:
        with pytest.raises(InputError, match=words):
            load_table(tmp_path / file, "y")


@pytest.mark.parametrize(
    ("seed", "test_size", "validation_size", "words"),
    [
        (-1, 0.2, 0.2, "seed is -1: pass at least 0"),
        (2**32, 0.2, 0.2, "seed is 4294967296 .*: pass at most 4294967295"),
        *((x, 0.2, 0.2, r"seed is .*: pass an int") for x in (True, None, "0", 1.5, 1.0, [0])),
        *((0, x, 0.2, r"test_size is .*: pass a") for x in (True, None, "0.2", np.nan, 1j)),
        *((0, 0.2, x, r"validation_size is .*: pass a") for x in (True, None, "0.2", np.nan)),
        (0, -0.2, 0.2, "test_size must lie between 0 and 1, got -0.2"),
        (0, 0.0, 0.2, "test_size must lie between 0 and 1, got 0.0"),
        (0, 0.2, 1.0, "validation_size must lie between 0 and 1, got 1.0"),
        (0, 0.02, 0.2, "60 rows of 3 classes cannot give a test part of share 0.02: .*more rows"),
    ],
)
def test_bad_splits_are_refused(monkeypatch, seed, test_size, validation_size, words) -> None:
    # as users run, without the type checks of conftest.py, which would speak up first
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    task = from_frame("t", FRAME, "kind")
    with pytest.raises(InputError, match=words):
        split(task, seed=seed, test_size=test_size, validation_size=validation_size)


def test_small_classes_are_refused_with_their_count() -> None:
    frame = changed("kind", 3, "yew")
    frame.loc[[4, 5], "kind"] = "yew"
    task = from_frame("t", frame, "kind")
    with pytest.raises(InputError, match="'yew' has 3 of 60 rows, none of them in the test part"):
        split(task, seed=0)
    with pytest.raises(InputError, match="'yew' has 3 of 60 rows, too few to split off the valid"):
        split(task, seed=0, test_size=0.6)


@pytest.mark.parametrize(
    ("pipeline", "error", "words"),
    [
        (mixed_columns(), NonFiniteError, r"t: row \d+ .*column '\w+' is missing: .*impute=True"),
        (StandardScaler(), InputError, "t: preprocessing failed: .*could not convert string"),
        (OneHotEncoder(), InputError, "t: preprocessing failed: .*unknown categories"),
        (FunctionTransformer(pd.get_dummies), ShapeError, "same columns for every part"),
        (FunctionTransformer(lambda frame: frame[["a"]].head(1)), ShapeError, "one row for each"),
        (FunctionTransformer(lambda frame: frame["a"]), ShapeError, "must return a matrix"),
        (
            FunctionTransformer(lambda frame: frame[["a", "b"]]),
            NonFiniteError,
            r"row [15] .*output column 1 of the pipeline is nan \(\d such entries in \w+\): let",
        ),
    ],
)
def test_pipelines_that_fail_are_refused(pipeline, error, words) -> None:
    # distinct words in the last rows, so that some part holds one the others do not
    frame = GAPS.assign(name=[f"n{i}" for i in range(N)]) if error is not NonFiniteError else GAPS
    task = from_frame("t", frame, "kind", pipeline=pipeline)
    with pytest.raises(error, match=words):
        split(task, seed=0)


def test_overflow_is_an_error_not_a_column_of_zeros() -> None:
    own = StandardScaler()
    with pytest.raises(InputError, match=r"overflow .*or rescale them"):
        split(from_frame("t", FRAME.assign(a=NUMBERS["a"] * 1e200), "kind", pipeline=own), seed=0)
    keep = FunctionTransformer(lambda frame: frame[["a"]])
    big = from_frame("t", FRAME.assign(a=NUMBERS["a"] * 1e100), "kind", pipeline=keep)
    assert split(big, seed=0).train.x.isfinite().all()
    with pytest.raises(NonFiniteError, match=r"torch.float32: train.x\[0, 0\] is"):
        split(big, seed=0, dtype=torch.float32)


@given(st.lists(st.integers(-960, 1000), min_size=3, max_size=3), st.sampled_from(["all", "train"]))
@pytest.mark.parametrize("pipeline", [None, mixed_columns(), mixed_columns(impute=True)])
def test_units_do_not_matter(pipeline: Any, powers: list[int], scaler: Any) -> None:
    """Bit for bit with powers of 2, even where the square of a column is 0 or infinite."""
    plain, moved = (
        from_frame("t", frame.assign(even=even, kind=FRAME["kind"]), "kind", pipeline=pipeline)
        for frame, even in ((NUMBERS * 1.0, 1.0), (np.ldexp(1.0, powers) * NUMBERS, 2.0**-700))
    )
    assert same_bits(split(moved, seed=0, scaler=scaler), split(plain, seed=0, scaler=scaler))


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-162, 1e155, 1e200, 1e300])
def test_every_column_is_standardised(size: float) -> None:
    x = split(from_frame("t", FRAME.assign(a=NUMBERS["a"] * size), "kind"), seed=0).train.x
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(x.shape[1], dtype=x.dtype))


def test_unknown_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # as users run, without the type checks of conftest.py, which would speak up first
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match=r"unknown table 'mnist': .*'wine'"):
        load("mnist")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="scaler must be 'all' or 'train', got 'test'"):
        split(load("iris"), seed=0, scaler="test")  # pyright: ignore[reportArgumentType]


def fetch(answer: Bunch | Exception, calls: list[tuple]):
    def fetch_openml(name, **options):
        calls.append((name, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fetch_openml


def test_openml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple] = []
    frame = MIXED.astype({"kind": "category", "colour": "category"})
    bunch = Bunch(frame=frame, target_names=["kind"])
    monkeypatch.setattr(datasets, "fetch_openml", fetch(bunch, calls))
    task = load_openml("trees", version=2, data_home=tmp_path, pipeline=mixed_columns())
    assert calls[0][0] == "trees"
    assert (calls[0][1]["version"], calls[0][1]["data_home"]) == (2, str(tmp_path))
    want = from_frame("trees", MIXED, "kind", pipeline=mixed_columns())
    assert (task.features, task.classes) == (want.features, want.classes)
    assert same_bits(split(task, seed=0), split(want, seed=0))
    by_colour = load_openml("trees", "colour", version=2, pipeline=mixed_columns())
    assert by_colour.classes == ("blue", "green", "grey", "red")
    for targets in ([], ["kind", "wet"], None):
        bunch["target_names"] = targets
        with pytest.raises(InputError, match=r"OpenML names \d targets .*pass target=, one of"):
            load_openml("trees", version=2)


def test_openml_with_a_bad_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = MIXED.astype({"b": object})
    frame.loc[4, "b"] = "?"
    bunch = Bunch(frame=frame, target_names=["kind"])
    monkeypatch.setattr(datasets, "fetch_openml", fetch(bunch, []))
    with pytest.raises(InputError, match=r"trees: column 'b' holds numbers, but '\?' in row 4"):
        load_openml("trees", version=1, pipeline=mixed_columns(impute=True))


@pytest.mark.parametrize(
    "error", [URLError("no route"), ConnectionError("no route"), TimeoutError("no route")]
)
def test_openml_without_a_network(error, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fetch_openml", fetch(error, []))
    words = "cannot download 'adult' version 2 .*no route.*CSV or Parquet .*load_table.*data_home"
    with pytest.raises(InputError, match=words) as raised:
        load_openml("adult", version=2)
    assert raised.value.__cause__ is error


def test_openml_without_that_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fetch_openml", fetch(ValueError("Dataset not found"), []))
    with pytest.raises(InputError, match=r"does not give 'adlut' version 2: Dataset not found"):
        load_openml("adlut", version=2)


@pytest.mark.filterwarnings("ignore:A network error:UserWarning")
def test_openml_behind_a_proxy_that_is_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A refused connection on this computer: the real path to the error, with and without network.
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen remembers earlier proxies
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # scikit-learn's, between attempts
    with pytest.raises(InputError, match=r"cannot download .*Connection refused"):
        load_openml("adult", version=2, data_home=tmp_path)
