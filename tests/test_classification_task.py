"""Tables with classes: how they are split and preprocessed, and what is refused before any work."""

import dataclasses
import urllib.request
from pathlib import Path
from urllib.error import URLError

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.tasks import classification
from solvers.tasks.classification import (
    from_arrays,
    from_frame,
    load,
    load_openml,
    load_table,
    mixed_columns,
    split,
)

RNG = np.random.default_rng(0)
N = 60
NUMBERS = pd.DataFrame(
    {"a": RNG.standard_normal(N), "b": 100 * RNG.random(N) + 5, "c": np.arange(N) % 7}
)
FRAME = NUMBERS.assign(kind=np.array(["oak", "elm", "fir"])[np.arange(N) % 3])
MIXED = FRAME.assign(
    colour=np.array(["red", "green", "blue", "grey"])[RNG.integers(4, size=N)],
    wet=RNG.random(N) < 0.5,
)
GAPS = MIXED.astype({"wet": object})
GAPS.loc[[1, 5], "b"] = np.nan
GAPS.loc[[2, 3, 4], "colour"] = np.nan
GAPS.loc[[7, 8], "wet"] = np.nan
PARTS = ("train", "validation", "test")


def changed(column: str, row: int, value: object, frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    frame = frame.astype({column: object}) if isinstance(value, str) else frame.copy()
    frame.loc[row, column] = value
    return frame


def parts(whole: classification.Split) -> list[classification.Part]:
    return [getattr(whole, part) for part in PARTS]


def same_bits(one: classification.Split, other: classification.Split) -> bool:
    return all(
        torch.equal(getattr(a, field.name), getattr(b, field.name))
        for a, b in zip(parts(one), parts(other), strict=True)
        for field in dataclasses.fields(a)
    )


BUILT_IN = {
    "wine": (13, 3, (113, 29, 36)),
    "iris": (4, 3, (96, 24, 30)),
    "breast_cancer": (30, 2, (364, 91, 114)),
    "digits": (64, 10, (1149, 288, 360)),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_tables_that_come_with_scikit_learn(name) -> None:
    task = load(name)
    d, C, sizes = BUILT_IN[name]
    assert (len(task.features), len(task.classes)) == (d, C)
    assert len(task.table) == len(task.labels) == sum(sizes)
    for scaler in ("train", "all"):
        whole = split(task, seed=0, scaler=scaler)
        assert tuple(len(part.y) for part in parts(whole)) == sizes
        for part in parts(whole):
            assert part.x.shape == (len(part.y), d)
            assert (part.x.dtype, part.y.dtype) == (torch.float64, torch.int64)
            assert torch.equal(part.y, torch.from_numpy(task.labels)[part.rows])
            share = np.bincount(task.labels) * len(part.y) / len(task.labels)
            assert (np.abs(np.bincount(part.y, minlength=C) - share) <= 1).all()
        rows = torch.cat([part.rows for part in parts(whole)])
        assert torch.equal(rows.sort().values, torch.arange(sum(sizes)))


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("name", BUILT_IN)
def test_the_published_protocol_bit_by_bit(name, seed) -> None:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    scaled = StandardScaler().fit(x).transform(x)
    a, test, b, test_y = train_test_split(scaled, y, test_size=0.2, stratify=y, random_state=seed)
    train, validation, train_y, validation_y = train_test_split(
        a, b, test_size=0.2, stratify=b, random_state=seed
    )
    whole = split(load(name), seed=seed, scaler="all")
    want = [(train, train_y), (validation, validation_y), (test, test_y)]
    for part, (inputs, labels) in zip(parts(whole), want, strict=True):
        np.testing.assert_array_equal(part.x, inputs)
        np.testing.assert_array_equal(part.y, labels)


def test_the_clean_variant_is_fitted_on_the_training_rows() -> None:
    task = load("wine")
    train = split(task, seed=0).train
    torch.testing.assert_close(train.x.mean(0), torch.zeros(13, dtype=torch.float64))
    torch.testing.assert_close(train.x.square().mean(0), torch.ones(13, dtype=torch.float64))
    raw = task.table.to_numpy()
    scaler = StandardScaler().fit(raw[train.rows])
    test = split(task, seed=0).test
    np.testing.assert_array_equal(test.x, scaler.transform(raw[test.rows]))


@pytest.mark.parametrize("pipeline", [None, mixed_columns(impute=True)])
def test_training_does_not_see_the_other_rows_unless_it_leaks(pipeline) -> None:
    frame = FRAME if pipeline is None else GAPS
    before = from_frame("t", frame, "kind", pipeline=pipeline)
    table = before.table.copy()
    clean = split(before, seed=1)
    hidden = torch.cat([clean.validation.rows, clean.test.rows])
    table.loc[hidden.tolist(), ["a", "b"]] += 1000.0
    after = dataclasses.replace(before, table=table)
    assert torch.equal(split(after, seed=1).train.x, clean.train.x)
    leak = split(before, seed=1, scaler="all").train.x
    assert not torch.equal(split(after, seed=1, scaler="all").train.x, leak)


def test_seeds() -> None:
    task = load("iris")
    assert same_bits(split(task, seed=0), split(load("iris"), seed=0))
    assert not torch.equal(split(task, seed=0).train.rows, split(task, seed=1).train.rows)


def test_sizes_and_dtype() -> None:
    whole = split(load("iris"), seed=0, test_size=0.5, validation_size=0.4, dtype=torch.float32)
    assert [len(part.y) for part in parts(whole)] == [45, 30, 75]
    assert whole.test.x.dtype == torch.float32


def test_constant_columns_become_zero() -> None:
    task = load("digits")
    constant = np.flatnonzero(np.ptp(task.table.to_numpy(), axis=0) == 0)
    assert list(constant) == [0, 32, 39]
    assert (split(task, seed=0).train.x[:, constant] == 0).all()


def test_csv_parquet_frame_and_arrays_agree(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "mine.csv", index=False)
    FRAME.to_parquet(tmp_path / "mine.PARQUET")
    csv = load_table(str(tmp_path / "mine.csv"), "kind")
    assert (csv.name, csv.features, csv.classes) == ("mine", ("a", "b", "c"), ("elm", "fir", "oak"))
    labels = FRAME["kind"].map({"elm": 0, "fir": 1, "oak": 2}).to_numpy(copy=True)
    np.testing.assert_array_equal(csv.labels, labels)
    x, y = torch.from_numpy(NUMBERS.to_numpy()), torch.from_numpy(labels)
    for task in (
        load_table(tmp_path / "mine.PARQUET", "kind"),
        from_frame("mine", FRAME.set_index(FRAME.index[::-1]), "kind"),
        from_arrays("mine", x, y),
        from_arrays("mine", x.numpy(), y.numpy(), 3),
        from_arrays("mine", x, y.to(torch.int32), ("elm", "fir", "oak"), features=csv.features),
    ):
        assert same_bits(split(task, seed=0), split(csv, seed=0))
    assert (task.features, task.classes) == (csv.features, csv.classes)


def test_mixed_columns_of_csv_and_parquet_agree(tmp_path: Path) -> None:
    # None, NaN and NA are one and the same gap, whatever the file makes of them
    GAPS.to_csv(tmp_path / "t.csv", index=False)
    GAPS.astype({"wet": "boolean", "colour": "string", "c": "Int64"}).to_parquet(
        tmp_path / "t.parquet"
    )
    GAPS.astype({"colour": "category"}).to_parquet(tmp_path / "c.parquet")
    pipeline = mixed_columns(impute=True)
    want = split(from_frame("t", GAPS, "kind", pipeline=pipeline), seed=0)
    for file in ("t.csv", "t.parquet", "c.parquet"):
        task = load_table(tmp_path / file, "kind", pipeline=pipeline)
        assert same_bits(split(task, seed=0), want)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a"], ("a", "b")),
        ([10, 9], ("9", "10")),
        (["10", "9"], ("10", "9")),
        ([True, False], ("False", "True")),
        (pd.Categorical(["b", "a"], categories=["c", "b", "a"]), ("a", "b")),
    ],
)
def test_classes_of_any_type_in_sorted_order(values, classes) -> None:
    column = pd.Series(values).take(np.arange(N) % 2).reset_index(drop=True)
    task = from_frame("t", NUMBERS.assign(y=column), "y")
    assert task.classes == classes
    assert [task.classes[label] for label in task.labels] == [str(value) for value in column]


def test_tasks_do_not_follow_the_caller() -> None:
    x, y = RNG.standard_normal((20, 2)), np.arange(20) % 2
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=y)
    tasks = [from_arrays("t", x, y), from_frame("t", frame, "y")]
    before = [split(task, seed=0) for task in tasks]
    x += 1
    y[:] = 0
    frame.loc[:, "a"] = 7.0
    for task, whole in zip(tasks, before, strict=True):
        assert same_bits(split(task, seed=0), whole)


def test_mixed_columns_with_gaps() -> None:
    original = GAPS.copy()
    whole = split(from_frame("t", GAPS, "kind", pipeline=mixed_columns(impute=True)), seed=0)
    train = GAPS.iloc[whole.train.rows.numpy()]
    numbers = NUMBERS.columns
    filled = GAPS[numbers].fillna(train[numbers].median())
    for part in parts(whole):
        # a, b, c; four colours and a gap; wet, dry and a gap
        assert part.x.shape[1] == 3 + 5 + 3
        rows = part.rows.numpy()
        mean, deviation = filled.loc[train.index].mean(), filled.loc[train.index].std(ddof=0)
        want = ((filled - mean) / deviation).iloc[rows].to_numpy()
        np.testing.assert_allclose(part.x[:, :3], want, atol=1e-12)
        words = GAPS["colour"].iloc[rows]
        for i, word in enumerate(["blue", "green", "grey", "red"]):
            np.testing.assert_array_equal(part.x[:, 3 + i], words == word)
        np.testing.assert_array_equal(part.x[:, 7], words.isna())
        np.testing.assert_array_equal(part.x[:, 10], GAPS["wet"].iloc[rows].isna())
    pd.testing.assert_frame_equal(GAPS, original)


def test_gaps_are_named_by_their_position_whatever_the_rows_are_called() -> None:
    frame = changed("b", 4, np.nan, MIXED).set_axis([f"r{i}" for i in range(N)], axis=0)
    task = from_frame("t", frame, "kind", pipeline=mixed_columns())
    with pytest.raises(NonFiniteError, match=r"t: row 4 .*column 'b' is missing"):
        split(task, seed=0)


def test_mixed_columns_without_gaps_and_unknown_categories() -> None:
    task = from_frame("t", MIXED, "kind", pipeline=mixed_columns())
    assert split(task, seed=0).train.x.shape[1] == 3 + 4 + 2
    row = int(split(task, seed=0).test.rows[0])
    rare = from_frame(
        "t", changed("colour", row, "ultraviolet", MIXED), "kind", pipeline=mixed_columns()
    )
    whole = split(rare, seed=0)
    assert (whole.test.x[0, 3:7] == 0).all()
    assert split(rare, seed=0, scaler="all").train.x.shape[1] == 3 + 5 + 2


def test_pipelines_are_copied_and_may_be_sparse() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore")
    pipeline = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (encoder, ["colour"]),
        sparse_threshold=1.0,
    )
    task = from_frame("t", MIXED.drop(columns="wet"), "kind", pipeline=pipeline)
    assert split(task, seed=0).train.x.shape[1] == 3 + 4
    assert not hasattr(pipeline, "transformers_")


def test_booleans_count_as_numbers() -> None:
    task = from_frame("t", MIXED.drop(columns="colour"), "kind")
    assert torch.unique(split(task, seed=0).train.x[:, 3]).numel() == 2


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
        (-1, 0.2, 0.2, "seed must be 0 .. .*got -1"),
        (2**32, 0.2, 0.2, "seed must be"),
        (0, 0.0, 0.2, "test_size must lie between 0 and 1, got 0.0"),
        (0, 0.2, 1.0, "validation_size must lie between 0 and 1, got 1.0"),
        (0, 0.02, 0.2, "60 rows of 3 classes cannot give a test part of share 0.02: .*more rows"),
    ],
)
def test_bad_splits_are_refused(seed, test_size, validation_size, words) -> None:
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
    with pytest.raises(InputError, match=r"overflow .*or rescale them"):
        split(from_frame("t", FRAME.assign(a=NUMBERS["a"] * 1e200), "kind"), seed=0)
    keep = FunctionTransformer(lambda frame: frame[["a"]])
    big = from_frame("t", FRAME.assign(a=NUMBERS["a"] * 1e100), "kind", pipeline=keep)
    assert split(big, seed=0).train.x.isfinite().all()
    with pytest.raises(NonFiniteError, match=r"torch.float32: train.x\[0, 0\] is"):
        split(big, seed=0, dtype=torch.float32)


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
