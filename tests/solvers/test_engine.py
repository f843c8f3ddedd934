"""Sweeps: the same results wherever cells are computed, and nothing computed twice."""

import sys
import threading

import joblib
import pytest
import torch

from solvers import engine
from solvers.engine import Processes, Ray, Threads
from solvers.errors import InputError

CELLS = {f"cell {seed}": (seed, 4) for seed in (3, 0, 2, 1, 7)}


class Memory:
    """What keeps results in a dictionary."""

    def __init__(self) -> None:
        self.results: dict[str, object] = {}

    def get(self, cell: str) -> object:
        return self.results.get(cell)

    def put(self, cell: str, result: object) -> None:
        self.results[cell] = result


def train(seed: int, n: int) -> torch.Tensor:
    """Return numbers that depend on the order of floating-point operations."""
    drawn = torch.randn(64, n, generator=torch.Generator().manual_seed(seed))
    for _ in range(5):
        drawn = torch.linalg.qr(drawn @ (drawn.mT @ drawn)).Q
    return drawn


def refuse_seven(seed: int, n: int) -> torch.Tensor:
    if seed == 7:
        raise ArithmeticError("seven")
    return train(seed, n)


@pytest.mark.parametrize("where", [Threads(), Processes()], ids=str)
def test_results_are_those_of_a_loop_in_the_order_of_the_cells(where):
    came: list[str] = []
    found = engine.sweep(train, CELLS, engine=where, done=came.append)
    assert list(found) == list(CELLS)
    assert sorted(came) == sorted(CELLS)
    for name, arguments in CELLS.items():
        assert torch.equal(found[name], train(*arguments))


@pytest.mark.parametrize("where", [Threads(), Processes()], ids=str)
def test_what_is_kept_is_not_computed_again(where):
    kept = Memory()
    kept.results["cell 7"] = torch.zeros(1)  # refuse_seven would raise
    found = engine.sweep(refuse_seven, CELLS, engine=where, kept=kept)
    assert found["cell 7"].tolist() == [0.0]
    assert kept.results.keys() == CELLS.keys()
    assert engine.sweep(refuse_seven, CELLS, engine=where, kept=kept) == found


@pytest.mark.parametrize("where", [Threads(), Processes()], ids=str)
def test_a_failure_is_raised_and_what_was_done_is_kept(where):
    kept = Memory()
    first = {"cell 0": CELLS["cell 0"]}
    engine.sweep(refuse_seven, first, engine=where, kept=kept)
    with pytest.raises(ArithmeticError, match="seven"):
        engine.sweep(refuse_seven, CELLS, engine=where, kept=kept)
    assert "cell 0" in kept.results
    assert "cell 7" not in kept.results


def test_threads_run_side_by_side_on_one_thread_each(monkeypatch):
    monkeypatch.setattr(engine.os, "cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=30)

    def meet(_: int) -> int:
        both.wait()
        return torch.get_num_threads()

    before = torch.get_num_threads()
    assert engine.sweep(meet, {"a": (0,), "b": (1,)}) == {"a": 1, "b": 1}
    assert torch.get_num_threads() == before


def test_no_cells_start_nothing(monkeypatch):
    monkeypatch.setattr(joblib, "Parallel", None)
    assert engine.sweep(train, {}, engine=Processes()) == {}


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="pip install"):
        engine.sweep(train, CELLS, engine=Ray())
