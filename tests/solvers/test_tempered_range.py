"""Powers of weights are positive numbers, or refused with what they are of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import solvers as so
from solvers.errors import InputError

F32, F64 = torch.float32, torch.float64


@given(
    e=st.integers(-300, 300),
    power=st.integers(-30, 30).map(lambda tenths: tenths / 10),
    dtype=st.sampled_from([F32, F64]),
    at=st.integers(0, 3),
)
def test_powers_are_numbers_or_refused(e: int, power: float, dtype: torch.dtype, at: int) -> None:
    if dtype == F32:
        e = e // 8
    u = torch.ones(2, 2, dtype=dtype)
    u.view(-1)[at] = 10.0**e
    room = math.log10(torch.finfo(dtype).max)
    size = max(abs(e * power), abs(e * (1 - power)))  # decimal digits of the larger power
    if size > room + 20:  # beyond the smallest number below normal ones, too
        with pytest.raises(InputError) as caught:
            so.Tempered(u, power)
        said = str(caught.value)
        assert said.startswith(f"u[{at // 2}, {at % 2}] is {u.view(-1)[at].item():.6g}, and")
        assert f"power = {torch.tensor(power, dtype=dtype).item():.6g}" in said
        assert "pass a power nearer to 0" in said
    elif size < room - 1:
        found = so.Tempered(u, power)
        rtol = 700 * torch.finfo(dtype).eps  # of u^β = exp(β log u), |β log u| up to 700
        for values, exponent in ((found.temperature, -power), (found.reward.u, 1 - power)):
            got = values.double().view(-1)[at].log10().item()
            assert got == pytest.approx(e * exponent, abs=rtol + abs(e * 1e-6))


@pytest.mark.parametrize("power", [3.0, -3.0])
@pytest.mark.parametrize("u", [1e-200, 1e200])
def test_neither_the_reward_nor_its_temperature_is_infinite_or_zero(u: float, power: float) -> None:
    with pytest.raises(InputError, match=rf"u\[0, 0\] is 1e[+-]200, .* power = {power:.6g}, it is"):
        so.Tempered(torch.full((4, 2), u, dtype=F64), power)
