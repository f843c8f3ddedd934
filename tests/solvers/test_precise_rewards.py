"""Optimal rewards to the last digits: rare classes, nearly even ones, and any units."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath.ctx_mp import MPContext

from solvers.errors import InputError
from solvers.rewards.between_classes import exact_diagonal, exact_scale, heuristic_scale
from solvers.rewards.mahalanobis import (
    isotropic_weight,
    optimal_reward,
    optimal_scale,
    optimal_weights,
)

DTYPES = (torch.float64, torch.float32)
RAREST = {torch.float64: 300, torch.float32: 37}  # as powers of 10
EVENEST = {torch.float64: 14, torch.float32: 6}
ROUNDINGS = 16  # allowed between a result and the formula at 700 digits

dtypes = st.sampled_from(DTYPES)
mp = MPContext()  # of its own: the precision of other tests stays
mp.dps = 700  # so that 1 - 1e-300 is a number


def exact(tensor: torch.Tensor) -> list[Any]:
    """The entries, as they are stored."""
    return [mp.mpf(x) for x in tensor.double().flatten().tolist()]


def agrees(found: torch.Tensor, want: list[Any]) -> None:
    assert found.numel() == len(want)
    for got, right in zip(exact(found), want, strict=True):
        error = float(abs(got / right - 1) / torch.finfo(found.dtype).eps)
        assert error < ROUNDINGS, f"{float(got)} for {float(right)}, {error} roundings off"


@st.composite
def laws(draw: st.DrawFn, dtype: torch.dtype, most: int = 4) -> torch.Tensor:
    """Class probabilities: rare ones, nearly even ones, and rare ones beside nearly even ones."""
    powers = st.floats(-RAREST[dtype], -0.01)
    rare = draw(st.lists(powers, min_size=0, max_size=most - 2))
    apart = 10.0 ** draw(st.floats(-EVENEST[dtype], -0.31))
    sides = draw(st.lists(st.floats(-1, 1), max_size=most - 2 - len(rare)))
    if draw(st.booleans()):
        pi = torch.tensor([1.0, *(10.0**p for p in [draw(powers), *rare])], dtype=torch.float64)
    else:
        top = [1 + apart * x for x in (1, -1, *sides)]
        pi = torch.tensor([*top, *(10.0**p for p in rare)], dtype=torch.float64)
    pi = (pi / pi.sum()).to(dtype)
    return pi / pi.sum()


@st.composite
def probabilities(draw: st.DrawFn, dtype: torch.dtype) -> float:
    """Of one bit: near 0, near 1, near a half, anywhere."""
    rare = 10.0 ** -draw(st.floats(0.31, RAREST[dtype]))
    apart = 10.0 ** -draw(st.floats(0.31, EVENEST[dtype])) * draw(st.sampled_from([-1, 1]))
    least = torch.finfo(dtype).eps
    near_one = 1 - max(10.0 ** -draw(st.floats(0.31, 2 * EVENEST[dtype])), least)
    return draw(st.sampled_from([rare, near_one, 0.5 + apart, 0.5]) | st.floats(0.1, 0.9))


@given(st.data(), dtypes)
def test_weights_of_bits(data: st.DataObject, dtype: torch.dtype) -> None:
    rho = torch.tensor(data.draw(st.lists(probabilities(dtype), min_size=1)), dtype=dtype)
    want = [
        2 if p == mp.mpf(1) / 2 else (mp.log(p) - mp.log1p(-p)) / (2 * p - 1) for p in exact(rho)
    ]
    agrees(optimal_weights(rho, 1.0), want)


@given(st.data(), dtypes)
def test_weights_of_bits_have_the_right_slope(data: st.DataObject, dtype: torch.dtype) -> None:
    """Of two branches, the other one may not spoil the gradient."""
    rho = torch.tensor([data.draw(probabilities(dtype))], dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(optimal_weights(rho, 1.0).sum(), rho)
    assert bool(torch.isfinite(slope).all()) or float(rho) < 1e-30  # 1/rho overflows in float32


@given(st.data(), dtypes)
def test_a_diagonal_between_classes(data: st.DataObject, dtype: torch.dtype) -> None:
    pi = data.draw(laws(dtype))
    p = exact(pi)
    top = max(p)
    want = [
        mp.mpf(1) if x in (top, mp.mpf(1) / 2) else (mp.log(x / top) + 2 * top - 1) / (2 * x - 1)
        for x in p
    ]
    agrees(exact_diagonal(pi, 1.0), want)


@given(st.data(), dtypes)
def test_the_published_scale(data: st.DataObject, dtype: torch.dtype) -> None:
    pi = data.draw(laws(dtype))
    p = exact(pi)
    trace = 1 - sum(x**2 for x in (x / sum(p) for x in p))
    agrees(heuristic_scale(pi, 1.0)[None], [len(p) / (2 * trace)])


@given(st.data(), dtypes)
def test_the_scale_of_two_classes_is_the_closed_form(
    data: st.DataObject, dtype: torch.dtype
) -> None:
    pi = data.draw(laws(dtype, most=2))
    p, q = exact(pi)
    agrees(exact_scale(pi[None], 1.0)[None], [mp.log(p / q) / (2 * (p - q))])


def slope(p: list[list[Any]], u: Any) -> Any:
    """E_x Σ_c (π_c - p*_c) π_c by definition, p* ∝ exp(2uπ)."""
    total = mp.mpf(0)
    for row in ([x / sum(entries) for x in entries] for entries in p):
        weights = [mp.exp(2 * u * x) for x in row]
        total += sum((x - w / sum(weights)) * x for x, w in zip(row, weights, strict=True))
    return total


@settings(max_examples=60)
@given(st.data(), dtypes, st.integers(1, 3))
def test_the_scale_is_a_root_to_the_last_digits(
    data: st.DataObject, dtype: torch.dtype, N: int
) -> None:
    rows = [data.draw(laws(dtype, most=4)) for _ in range(N)]
    C = max(len(row) for row in rows)
    pi = torch.stack([torch.cat([row, row.new_zeros(C - len(row))]) for row in rows])
    u = mp.mpf(float(exact_scale(pi, 1.0)))
    tolerance = ROUNDINGS * torch.finfo(dtype).eps
    p = [exact(row) for row in pi]
    assert slope(p, u * (1 - tolerance)) > 0 > slope(p, u * (1 + tolerance))


@pytest.mark.parametrize("e", [1e-3, 1e-7, 1e-8, 1e-9, 1e-12, 1e-14])
def test_two_nearly_even_classes(e: float) -> None:
    pi = torch.tensor([[0.5 + e, 0.5 - e]], dtype=torch.float64)
    agrees(exact_scale(pi, 1.0)[None], [mp.atanh(2 * mp.mpf(e)) / (2 * mp.mpf(e))])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [2, 3, 7])
def test_what_is_even_to_rounding_has_no_best_scale(dtype: torch.dtype, C: int) -> None:
    pi = torch.full((4, C), 1 / C, dtype=dtype)
    pi[:, 0] *= 1 + torch.finfo(dtype).eps
    with pytest.raises(InputError, match="uniform over the most likely"):
        exact_scale(pi, 1.0)
    with pytest.raises(InputError, match="uniform over the most likely"):
        exact_scale(torch.eye(C, dtype=dtype), 1.0)


# --- units: what the result can hold is returned, the rest refused ---

magnitudes = st.floats(-150, 150)


@given(magnitudes, magnitudes, magnitudes, st.integers(1, 5))
def test_scales_in_any_units(lam: float, m: float, s: float, n: int) -> None:
    eye = torch.eye(n, dtype=torch.float64)
    M, Sigma, weight = 10.0**m * eye, 10.0**s * eye, 10.0**lam
    want = mp.mpf(weight) / 2 / (mp.mpf(10.0**m) * mp.mpf(10.0**s))
    if mp.mpf("1e-300") < want < mp.mpf("1e300"):
        agrees(optimal_scale(M, Sigma, weight)[None], [want])
    elif not mp.mpf("1e-330") < want < mp.mpf("1e310"):
        with pytest.raises(InputError, match=r"best c is .* other units"):
            optimal_scale(M, Sigma, weight)


@given(st.floats(-320, 308), st.floats(-300, 300), st.integers(1, 1000), dtypes)
def test_an_isotropic_weight_in_any_units(
    trace: float, lam: float, n: int, dtype: torch.dtype
) -> None:
    T, weight = (torch.tensor(10.0**x, dtype=dtype) for x in (trace, lam))
    if not (0 < float(T) < float("inf") and 0 < float(weight) < float("inf")):
        return
    want = mp.mpf(float(weight)) * n / (2 * mp.mpf(float(T)))
    least, most = mp.mpf(torch.finfo(dtype).tiny) * n, mp.mpf(torch.finfo(dtype).max) / 2
    if least < want < most:
        agrees(isotropic_weight(T, n, weight)[None], [want])
    elif want > 4 * most or want < least / n / mp.mpf(10) ** 20:
        with pytest.raises(InputError, match=r"best u is .* other units"):
            isotropic_weight(T, n, weight)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@given(magnitudes, magnitudes)
def test_optimal_rewards_in_any_units(structure: Any, lam: float, s: float) -> None:
    reward = optimal_reward(10.0**s * torch.eye(2, dtype=torch.float64), 10.0**lam, structure)
    want = mp.mpf(10.0**lam) / 2 / mp.mpf(10.0**s)
    agrees(reward.U.diagonal(), [want, want])
