"""Tables: reading them, checking them, and turning columns into numbers.

Rows are counted from 0 in all messages. Preprocessing is scikit-learn's, fitted on chosen rows.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pyarrow.lib import ArrowException
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ..errors import InputError, NonFiniteError, ShapeError
from . import cells

EXACT = 2**53  # integers up to here are float64 numbers, all of them
INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
FAR = 256  # as a power of 2: the squares of farther ones may lie beyond float64, or be 0
SEPARATORS = (";", "\t", "|", ",", " ")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

NaValues = Sequence[str] | Mapping[str, Sequence[str]]


def read_csv(
    path: Path | str,
    *,
    sep: str = ",",
    encoding: str = "utf-8",
    decimal: str = ".",
    na_values: NaValues = (),
    categorical: Sequence[str] = (),
) -> pd.DataFrame:
    r"""Return the table in a CSV file whose first line names every column once.

    Nothing is guessed. Only an empty cell is missing: words such as NA, null or ? are words, unless
    `na_values` has them. Names and words keep their spaces.

    Args:
        path: of the file.
        sep: between cells: one character, or `r"\s+"` for any white space.
        encoding: of the text, a name that Python knows; a byte order mark is left out.
        decimal: "." or ",".
        na_values: what stands for a missing value, besides the empty cell; by column, if it is a
            mapping.
        categorical: columns that hold categories even if they look like numbers, such as zip codes;
            they keep their spelling.

    Raises:
        InputError: arguments that mean nothing, a file that cannot be read as such a table, a
            column that has no name or one that repeats (but for spaces around it), a row with
            too few or too many cells, an integer that float64 cannot hold.

    pandas alone would rename columns that repeat or have no name, would use the first column as row
    names where rows are longer than the header, and would fill up rows that are shorter: all lose
    or invent something.
    """
    path = Path(path)
    text = _text(path, encoding)
    names = _header(path, text, sep)
    missing = _missing_words(path, names, na_values)
    _check_known(f"{path}: categorical", names, categorical)
    if decimal not in (".", ",") or decimal == sep:
        raise InputError(f"decimal must be '.' or ',' and not sep, got {decimal!r}, sep={sep!r}")
    try:
        # In one piece: pandas infers types by chunk otherwise, and may mix them in a column.
        frame = pd.read_csv(
            StringIO(text),
            sep=sep,
            decimal=decimal,
            keep_default_na=False,
            na_values=missing,
            dtype=dict.fromkeys(categorical, str),
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise _unreadable(path, sep, error) from error
    if frame.iloc[:, -1].isna().any() and len(sep) == 1:
        _check_widths(path, text, sep, len(names))
    # A column with gaps or decimals is float64 already: what was lost shows only in the text.
    large = [
        column
        for column in frame.select_dtypes("float64")
        if np.isfinite(frame[column]).any() and (frame[column].abs() >= EXACT).any()
    ]
    if large:
        raw = pd.read_csv(StringIO(text), sep=sep, usecols=large, dtype=str, keep_default_na=False)
        for column in large:
            _check_digits(str(path), raw[column])
    return declared(str(path), frame, categorical)


def read_parquet(path: Path | str) -> pd.DataFrame:
    """Return the table in a Parquet file, without its row names if it has any.

    Raises:
        InputError: the file cannot be read as Parquet.
    """
    try:
        return pd.read_parquet(Path(path))
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read {path} as a Parquet table: {error}") from error


def declared(name: str, frame: pd.DataFrame, categorical: Sequence[str]) -> pd.DataFrame:
    """Return the table with some columns said to be categories.

    Raises:
        InputError: a column that is not there.
    """
    _check_known(f"{name}: categorical", [str(column) for column in frame.columns], categorical)
    return frame.astype(dict.fromkeys(categorical, "category"))


def column_names(path: Path | str, *, sep: str = ",", encoding: str = "utf-8") -> list[str]:
    """Return the names in the first line of a CSV file; arguments and errors as of `read_csv`."""
    return _header(Path(path), _text(Path(path), encoding), sep)


def _text(path: Path, encoding: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise InputError(
            f"no text encoding is called {encoding!r}: pass e.g. 'utf-8', 'latin-1', 'utf-16'"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not {encoding}: byte 0x{content[error.start]:02x} at offset {error.start} "
            f"({error.reason}): pass the encoding it was written in, e.g. "
            f"encoding={'utf-16' if content[:2] in UTF_16 else 'latin-1'!r}"
        ) from error
    if "\0" in text:
        raise InputError(
            f"{path} holds a zero character at position {text.index(chr(0))}, so it is no text in "
            f"{encoding}: pass the encoding it was written in, e.g. encoding='utf-16'"
        )
    return text


def _header(path: Path, text: str, sep: str) -> list[str]:
    if sep != r"\s+" and (len(sep) != 1 or sep in '"\r\n'):
        raise InputError(f"sep must be one character, or r'\\s+' for white space, got {sep!r}")
    names = _rows(path, text, sep, 1)[0]
    if len(names) == 1:
        (name,) = names
        others = [character for character in SEPARATORS if character != sep and character in name]
        advice = f"pass sep={others[0]!r}" if others else "pass the sep that it is written with"
        raise InputError(f"{path}: cut at {sep!r}, the header has one column, {name!r}: {advice}")
    # A second line that is longer than the header is an error, as it should be.
    _rows(path, text, sep, 2)
    for position, name in enumerate(names):
        if not name.strip():
            raise InputError(
                f"{path}: column {position} (counted from 0) has no name; if it holds row "
                f"numbers, write the file without them (index=False in pandas), else name it"
            )
    check_names(f"{path}: column", names)
    return names


def _rows(path: Path, text: str, sep: str, count: int) -> list[list[str]]:
    """Return the first lines as text."""
    try:
        table = pd.read_csv(
            StringIO(text), sep=sep, header=None, nrows=count, dtype=str, keep_default_na=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _unreadable(path, sep, error) from error
    return table.to_numpy().tolist()


def _unreadable(path: Path, sep: str, error: Exception) -> InputError:
    return InputError(
        f"cannot read {path} as a CSV table with a header: {str(error).strip()}; cells were cut at "
        f"{sep!r}: is that the sep?"
    )


def _missing_words(path: Path, names: list[str], na_values: NaValues) -> dict[str, list[str]]:
    if isinstance(na_values, str):
        raise InputError(f"na_values must be a list, got {na_values!r}: pass [{na_values!r}]")
    if isinstance(na_values, Mapping):
        _check_known(f"{path}: na_values", names, list(na_values))
        for column, words in na_values.items():
            if isinstance(words, str):
                raise InputError(f"na_values[{column!r}] must be a list, got {words!r}")
        return {name: ["", *na_values.get(name, ())] for name in names}
    return {name: ["", *na_values] for name in names}


def _check_known(what: str, names: list[str], columns: Sequence[str]) -> None:
    if isinstance(columns, str):
        raise InputError(f"{what} must be a list of columns, got {columns!r}: pass [{columns!r}]")
    unknown = [column for column in columns if column not in names]
    if unknown:
        raise InputError(f"{what} names {unknown}: pass some of {shorten(names)}")


def _check_widths(path: Path, text: str, sep: str, width: int) -> None:
    """Raise `InputError` naming the first row with fewer cells than the header has names."""
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=sep))
    except csv.Error as error:
        raise _unreadable(path, sep, error) from error
    filled = [row for row in rows if len(row) > 1 or any(cell.strip() for cell in row)]
    for number, row in enumerate(filled[1:]):
        if len(row) < width:
            raise InputError(
                f"{path}: row {number} (counted from 0) has {len(row)} cells, the header {width}: "
                f"is the file complete? Write missing values as empty cells"
            )


def check_exact(name: str, column: pd.Series) -> None:
    """Raise `InputError` naming the first integer of a column that float64 cannot hold."""
    types = pd.api.types
    # Beyond 64 bits they are Python's, in a column of objects.
    if types.is_integer_dtype(column.dtype) or (
        types.is_object_dtype(column.dtype) and types.infer_dtype(column) == "integer"
    ):
        present = column.dropna()
        if len(present) and (present.max() > EXACT or present.min() < -EXACT):
            _check_digits(name, column.astype(str))


def _check_digits(name: str, column: pd.Series) -> None:
    for row, cell in enumerate(column):
        if INTEGER.fullmatch(cell) and Decimal(cell.strip()) != Decimal(nearest := float(cell)):
            raise InputError(
                f"{name}: column {column.name!r}, row {row} (counted from 0) is {cell.strip()}, "
                f"which float64 would take for {nearest:.0f}: numbers beyond 2**53 lose digits; "
                f"drop the column if it names rows, else subtract an offset or make it text"
            )


def check_names(what: str, names: list[str]) -> None:
    """Raise `InputError` if a name repeats, but for spaces; `what` says whose, for the message."""
    repeated = [name for name, times in Counter(map(str.strip, names)).items() if times > 1]
    if repeated:
        raise InputError(f"{what} names repeat: {repeated}; rename them so that each is unique")


def check_numeric(name: str, frame: pd.DataFrame, remedy: str) -> None:
    """Raise `InputError` naming the first column that holds no real numbers or booleans."""
    for column, kind in zip(frame.columns, frame.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
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


def declare(column: str) -> str:
    """Return how to say that a column holds categories, for messages."""
    return (
        f"if it holds categories, pass categorical=[{column!r}] where the file is read, or "
        f"frame.astype({{{column!r}: 'category'}})"
    )


def check_inputs(name: str, inputs: pd.DataFrame, pipeline: BaseEstimator | None) -> None:
    """Raise unless the input columns are ones that `preprocess` can take.

    Raises:
        InputError: no columns, no rows, a column without any value, of a kind that is neither
            numbers nor categories, of text that looks like numbers (see `cells`), of integers that
            float64 cannot hold, or not numeric though there is no pipeline.
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
        check_exact(name, inputs[column])
        cells.check_kinds(name, inputs[column])
        cells.check_bad_cells(name, inputs[column], declare(column))
        cells.check_numbers_as_text(name, inputs[column], declare(column))
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
        InputError: strings and numbers in one column, or numbers with bad cells (see `cells`).
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
            f"the rows; if na_values made it so, say which columns they are for, "
            f"na_values={{'column': [...]}}"
        )
    cells.check_kinds(name, column)
    cells.check_bad_cells(name, column, declare(str(column.name)))
    try:
        values, labels = np.unique(column.to_numpy(dtype=object), return_inverse=True)
    except TypeError as error:  # an object column may hold strings and numbers at once
        raise InputError(
            f"{name}: the classes in column {column.name!r} cannot be sorted ({error}): make them "
            f"all strings or all numbers"
        ) from error
    return labels, tuple(map(str, values))


class OwnUnits(TransformerMixin, BaseEstimator):
    """Columns near the ends of float64 in units of a power of two, whose squares stay within it.

    Standardising them afterwards gives what exact arithmetic does; others stay as they are.
    """

    def fit(self, X: pd.DataFrame | np.ndarray, y: object = None) -> OwnUnits:
        """Take the powers from the rows `X`."""
        values = np.asarray(X, dtype=np.float64)
        exponents = np.frexp(np.abs(values).max(0))[1]
        far = (np.abs(exponents) > FAR) & (np.ptp(values, axis=0) > 0)
        self.exponents_ = np.where(far, exponents, 0)
        return self

    def transform(self, X: pd.DataFrame | np.ndarray) -> pd.DataFrame | np.ndarray:
        """Return the rows in these units."""
        if not self.exponents_.any():
            return X
        return np.ldexp(np.asarray(X, dtype=np.float64), -self.exponents_)


def _standardise() -> tuple[BaseEstimator, BaseEstimator]:
    return OwnUnits(), StandardScaler()


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
                make_pipeline(numbers, *_standardise()),
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
            fresh = make_pipeline(*_standardise()) if pipeline is None else clone(pipeline)
            fitted = fresh.fit(take(fitted_on))
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
