"""The comparisons fail when they should, and say what they compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.tolerances import (
    CLOSED_FORM,
    Z_MAX,
    agree,
    agree_on_average,
    closed_form,
)


def message(call: object, *arguments: object, **options: object) -> str:
    assert callable(call)
    with pytest.raises(AssertionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@given(size=st.floats(1e-6, 1e6), factor=st.floats(0, 0.9))
def test_agree_within_its_tolerance(size: float, factor: float) -> None:
    agree("a = b", [size, 0], [size * (1 + 1e-8 * factor), 0], rtol=1e-8, inputs=None)


@given(size=st.floats(1e-6, 1e6), factor=st.floats(1.1, 1e6))
def test_disagree_beyond_it(size: float, factor: float) -> None:
    got = [size * (1 + 1e-8 * factor), size]
    text = message(agree, "a = b", got, [size, size], rtol=1e-8, inputs="the inputs")
    assert "a = b" in text


def test_the_message_holds_everything() -> None:
    text = message(agree, "P* = λU⁻¹/2", [2.5], [1.25], rtol=1e-3, inputs={"U": 7.0})
    for part in ("P* = λU⁻¹/2", "2.5", "1.25", "1.250e-03", "{'U': 7.0}"):
        assert part in text


def test_shapes_do_not_broadcast() -> None:
    text = message(agree, "a = b", np.ones((2, 1)), np.ones(2), rtol=1, inputs="inputs")
    assert "(2, 1)" in text
    assert "(2,)" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_never_agrees(value: float) -> None:
    message(agree, "a = b", [value, 1.0], [1.0, 1.0], rtol=1e-3, inputs=None)
    message(agree, "a = b", [1.0, 1.0], [value, 1.0], rtol=1e-3, inputs=None)


def test_zero_is_compared_on_the_scale_of_what_cancels() -> None:
    message(agree, "a = 0", [1e-12], [0.0], rtol=1e-8, inputs=None)
    agree("a = 0", [1e-12], [0.0], rtol=1e-8, scale=1.0, inputs=None)
    message(agree, "a = 0", [1e-7], [0.0], rtol=1e-8, scale=1.0, inputs=None)


def test_closed_forms_loosen_with_the_condition() -> None:
    assert closed_form() == CLOSED_FORM
    assert closed_form(np.eye(3)) == pytest.approx(CLOSED_FORM)
    assert closed_form(np.eye(2), np.diag([1.0, 50.0])) == pytest.approx(50 * CLOSED_FORM)
    assert closed_form(4.0) == pytest.approx(CLOSED_FORM)


def samples(shift: float, count: int = 2000) -> np.ndarray:
    """Draws with mean exactly `shift` standard errors and unit standard deviation."""
    draws = np.random.default_rng(0).standard_normal((count, 3))
    draws = (draws - draws.mean(0)) / draws.std(0, ddof=1)
    return draws + shift / np.sqrt(count)


def test_averages_agree_within_five_standard_errors() -> None:
    agree_on_average("E g = 0", samples(0.99 * Z_MAX), np.zeros(3), inputs=None)
    agree_on_average("E g = 0", samples(-0.99 * Z_MAX), np.zeros(3), inputs=None)


@pytest.mark.parametrize("shift", [1.01 * Z_MAX, -1.01 * Z_MAX, 50.0])
def test_averages_disagree_beyond(shift: float) -> None:
    text = message(agree_on_average, "E g = 0", samples(shift), np.zeros(3), inputs="seed 7")
    for part in ("E g = 0", "2000", "[0.0, 0.0, 0.0]", str(Z_MAX), "seed 7"):
        assert part in text
    one_entry = samples(0) + np.array([0, 0, shift / np.sqrt(2000)])
    message(agree_on_average, "E g = 0", one_entry, np.zeros(3), inputs=None)


def test_averages_of_nan_disagree() -> None:
    draws = samples(0)
    draws[0, 0] = np.nan
    message(agree_on_average, "E g = 0", draws, np.zeros(3), inputs=None)


def test_averages_compare_shapes() -> None:
    message(agree_on_average, "E g = 0", samples(0), np.zeros((1, 3)), inputs=None)


def test_a_constant_has_no_standard_error() -> None:
    """Draws without spread agree only with their own value."""
    agree_on_average("E g = 1", np.ones((10, 2)), np.ones(2), inputs=None)
    message(agree_on_average, "E g = 1", np.ones((10, 2)), 2 * np.ones(2), inputs=None)


def test_averages_may_be_off_by_rounding() -> None:
    rounded = (1 + 1e-12) * np.ones((10, 2))
    message(agree_on_average, "E g = 1", rounded, np.ones(2), inputs=None)
    agree_on_average("E g = 1", rounded, np.ones(2), inputs=None, rounding=1e-10)
    off = (1 + 1e-9) * np.ones((10, 2))
    message(agree_on_average, "E g = 1", off, np.ones(2), inputs=None, rounding=1e-10)
