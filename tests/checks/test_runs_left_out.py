"""Runs that did not converge: counted once each, named, and left out; others stay."""

from itertools import product

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paper_checks.claims.theory import numerics
from paper_checks.claims.theory.numerics import SearchError
from paper_checks.experiments.convergence import arrived, not_converged

ENDS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3)),
    st.sampled_from([True, False, None]),
    min_size=1,
)


def table(ends: dict[tuple[str, int], bool | None], steps: int) -> pd.DataFrame:
    """Return a row per run and step."""
    rows = [
        {"arm": arm, "start": start, "step": step, "converged": converged}
        for ((arm, start), converged), step in product(ends.items(), range(steps))
    ]
    return pd.DataFrame(rows).astype({"converged": "boolean"})


@pytest.mark.gate
@given(ends=ENDS, steps=st.integers(1, 3))
def test_every_run_is_counted_once_and_the_right_ones_stay(ends, steps) -> None:
    rows = table(ends, steps)
    left = arrived(rows)
    kept = {run for run, converged in ends.items() if converged is not False}
    assert set(zip(left.arm, left.start, strict=True)) == kept
    assert len(left) == steps * len(kept)
    said = not_converged(rows, ["arm", "start"], ["arm"])
    judged = [converged for converged in ends.values() if converged is not None]
    failed = judged.count(False)
    assert (said == "") == (failed == 0)
    if failed:
        assert said.startswith(f" {failed} of {len(judged)} runs did not converge: ")
        assert said.endswith(". They are left out.")
    for arm in "abc":
        count = sum(name == arm and ends[name, k] is False for name, k in ends)
        assert (f"{arm} ({count})" in said) == (count > 0)


def test_a_run_converged_if_all_its_rows_did() -> None:
    rows = table({("a", 0): True, ("a", 1): True}, 2)
    rows.loc[0, "converged"] = False
    assert " 1 of 2 runs did not converge: a (1)." in not_converged(rows, ["arm", "start"], ["arm"])


def test_runs_without_a_start_are_runs() -> None:
    rows = pd.DataFrame({"arm": ["a", "a"], "start": [float("nan"), 1], "converged": [False, True]})
    assert " 1 of 2 runs did not converge: a (1)." in not_converged(rows, ["arm", "start"], ["arm"])


@pytest.mark.gate
@given(scale=st.floats(-12, 12), unit=st.floats(-3, 3))
def test_a_maximum_is_one_in_any_units(scale: float, unit: float) -> None:
    end = torch.tensor([1.0, -2.0], dtype=torch.float64) * 10**unit

    def f(theta: Tensor) -> Tensor:
        return -(10**scale) * ((theta - end) / 10**unit).square().sum()

    theta = numerics.maximise(f, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(theta, end, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "f",
    [
        lambda theta: theta.exp().sum(),
        lambda theta: theta[0] ** 2 - theta[1] ** 2,
        lambda theta: (theta**3).sum() * float("nan"),
    ],
)
def test_what_is_no_maximum_is_an_error(f) -> None:
    with pytest.raises((SearchError, RuntimeError)):
        numerics.maximise(f, torch.zeros(2, dtype=torch.float64))
