"""Tables: reading them, checking them, and turning columns into numbers.

Rows are counted from 0 in all messages. Preprocessing is scikit-learn's, fitted on chosen rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pyarrow.lib import ArrowException
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from solvers.errors import InputError, NonFiniteError, ShapeError


def read(path: Path) -> pd.DataFrame:
    """Return the table in a `.csv` or `.parquet` file.

    Raises:
        InputError: another suffix, or as `read_csv` and `read_parquet`.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path)
    if suffix == ".parquet":
        return read_parquet(path)
    raise InputError(f"{path} ends in {suffix!r}: pass a .csv or a .parquet file")


def read_csv(path: Path) -> pd.DataFrame:
    """Return the table in a CSV file whose first line names every column once.

    pandas alone would rename columns that repeat or have no name, and would use the first column
    as row names where rows are longer than the header: all three lose or invent a column.

    Raises:
        InputError: the file cannot be read as CSV, or a column has no name or one that repeats.
    """
    try:
        # Two lines: a second one that is longer than the header is an error, as it should be.
        header = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
        # In one piece: pandas infers types by chunk otherwise, and may mix them in a column.
        frame = pd.read_csv(path, low_memory=False)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as a CSV table with a header: {error}") from error
    names = [str(name) for name in header.iloc[0]]
    for position, name in enumerate(names):
        if not name.strip():
            raise InputError(
                f"{path}: column {position} (counted from 0) has no name; if it holds row "
                f"numbers, write the file without them (index=False in pandas), else name it"
            )
    check_names(f"{path}: column", names)
    return frame


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the table in a Parquet file, without its row names if it has any.

    Raises:
        InputError: the file cannot be read as Parquet.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read {path} as a Parquet table: {error}") from error


def check_names(what: str, names: list[str]) -> None:
    """Raise `InputError` if one of the names repeats; `what` says whose, for the message."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(f"{what} names repeat: {repeated}; rename them so that each is unique")


def check_numeric(name: str, frame: pd.DataFrame, remedy: str) -> None:
    """Raise `InputError` naming the first column that holds no numbers or booleans."""
    for column, kind in zip(frame.columns, frame.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(kind):
            example = f" (e.g. {frame[column].iloc[0]!r})" if len(frame) else ""
            raise InputError(f"{name}: column {column!r} is not numeric{example}: {remedy}")


def check_finite_table(name: str, values: np.ndarray, columns: list[str], remedy: str) -> None:
    """Raise `NonFiniteError` naming the first entry of `(N, d)` values that is NaN or infinite."""
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise NonFiniteError(
            f"{name}: row {row} (counted from 0), column {columns[column]!r} is "
            f"{values[row, column]} ({int(bad.sum())} such entries): {remedy}"
        )


def shorten(words: list[str]) -> str:
    """Return the list as text, the first 20 words if there are more."""
    return str(words) if len(words) <= 20 else f"{words[:20]} and {len(words) - 20} more"


def check_inputs(name: str, inputs: pd.DataFrame, pipeline: BaseEstimator | None) -> None:
    """Raise unless the input columns are ones that `preprocess` can take.

    Raises:
        InputError: no columns, no rows, a column without any value, of a kind that is neither
            numbers nor categories, or not numeric though there is no pipeline.
        NonFiniteError: infinity, or, without a pipeline, a missing value.
    """
    if inputs.shape[1] == 0:
        raise InputError(f"{name}: no columns to predict from: pass a table with inputs")
    if len(inputs) == 0:
        raise InputError(f"{name} is empty: pass a table with rows")
    for column, kind in zip(inputs.columns, inputs.dtypes, strict=True):
        if not _is_usable(kind):
            raise InputError(
                f"{name}: column {column!r} holds {kind}, neither real numbers nor categories: "
                f"convert it to numbers or strings, or drop it"
            )
        if inputs[column].isna().all():
            raise InputError(f"{name}: column {column!r} has no value in any row: drop it")
    numeric = inputs
    remedy = (
        "correct or drop what is infinite; impute what is missing through a pipeline: "
        "from_frame or load_table with pipeline=mixed_columns(impute=True)"
    )
    if pipeline is None:
        check_numeric(name, inputs, "pass pipeline=mixed_columns(), or drop it")
    else:  # may impute what is missing, but infinity is a value, and wrong
        numeric = inputs.select_dtypes("number").fillna(0)
        remedy = "correct or drop it"
    values = numeric.to_numpy(dtype=np.float64, na_value=np.nan)
    check_finite_table(name, values, list(numeric.columns), remedy)


def encode(name: str, column: pd.Series) -> tuple[Int[np.ndarray, "N"], tuple[str, ...]]:
    """Return labels `0 .. C-1` of a column of classes, and the names of the classes, sorted.

    Raises:
        InputError: strings and numbers in one column.
        NonFiniteError: a class is missing or infinite.
    """
    missing = column.isna().to_numpy()
    if pd.api.types.is_float_dtype(column.dtype):
        missing = missing | np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if missing.any():
        row = int(np.argmax(missing))
        raise NonFiniteError(
            f"{name}: row {row} (counted from 0) of the target column {column.name!r} is "
            f"{column.iloc[row]} ({int(missing.sum())} such rows): a class cannot be imputed, drop "
            f"the rows"
        )
    try:
        values, labels = np.unique(column.to_numpy(dtype=object), return_inverse=True)
    except TypeError as error:  # an object column may hold strings and numbers at once
        raise InputError(
            f"{name}: the classes in column {column.name!r} cannot be sorted ({error}): make them "
            f"all strings or all numbers"
        ) from error
    return labels, tuple(map(str, values))


def mixed_columns(*, impute: bool = False) -> ColumnTransformer:
    """Return a pipeline for tables of numbers and words.

    Numeric columns are standardised; all others become one 0/1 column per category, all 0 for a
    category that the fitted rows do not have.

    Args:
        impute: replace missing numbers by the median of the fitted rows, and make a missing
            category one of its own. Otherwise missing values are refused when splitting.
    """
    numbers = SimpleImputer(strategy="median") if impute else FunctionTransformer(_complete)
    categories = FunctionTransformer(_one_missing_value if impute else _complete)
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(numbers, StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            (
                "categories",
                make_pipeline(categories, encode),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )


def preprocess(
    name: str,
    pipeline: BaseEstimator | None,
    table: pd.DataFrame,
    fitted_on: Int[np.ndarray, "M"],
    parts: Mapping[str, Int[np.ndarray, "_"]],
) -> dict[str, Float[np.ndarray, "_ d"]]:
    """Return the preprocessed rows of every part, by a pipeline fitted on the rows `fitted_on`.

    Args:
        name: of the table, for messages.
        pipeline: is copied, not fitted itself; None standardises. A column that is constant in
            the fitted rows becomes 0 there.
        table: the input columns.
        fitted_on: row numbers.
        parts: row numbers of each part.

    Raises:
        InputError: the pipeline fails.
        ShapeError: it returns other than one row for each row, or parts of different widths.
        NonFiniteError: it returns NaN or infinity.
    """
    # Numbers go in as one C-ordered array: another order of summation moves the last bits.
    numbers = None
    if pipeline is None:
        numbers = np.ascontiguousarray(table.to_numpy(dtype=np.float64))

    def take(rows: Int[np.ndarray, "_"]) -> np.ndarray | pd.DataFrame:
        return table.iloc[rows] if numbers is None else numbers[rows]

    outputs: dict[str, np.ndarray] = {}
    try:
        with np.errstate(over="raise"):  # else a variance that overflows makes a column 0
            fitted = clone(StandardScaler() if pipeline is None else pipeline).fit(take(fitted_on))
            for part, rows in parts.items():
                output = fitted.transform(take(rows))
                dense = output.toarray() if sparse.issparse(output) else output
                outputs[part] = np.array(dense, dtype=np.float64)
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    except (ValueError, TypeError, AttributeError, FloatingPointError) as error:
        raise InputError(
            f"{name}: preprocessing failed: {error}; pass a scikit-learn transformer that takes "
            f"the columns {list(table.columns[:20])}, e.g. mixed_columns(), or rescale them"
        ) from error
    shapes = {part: output.shape for part, output in outputs.items()}
    for part, output in outputs.items():
        _check_shape(name, part, shapes, len(parts[part]))
        bad = np.argwhere(~np.isfinite(output))
        if len(bad):
            row, column = bad[0]
            raise NonFiniteError(
                f"{name}: row {parts[part][row]} (counted from 0), output column {column} of the "
                f"pipeline is {output[row, column]} ({len(bad)} such entries in {part}): let it "
                f"impute, e.g. mixed_columns(impute=True)"
            )
    return outputs


def _check_shape(name: str, part: str, shapes: Mapping[str, tuple[int, ...]], rows: int) -> None:
    widths = {shape[1:] for shape in shapes.values()}
    if len(shapes[part]) != 2 or shapes[part][0] != rows or len(widths) != 1 or widths == {(0,)}:
        raise ShapeError(
            f"{name}: the pipeline returns {dict(shapes)} for {rows} rows of {part}: it must "
            f"return a matrix with one row for each row and the same columns for every part"
        )


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise NonFiniteError(
            f"row {frame.index[row]} (counted from 0), column {frame.columns[column]!r} is "
            f"missing: pass mixed_columns(impute=True), or drop the row or the column"
        )
    return frame


def _one_missing_value(frame: pd.DataFrame) -> np.ndarray:
    # None, NaN and NA would become three categories, or none that the encoder takes
    return frame.to_numpy(dtype=object, na_value=np.nan)


def _is_usable(kind: object) -> bool:
    types = pd.api.types
    if types.is_complex_dtype(kind):
        return False
    return (
        types.is_numeric_dtype(kind)
        or types.is_string_dtype(kind)
        or types.is_object_dtype(kind)
        or isinstance(kind, pd.CategoricalDtype)
    )
