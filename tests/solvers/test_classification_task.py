"""Tables with classes: how they are split and preprocessed, and what is refused before any work."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from solvers.errors import NonFiniteError
from solvers.tasks.classification import (
    from_arrays,
    from_frame,
    load,
    load_table,
    mixed_columns,
    split,
)
from tests.labelled import FRAME, GAPS, MIXED, NUMBERS, RNG, N, changed, parts, same_bits

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
