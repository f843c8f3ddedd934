"""How far two numbers that should agree may differ, by the kind of computation: the only table.

Symbolic residuals have no entry: they are 0. The comparisons raise `AssertionError` themselves, so
that `python -O` does not strip them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

CLOSED_FORM = 1e-10
"""Relative, times the condition number of the matrices involved."""

SEARCH = 1e2
"""Numerical maxima: times `closed_form`; the search stops at a rounded gradient."""

FINITE_DIFFERENCE = 1e-5
"""Relative to the terms that cancel: curvature and rounding of a central difference."""

Z_MAX = 5.0
"""Monte Carlo means lie within this many of their estimated standard errors."""


def closed_form(*matrices: ArrayLike) -> float:
    """Return the relative tolerance of closed forms that invert or factor `matrices`."""
    return CLOSED_FORM * max([1.0, *(float(np.linalg.cond(np.atleast_2d(A))) for A in matrices)])


def agree(
    identity: str, got: ArrayLike, want: ArrayLike, *, rtol: float, inputs: object, scale: float = 0
) -> None:
    """Assert `|got - want| <= rtol * max(|want|, scale)`, saying what was compared and with what.

    Args:
        identity: what should hold, as a formula.
        got: computed by the code under test.
        want: computed by the witness.
        rtol: relative to the largest entry of `want`.
        inputs: shown on failure.
        scale: size of the terms that cancel in `want`, where they do.
    """
    computed, expected = np.asarray(got, float), np.asarray(want, float)
    if computed.shape != expected.shape:
        raise AssertionError(
            f"{identity}: shapes {computed.shape} and {expected.shape} differ\n  inputs: {inputs}"
        )
    bound = rtol * max(float(np.abs(expected).max()), scale)
    error = float(np.abs(computed - expected).max())
    if not error <= bound < np.inf:
        raise AssertionError(
            f"{identity} fails\n  got      {computed.tolist()}\n  expected {expected.tolist()}\n"
            f"  error    {error:.3e} > tolerance {bound:.3e}\n  inputs   {inputs}"
        )


def agree_on_average(
    identity: str, samples: ArrayLike, want: ArrayLike, *, inputs: object, rounding: float = 0
) -> None:
    """Assert that the mean of `samples` (first axis) is `want`, by a z-test on every entry.

    Args:
        identity: what should hold, as a formula.
        samples: independent draws of the code under test.
        want: computed by the witness.
        inputs: shown on failure.
        rounding: by so much the mean may be off besides: samples may be all the same.
    """
    draws, expected = np.asarray(samples, float), np.asarray(want, float)
    if draws.shape[1:] != expected.shape:
        raise AssertionError(
            f"{identity}: shapes {draws.shape[1:]} and {expected.shape} differ\n  inputs: {inputs}"
        )
    error = np.abs(draws.mean(0) - expected)
    size = np.maximum(np.abs(draws).max(0), np.finfo(float).tiny)
    spread = (draws / size).std(0, ddof=1) * size  # whose squares neither under- nor overflow
    bound = Z_MAX * spread / np.sqrt(len(draws)) + rounding
    if not np.all(error <= bound):
        raise AssertionError(
            f"{identity} fails\n  mean     {draws.mean(0).tolist()} of {len(draws)}\n"
            f"  expected {expected.tolist()}\n"
            f"  error    {error.tolist()} > tolerance {bound.tolist()}"
            f" ({Z_MAX} standard errors)\n  inputs   {inputs}"
        )
