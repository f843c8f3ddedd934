"""Sweeps on Ray's own test cluster: several nodes on one machine, one of which is killed."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from solvers import engine
from solvers.engine import Ray, Threads
from solvers.errors import InputError
from tests.solvers.test_engine import CELLS, Memory, refuse_seven, train

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")
from ray.cluster_utils import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    """A head without processors of its own, and one node with one."""
    dead_soon = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": dead_soon},
    )
    found.add_node(num_cpus=1)
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
    found.shutdown()


def hangs_there(seed: int, n: int, folder: str, node: str) -> torch.Tensor:
    """Return `train(seed, n)`, anywhere but on one node: there say so, and never return."""
    begun = Path(folder) / "begun"
    if ray.get_runtime_context().get_node_id() == node:
        begun.touch()
        time.sleep(600)
    wait_for(begun)
    return train(seed, n)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"no {path} in a minute"
        time.sleep(0.05)


def dies_once(seed: int, n: int, folder: str) -> torch.Tensor:
    """Return `train(seed, n)`; the first worker that tries is killed."""
    mark = Path(folder) / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return train(seed, n)


def same(found: dict[str, torch.Tensor]) -> bool:
    want = engine.sweep(train, CELLS, engine=Threads())
    return list(found) == list(want) and all(torch.equal(found[k], want[k]) for k in want)


def test_the_bits_are_those_of_this_machine(cluster):
    assert same(engine.sweep(train, CELLS, engine=Ray()))


def test_a_killed_node_loses_nothing(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    cells = {name: (*arguments, str(tmp_path), node.node_id) for name, arguments in CELLS.items()}
    kept, came = Memory(), list[str]()

    def kill() -> None:
        wait_for(tmp_path / "begun")
        cluster.remove_node(node, allow_graceful=False)

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill)
        found = engine.sweep(hangs_there, cells, engine=Ray(), kept=kept, done=came.append)
        killed.result()
    assert same(found)
    assert sorted(came) == sorted(CELLS)
    assert kept.results.keys() == CELLS.keys()


def test_a_killed_worker_loses_nothing(cluster, tmp_path):
    cells = {name: (*arguments, str(tmp_path)) for name, arguments in CELLS.items()}
    assert same(engine.sweep(dies_once, cells, engine=Ray()))
    assert (tmp_path / "died").exists()


def test_a_failure_is_raised(cluster):
    with pytest.raises(ArithmeticError, match="seven"):
        engine.sweep(refuse_seven, CELLS, engine=Ray())


def test_an_address_without_a_cluster_is_an_error_at_once(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1'.*refused.*ray start"):
        engine.sweep(train, CELLS, engine=Ray("127.0.0.1:1"))


def test_what_ray_says_of_an_address_is_passed_on(monkeypatch):
    def refused(**_: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(InputError, match=r"'auto'.*nobody there.*ray start"):
        engine.sweep(train, CELLS, engine=Ray("auto"))
