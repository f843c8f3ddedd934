"""The shape checks of the solvers notice what is wrong, everywhere a function can be defined."""

import importlib
import sys
from collections.abc import Generator
from types import ModuleType

import pytest
import torch
from jaxtyping import TypeCheckError

from solvers.numerics.derivatives import curved
from tests.shapes import check_shapes, unchecked

ROOM = """
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


def first(x: Float[Tensor, "a b"], y: Float[Tensor, "b"], size: int = 1) -> Float[Tensor, "a"]:
    return x[:, 0] if size else x


def pair(x: Float[Tensor, "a"]) -> Pair:
    return Pair(x, x)


@dataclass(frozen=True)
class Pair:
    x: Float[Tensor, "a"]
    y: Float[Tensor, "a"]

    def sum(self, weight: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return weight * (self.x + self.y).sum()

    @classmethod
    def of(cls, x: Float[Tensor, "a"]) -> Pair:
        return cls(x, x)

    @property
    def both(self) -> Float[Tensor, "2 a"]:
        return self.x


def scaling(factor: float) -> Callable[[Tensor], Tensor]:
    def scaled(
        x: Float[Tensor, "a"], y: Float[Tensor, "a"], *, more: float = factor
    ) -> Float[Tensor, "a"]:
        return factor * more * x + y if factor else x[:, None]

    return scaled
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Generator[ModuleType]:
    """A module whose functions are checked; others go on as they were."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "room_of_shapes.py").write_text(ROOM, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "meta_path", [*sys.meta_path])
        check_shapes("room_of_shapes")
        yield importlib.import_module("room_of_shapes")
    del sys.modules["room_of_shapes"]


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.float64)


def test_what_fits_goes_through(room: ModuleType) -> None:
    assert room.first(ones(2, 3), ones(3)).tolist() == [1, 1]
    assert float(room.pair(ones(2)).sum(ones())) == 4
    assert room.Pair.of(x=ones(2)).y.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda room: room.first(ones(2, 3), ones(2)), "first.*parameter y"),
        (lambda room: room.first(ones(2, 3).int(), ones(3)), "first.*parameter x"),
        (lambda room: room.first(ones(2, 3), ones(3), size="1"), "first.*parameter size"),
        (lambda room: room.first(ones(2, 3), ones(3), 0), "first.*return"),
        (lambda room: room.Pair(ones(2), ones(3)), "__init__.*parameter y"),
        (lambda room: room.pair(ones(2)).sum(ones(1)), "sum.*parameter weight"),
        (lambda room: room.Pair.of(ones(2, 2)), "of.*parameter x"),
        (lambda room: room.pair(ones(2)).both, "both.*return"),
    ],
)
def test_what_does_not_fit_is_refused(room: ModuleType, call, words: str) -> None:
    with pytest.raises(TypeCheckError, match=words):
        call(room)
    with unchecked():
        call(room)


def test_functions_inside_others(room: ModuleType) -> None:
    """Each is checked as it is defined, though their checks are made once."""
    double, triple, broken = room.scaling(2.0), room.scaling(3.0), room.scaling(0.0)
    one = ones(1)
    assert double(one, one).tolist() == [5]
    assert triple(one, y=one).tolist() == [10]
    assert triple(one, one, more=1.0).tolist() == [4]
    for call in (
        lambda: double(one, ones(2)),
        lambda: triple(one, ones(2)),
        lambda: triple(one, one, more="1"),
        lambda: broken(one, one),
    ):
        with pytest.raises(TypeCheckError, match=r"scaling\.scaled"):
            call()
    with unchecked():
        assert broken(one, one).shape == (1, 1)


def test_the_solvers_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="curved"):
        curved(ones(2), [ones(2)], ones(3))
