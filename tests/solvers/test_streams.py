"""Random streams are named, not numbered."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solvers.errors import InputError, ShapeError
from solvers.training import streams

keys = st.lists(st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False)))


def bits(seed: int, *key: str | int | float) -> torch.Tensor:
    return torch.rand(4, generator=streams.generator(seed, *key))


@given(seed=st.integers(0, 2**40), key=keys)
def test_same_name_same_bits(seed: int, key: list[str | int | float]) -> None:
    assert torch.equal(bits(seed, *key), bits(seed, *key))


@given(seed=st.integers(0, 2**40), first=keys, second=keys)
def test_other_name_other_bits(
    seed: int, first: list[str | int | float], second: list[str | int | float]
) -> None:
    assert torch.equal(bits(seed, *first), bits(seed, *second)) == (repr(first) == repr(second))


def test_every_part_of_a_name_counts() -> None:
    names: list[tuple[int, *tuple[str | int | float, ...]]] = [
        (0, "noise", 1, "PG", 0.1),
        (1, "noise", 1, "PG", 0.1),
        (0, "data", 1, "PG", 0.1),
        (0, "noise", 2, "PG", 0.1),
        (0, "noise", 1, "NLL", 0.1),
        (0, "noise", 1, "PG", 0.25),
        (0, "noise", 1, 0.1, "PG"),
        (0, "noise", "1", "PG", 0.1),
        (0, "noise", 1, "PG"),
        (0,),
    ]
    assert len({tuple(bits(*name).tolist()) for name in names}) == len(names)


def test_streams_are_the_same_on_every_machine() -> None:
    """Published results name their seeds: this number must never change."""
    drawn = torch.randint(2**31, (1,), generator=streams.generator(0, "noise", 3, "PG", 0.1))
    assert drawn.item() == 1749590806


def members(*names: int) -> list[torch.Generator]:
    return [streams.generator(0, "noise", name) for name in names]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_draws_the_same_whatever_its_batch(
    batch: tuple[int, ...], dtype: torch.dtype
) -> None:
    count = math.prod(batch)
    together = streams.MemberNoise(members(*range(count)), batch)
    alone = [streams.MemberNoise(members(k)) for k in range(count)]
    for shape in [(4, 5), (2,), (3, 30)]:  # in sequence: the streams move on in step
        noise = together.normal(shape, dtype)
        assert noise.shape == batch + shape
        assert noise.dtype == dtype
        for row, single in zip(noise.reshape(-1, *shape), alone, strict=True):
            assert torch.equal(row, single.normal(shape, dtype))
        noise = together.uniform(shape, dtype)
        assert noise.shape == batch + shape
        assert noise.dtype == dtype
        for row, single in zip(noise.reshape(-1, *shape), alone, strict=True):
            assert torch.equal(row, single.uniform(shape, dtype))
        orders = together.permutation(7)
        assert orders.shape == (*batch, 7)
        for order, single in zip(orders.reshape(-1, 7), alone, strict=True):
            assert torch.equal(order, single.permutation(7))


def test_draws_do_not_repeat() -> None:
    source = streams.MemberNoise(members(0))
    assert not torch.equal(source.normal((9,), torch.float32), source.normal((9,), torch.float32))


def test_noise_is_standard_normal() -> None:
    noise = streams.MemberNoise(members(0, 1), (2,)).normal((50_000,), torch.float64)
    z_mean = noise.mean(-1) * 50_000**0.5
    z_variance = (noise.var(-1) - 1) * (50_000 / 2) ** 0.5
    assert bool((z_mean.abs() < 5).all())
    assert bool((z_variance.abs() < 5).all())
    correlation = (noise[0] * noise[1]).mean() * 50_000**0.5
    assert abs(float(correlation)) < 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_uniform(dtype: torch.dtype) -> None:
    noise = streams.MemberNoise(members(0, 1), (2,)).uniform((50_000,), dtype)
    assert bool(((noise >= 0) & (noise < 1)).all())
    z_mean = (noise.double().mean(-1) - 1 / 2) * (12 * 50_000) ** 0.5
    z_square = (noise.double().square().mean(-1) - 1 / 3) * (45 / 4 * 50_000) ** 0.5
    assert bool((z_mean.abs() < 5).all())
    assert bool((z_square.abs() < 5).all())
    assert not torch.equal(noise[0], noise[1])


def test_every_order_is_a_permutation_of_its_own() -> None:
    source = streams.MemberNoise(members(*range(6)), (2, 3))
    first, second = source.permutation(50), source.permutation(50)
    everything = torch.arange(50).expand(2, 3, 50)
    for orders in (first, second):
        assert torch.equal(orders.sort(-1).values, everything)
    orders = torch.cat([first.flatten(0, 1), second.flatten(0, 1)])
    assert len({tuple(order.tolist()) for order in orders}) == 12


def test_as_many_generators_as_members() -> None:
    with pytest.raises(ShapeError, match=r"2 generators for the batch shape \(3,\): pass one per"):
        streams.MemberNoise(members(0, 1), (3,))


@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex128])
def test_noise_is_of_real_numbers(draw: str, dtype: torch.dtype) -> None:
    noise = streams.MemberNoise(members(0), (1,))
    with pytest.raises(InputError, match=r"dtype is .*: pass float32 or float64"):
        getattr(noise, draw)((2,), dtype)
