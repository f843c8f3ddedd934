"""Cells that are no numbers among numbers: refused by name. Categories: left alone."""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from paper_checks.experiments import wrong_covariance
from solvers.errors import InputError, NonFiniteError
from solvers.tasks import cells, classification, regression, tables
from solvers.tasks.classification import mixed_columns

N = 100
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 2)).round(3)
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": (X[:, 0] > 0).astype(int)})
NUMBERS = [f"{value:.3f}" for value in X[:, 0]]
IMPUTE = mixed_columns(impute=True)
OTHER_NOTATION = ["1,5", "1,234.5", "1.234,5", "$5", "3 €", "8 %", "1 234", "1'000", "(12)", "−5"]
NO_NUMBERS = ["?", "-", "n/a", "NA", "nan", "12 kg", " ", "#N/A", "", "None", "1.2.3", "0x10", "<5"]

bad_cells = st.sampled_from([cell for cell in OTHER_NOTATION + NO_NUMBERS if cell]) | st.text(
    st.characters(exclude_categories=["N"]), min_size=1
)
columns = st.lists(st.floats(-1e9, 1e9) | st.integers(-(2**53), 2**53), min_size=5, max_size=40)


def width(column: Sequence[object] | pd.Categorical) -> int:
    """Return the number of columns that a column is made into."""
    frame = FRAME[["b", "y"]].assign(z=column)
    task = classification.from_frame("t", frame, "y", pipeline=IMPUTE)
    return classification.split(task, seed=0).train.x.shape[1] - 1


@pytest.mark.gate
@given(numbers=columns, bad=bad_cells, position=st.integers(min_value=0), as_text=st.booleans())
def test_one_bad_cell_among_numbers_is_named(numbers, bad, position, as_text) -> None:
    row = position % len(numbers)
    column: list[object] = [str(number) if as_text else number for number in numbers]
    column[row] = bad
    distinct = len(set(column))
    frame = pd.DataFrame({"z": pd.Series(column, dtype=object), "y": 0.0})
    with pytest.raises(InputError) as raised:
        regression.from_frame("mine", frame, ("y",))
    message = str(raised.value)
    assert "mine: column 'z'" in message
    if distinct > 2 or len(numbers) > 10:  # else as many words as numbers
        assert f"{bad!r} in row {row} (counted from 0) is none (1 of {len(column)} " in message


@given(
    words=st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, max_size=9),
    digits=st.booleans(),
)
def test_words_and_codes_are_categories(words, digits) -> None:
    column = pd.Series([word + "1" * digits for word in words])
    cells.check_kinds("t", column)
    cells.check_bad_cells("t", column, "")
    cells.check_numbers_as_text("t", column, "")


@pytest.mark.parametrize(
    ("column", "categories"),
    [
        ([f"A{i % 4}" for i in range(N)], 4),
        (["1st", "2nd", "3rd", "4th"] * 25, 4),
        (["0-17", "18-25", "26-35", "36+"] * 25, 4),
        (["low", "high", "10", "?"] * 25, 4),
        ([str(i % 7 + 1) for i in range(N)], 7),
        ([True, False] * 50, 2),
        ([True, None] * 50, 2),
        (pd.Categorical(["0", "1", "2", "3+"] * 25), 4),
        (pd.Categorical(NUMBERS), len(set(NUMBERS))),
    ],
)
def test_categories_become_a_column_each(column, categories) -> None:
    assert width(column) <= categories  # some are in no row of training
    assert width(column) >= min(categories, 50)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        *(
            ([bad, *NUMBERS[1:]], f"'{cell}' in row 0 .*1 of 100")
            for bad, cell in [("?", r"\?"), (" ", " ")]
        ),
        ([*NUMBERS[:60], *["?"] * 40], r"'\?' in row 60 .*40 of 100 .*na_values=\['\?'\]"),
        (["1", "0"] * 48 + ["?", "-", "x", " "], r"'\?' in row 96 .*4 of 100"),
        (["0", "1", "2", "3+"] * 25, r"'3\+' in row 3 .*25 of .*categorical=\['z'\] .*'category'"),
        ([text.replace(".", ",") for text in NUMBERS], r"100 of 100 .*pass decimal=','"),
        ([f"{text} EUR" for text in NUMBERS], "write it as a plain number"),
        ([f"{text} kg" for text in NUMBERS], "text that begins like numbers"),
        (NUMBERS, r"text that begins like numbers, .* in row 0 .* make it numbers"),
        ([f"2020-01-{i % 28 + 1:02}" for i in range(N)], "28 different cells in 100 rows"),
        ([1, 2, None, 4] * 25, "numbers as Python objects, e.g. 1"),
        ([Decimal(i % 5) for i in range(N)], "numbers as Python objects"),
        ([2**64 + 1, 1] * 50, "row 0 .* is 18446744073709551617, which float64 would"),
        ([date(2020, 1, 1)] * N, r"holds date in row 0 .*convert it, or drop"),
        ([b"a"] * N, "holds bytes in row 0"),
        ([[1]] * N, "holds list in row 0"),
        ([1j, "a"] * 50, "holds complex in row 0"),
    ],
)
def test_what_looks_like_numbers_is_refused(column, words) -> None:
    with pytest.raises(InputError, match=f"t: column 'z'.*{words}"):
        width(pd.Series(column, dtype=object))


@pytest.mark.parametrize("cell", [[1], {"a": 1}, date(2020, 1, 1), b"a", 1j])
def test_cells_that_are_nothing_of_the_kind_are_named(cell) -> None:
    for column in ("z", "y"):
        frame = FRAME.assign(z=0.0).astype({column: object})
        frame.at[3, column] = cell
        words = f"column '{column}' holds {type(cell).__name__} in row 3"
        with pytest.raises(InputError, match=words):
            regression.from_frame("t", frame, ("y",))
        with pytest.raises(InputError, match=words):
            classification.from_frame("t", frame, "y", pipeline=IMPUTE)


def write(path: Path, frame: pd.DataFrame, **cells_of: object) -> Path:
    text = frame.astype(str)
    for column, cell in cells_of.items():
        text.loc[7, column] = cell
    text.to_csv(path, index=False)
    return path


def test_a_question_mark_costs_no_accuracy(tmp_path: Path) -> None:
    def accuracy(cell: str, na_values: list[str]) -> float:
        path = write(tmp_path / "t.csv", FRAME, a=cell)
        task = classification.load_table(path, "y", pipeline=IMPUTE, na_values=na_values)
        whole = classification.split(task, seed=0)
        assert whole.train.x.shape[1] == 2
        fit = LogisticRegression().fit(whole.train.x.numpy(), whole.train.y.numpy())
        return fit.score(whole.test.x.numpy(), whole.test.y.numpy())

    assert accuracy("?", ["?"]) == accuracy("", []) > 0.8
    with pytest.raises(InputError, match=r"t: column 'a' .*'\?' in row 7 .*na_values=\['\?'\]"):
        accuracy("?", [])


READERS: dict[str, Callable[[Path], object]] = {
    "classification": lambda path: classification.load_table(path, "y", pipeline=IMPUTE),
    "without a pipeline": lambda path: classification.load_table(path, "y"),
    "regression": lambda path: regression.load_csv(path, ("y",)),
    "wrong-covariance": lambda path: wrong_covariance.tasks(
        wrong_covariance.Settings(data=path, targets=("y",))
    ),
}


@pytest.mark.parametrize("column", ["a", "y"])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_the_cell(reader, column, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", FRAME, **{column: "n/a"})
    with pytest.raises(InputError, match=f"mine: column '{column}' .*'n/a' in row 7 .*1 of 100"):
        READERS[reader](path)


def test_parquet_names_the_cell_and_takes_categories(tmp_path: Path) -> None:
    frame = FRAME.assign(zip=["01234", "1", "2", "n/a"] * 25)
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t: column 'zip' .*'n/a' in row 3 .*25 of 100"):
        classification.load_table(tmp_path / "t.parquet", "y", pipeline=IMPUTE)
    classification.load_table(tmp_path / "t.parquet", "y", pipeline=IMPUTE, categorical=["zip"])
    with pytest.raises(InputError, match="of CSV files"):
        classification.load_table(tmp_path / "t.parquet", "y", na_values=["n/a"])
    with pytest.raises(InputError, match=r"categorical names \['zap'\]: pass some of \['a', "):
        classification.load_table(tmp_path / "t.parquet", "y", categorical=["zap"])


def test_words_for_missing_are_classes_of_the_target(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    names = ["NA", "None", "null", "EU"]
    path.write_text("a,y\n" + "".join(f"{i},{names[i % 4]}\n" for i in range(40)))
    assert classification.load_table(path, "y").classes == ("EU", "NA", "None", "null")
    with pytest.raises(NonFiniteError, match=r"row 0 .*'y' is nan .*na_values=\{'column'"):
        classification.load_table(path, "y", na_values=["NA"])
    path.write_text(path.read_text().replace("\n1,", "\nNA,"))
    task = classification.load_table(path, "y", na_values={"a": ["NA"]}, pipeline=IMPUTE)
    assert task.classes == ("EU", "NA", "None", "null")
    assert np.flatnonzero(task.table["a"].isna()).tolist() == [1]


def test_categories_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("zip,a,y\n" + "".join(f"0{i % 3},{i},{i % 2}\n" for i in range(40)))
    frame = tables.read_csv(path, categorical=["zip", "y"])
    assert sorted(frame["zip"].unique()) == ["00", "01", "02"]
    assert frame.dtypes[["zip", "y"]].map(str).tolist() == ["category", "category"]
    task = classification.load_table(path, "y", pipeline=IMPUTE, categorical=["zip"])
    assert classification.split(task, seed=0).train.x.shape[1] == 3 + 1


def test_european_files(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    FRAME.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-16")
    frame = tables.read_csv(path, sep=";", decimal=",", encoding="utf-16")
    pd.testing.assert_frame_equal(frame, FRAME, check_exact=True)
    task = regression.load_csv(path, ("y",), sep=";", decimal=",", encoding="utf-16")
    assert task.features == ("a", "b")


@given(sep=st.sampled_from([",", ";", "\t", "|"]), encoding=st.sampled_from(["utf-8", "utf-16"]))
def test_what_pandas_writes_is_read_back_exactly(tmp_path_factory, sep, encoding) -> None:
    path = tmp_path_factory.mktemp("t") / "Größe ü.csv"
    names = ["a, b", " µ$x$", 'say "x"', "two\nlines"]
    frame = FRAME.assign(w="a;b,c\t|").set_axis(names, axis=1)
    frame.to_csv(path, index=False, sep=sep, encoding=encoding)
    pd.testing.assert_frame_equal(
        tables.read_csv(str(path), sep=sep, encoding=encoding), frame, check_exact=True
    )


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"a;b\n1,5;2\n", {}, r"cut at ',', the header has one column, 'a;b': pass sep=';'"),
        (b"a\tb\n1\t2\n", {}, r"one column, 'a\\tb': pass sep='\\t'"),
        (b"a;b,c;d\n1,5;2,5;3\n", {}, "cannot read .*cut at ',': is that the sep"),
        (b'a,b\n"1,2\n', {}, "cannot read .*EOF inside string"),
        (b"a\n1\n", {}, "one column, 'a': pass the sep that it is written with"),
        (b"a,b\n1,2\n", {"sep": ""}, "sep must be one character, .*got ''"),
        (b"a,b\n1,2\n", {"sep": "||"}, r"sep must be one character, .*got '\|\|'"),
        (b"a,b\n1,2\n", {"decimal": ","}, r"decimal must be .*got ',', sep=','"),
        ("a,é\n1,2\n".encode("latin-1"), {}, "not utf-8: byte 0xe9 at offset 2 .*'latin-1'"),
        ("a,b\n1,2\n".encode("utf-16"), {}, "not utf-8: byte 0xff at offset 0 .*'utf-16'"),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, "zero character at position 1, .*utf-16"),
        (b"a,b\n1,2\n", {"encoding": "utf8x"}, "no text encoding is called 'utf8x'"),
        (b"a,b\n1,2\n", {"na_values": "?"}, r"na_values must be a list, got '\?': pass"),
        (b"a,b\n1,2\n", {"na_values": {"c": ["?"]}}, r"na_values names \['c'\]: pass some of"),
        (b"a,b\n1,2\n", {"na_values": {"a": "?"}}, r"na_values\['a'\] must be a list, got"),
        (b"a,b\n1,2\n", {"categorical": "a"}, r"categorical must be a list of columns, got 'a'"),
        (b"a, a\n1,2\n", {}, r"column names repeat: \['a'\]"),
        (b"a,b\n1,2\n3\n", {}, "row 1 .* has 1 cells, the header 2: is the file complete"),
        (b"a,b\n9007199254740993,1\n,2\n", {}, "'a', row 0 .* is 9007199254740993, which float64"),
        (b"a,b\n1.5,1\n-9007199254740993,2\n", {}, "'a', row 1 .* is -9007199254740993, which"),
    ],
)
def test_files_that_are_written_in_another_way(content, options, words, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        tables.read_csv(tmp_path / "t.csv", **options)


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n\r\n", b'\xef\xbb\xbf"a",b\n1,2', b"a,b\n1,2\n  \n\n"],
)
def test_byte_order_marks_line_ends_and_blank_lines(content, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    frame = tables.read_csv(tmp_path / "t.csv")
    assert (frame.columns.tolist(), frame.to_numpy().tolist()) == (["a", "b"], [[1, 2]])


def test_white_space_between_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a b\n1    2\n3 4\n")
    assert tables.read_csv(tmp_path / "t.csv", sep=r"\s+").to_numpy().tolist() == [[1, 2], [3, 4]]


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n")
    with pytest.raises(InputError, match="t is empty: pass a table with rows"):
        classification.load_table(tmp_path / "t.csv", "y")
    with pytest.raises(InputError, match="t is empty: pass a table with rows"):
        regression.load_csv(tmp_path / "t.csv", ("y",))


@pytest.mark.gate
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_integers_pass_exactly_when_float64_holds_them(value) -> None:
    column = pd.Series([0, value], name="a")
    if int(float(value)) == value:
        tables.check_exact("t", column)
        return
    with pytest.raises(InputError, match=f"t: column 'a', row 1 .* is {value}, which"):
        tables.check_exact("t", column)


def test_integers_in_arrays(tmp_path: Path) -> None:
    x, y = np.full((9, 2), 2**53), np.arange(9) % 3
    classification.from_arrays("t", x, y)
    x[4, 1] += 1
    with pytest.raises(InputError, match=r"'x1', row 4 .* is 9007199254740993, which"):
        classification.from_arrays("t", x, y)
