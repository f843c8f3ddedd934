"""Tables of numbers: what is read, and what is refused before any work."""

from pathlib import Path

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch

from solvers.errors import InputError, NonFiniteError
from solvers.tasks import regression

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.standard_normal((12, 4)) * [1, 10, 1e3, 1e-3] + 5, columns=list("abcd"))

NULLABLE = pd.array([5, 1, 2, None, *range(8)], dtype="Int64")


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    frame = FRAME.astype({column: object}) if isinstance(value, str) else FRAME.copy()
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("name", "rows", "features", "n"), [("diabetes", 442, 10, 1), ("linnerud", 20, 3, 3)]
)
def test_tables_that_come_with_scikit_learn(name, rows, features, n) -> None:
    task = regression.load(name)
    assert task.data.x.shape == (rows, features)
    assert task.data.y.shape == (rows, 1, n)
    assert task.data.x.dtype == torch.float64
    for columns in (task.data.x, task.data.mean):
        torch.testing.assert_close(columns.mean(0), torch.zeros_like(columns[0]))
        torch.testing.assert_close(columns.square().mean(0), torch.ones_like(columns[0]))


def test_some_of_the_outcomes() -> None:
    task = regression.load("linnerud", ("Pulse", "Weight"))
    assert task.targets == ("Pulse", "Weight")
    assert task.features == ("Chins", "Situps", "Jumps")
    everything = regression.load("linnerud")
    assert torch.equal(task.data.mean[:, 0], everything.data.mean[:, 2])


def test_csv_gives_the_same_task_as_the_frame(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    FRAME.to_csv(path, index=False)
    task = regression.load_csv(path, ("b", "d"))
    assert (task.name, task.features, task.targets) == ("mine", ("a", "c"), ("b", "d"))
    frame = regression.from_frame("mine", FRAME, ("b", "d"))
    torch.testing.assert_close(task.data.y, frame.data.y)
    want = (FRAME["c"] - FRAME["c"].mean()) / FRAME["c"].std(ddof=0)
    np.testing.assert_allclose(task.data.x[:, 1], want)


def test_units_do_not_matter_even_extreme_ones() -> None:
    scaled = regression.from_frame("t", FRAME * [1e200, 1, 1e-150, 1], ("b",))
    torch.testing.assert_close(scaled.data.x, regression.from_frame("t", FRAME, ("b",)).data.x)


@pytest.mark.parametrize(
    ("frame", "targets", "error", "words"),
    [
        (FRAME, ("z",), InputError, r"\['z'\] are not there"),
        (FRAME, (), InputError, "must name some, not all"),
        (FRAME, tuple("abcd"), InputError, "must name some, not all"),
        (FRAME, ("a", "a"), InputError, "repeat"),
        (changed("c", 3, float("nan")), ("a",), NonFiniteError, r"row 3 .*column 'c' is nan"),
        (changed("b", 0, float("inf")), ("a",), NonFiniteError, r"row 0 .*column 'b' is inf"),
        (changed("b", 0, "red"), ("a",), InputError, r"'b' holds numbers, but 'red' in row 0"),
        (FRAME.assign(b="red"), ("a",), InputError, r"column 'b' is not numeric \(e.g. 'red'\)"),
        (FRAME.assign(b=1j), ("a",), InputError, "column 'b' is not numeric"),
        (FRAME.assign(b=NULLABLE), ("a",), NonFiniteError, "row 3 .*column 'b' is nan"),
        (FRAME.rename(columns={"b": " a"}), ("c",), InputError, r"column names repeat: \['a'\]"),
        (FRAME.assign(b=7.0), ("a",), InputError, r"column 'b' is 7.0 in all 12 rows: drop it"),
        (FRAME.head(4), ("a",), InputError, r"4 rows for 3 features and 1 targets"),
        (FRAME.head(0), ("a",), InputError, "is empty"),
    ],
)
def test_bad_tables_are_refused(frame, targets, error, words) -> None:
    with pytest.raises(error, match=words):
        regression.from_frame("mine", frame, targets)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for name, content in [("empty.csv", b""), ("ragged.csv", b"a,b\n1,2\n1,2,3,4\n")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"cannot read .*{name} as a CSV table"):
            regression.load_csv(tmp_path / name, ("a",))


def test_unknown_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # as users run, without the type checks of conftest.py, which would speak up first
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match="pass 'diabetes' or 'linnerud'"):
        regression.load("iris")  # pyright: ignore[reportArgumentType]
