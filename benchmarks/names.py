"""What is measured. A new benchmark is a function that returns a `Record`, named in `ALL`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from benchmarks import hypergradients, networks, plain_loop, streaming, table_3_loop
from benchmarks.measure import Record, process, seconds
from paper_checks import gate
from paper_checks.experiments import figure_1, figure_2, full_covariance, tables_1_2

MEMBERS = {"figure-1": 120, "figure-2": 11, "full-covariance": 450, "tables-1-2": 60}
FIGURE = "figure-2"
DERIVATIONS = """
from analysis import catalogue
for entry in catalogue():
    entry.build().verify()
"""


@cache
def train_figure_1_seconds() -> Record:
    """As-published trainings of figure 1: all 120 members, with per-epoch validation metrics."""
    return seconds(
        lambda seed: figure_1.run(figure_1.ONE_RUN, seed=seed),
        target=4,
        note=f"{MEMBERS['figure-1']} members, a thread per core",
    )


def train_figure_1_vs_dataloader_loop() -> Record:
    """The same trainings, one member at a time from a `DataLoader`."""
    return _versus(plain_loop.dataloader, target=30)


def train_figure_1_vs_tensor_loop() -> Record:
    """The same trainings, one member at a time on tensors."""
    return _versus(plain_loop.tensors, target=5)


def _versus(loader: plain_loop.Loader, target: float) -> Record:
    ours = train_figure_1_seconds().value
    assert ours is not None
    start = time.perf_counter()
    members = plain_loop.train_sample(loader)
    peer = (time.perf_counter() - start) * MEMBERS["figure-1"] / members
    threads = torch.get_num_threads()  # more do not help the loop: its operations are short
    times = MEMBERS["figure-1"] // members
    note = f"{members} members of the loop, once, on {threads} thread, times {times}"
    return Record(peer / ours, "x", target, peer, peer / ours, note)


def train_figure_2_seconds() -> Record:
    """As-published trainings of figure 2: all 11 members, with the law after every update."""
    settings = figure_2.AS_PUBLISHED
    figure_2.run(settings, seed=0)  # the first run of a process also pays for what torch loads
    return seconds(
        lambda seed: figure_2.run(settings, seed=seed),
        target=0.4,
        note=f"{MEMBERS['figure-2']} members, after one run",
    )


def train_full_covariance_seconds() -> Record:
    """As-published trainings, full covariance: all 450 members, with per-epoch training metrics."""
    settings = full_covariance.AS_PUBLISHED
    # The first run of a process also pays for the derivations behind the predicted ends.
    full_covariance.run(replace(settings, experiments=1, epochs=1), seed=0)
    return seconds(
        lambda seed: full_covariance.run(settings, seed=seed),
        target=4,
        note=f"{MEMBERS['full-covariance']} members, a thread per core, after one small run",
    )


def train_tables_1_2_seconds() -> Record:
    """As-published trainings, tables 1 and 2: all 60 members, with per-epoch validation metrics."""
    settings = tables_1_2.AS_PUBLISHED
    tables_1_2.run(replace(settings, epochs=1), seed=0)  # reads the tables, imports scikit-learn
    return seconds(
        lambda seed: tables_1_2.run(settings, seed=seed),
        target=3,
        note=f"{MEMBERS['tables-1-2']} members, a thread per core, after one small run",
    )


def tables_1_2_split_seconds() -> Record:
    """Tables 1 and 2, corrected, one split of 10: 6 methods, 4 tables, 100 repetitions.

    The whole takes some 10 times as long, with `FULL=1` 20 times; this measure takes minutes.
    """
    settings = replace(tables_1_2.CORRECTED, splits=tables_1_2.CORRECTED.splits[:1])
    return seconds(
        lambda seed: tables_1_2.run(settings, seed=seed),
        target=9,
        note="2,400 members and 24 optima, one split of 10, a thread per core",
    )


def import_analysis_seconds() -> Record:
    """A whole process that imports `analysis`."""
    return seconds(
        lambda _: process("-c", "import analysis"), target=0.7, note="whole Python process"
    )


def derivations_cold_seconds() -> Record:
    """A process that builds and verifies every derivation."""
    return seconds(lambda _: process("-c", DERIVATIONS), target=30, note="whole Python process")


def gate_seconds() -> Record:
    """The gate, not reused."""

    def run(_: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            gate.run(Path(folder))

    return seconds(run, target=60, note="2 workers")


def figures_unchanged_seconds() -> Record:
    """`make figures` of one figure that has not changed; first draws it where it is not current."""
    process("-m", "figures", FIGURE)
    return seconds(lambda _: process("-m", "figures", FIGURE), target=10, note="current")


ALL: dict[str, Callable[[], Record]] = (
    {
        benchmark.__name__: benchmark
        for benchmark in (
            train_figure_1_seconds,
            train_figure_1_vs_dataloader_loop,
            train_figure_1_vs_tensor_loop,
            train_figure_2_seconds,
            train_full_covariance_seconds,
            train_tables_1_2_seconds,
            tables_1_2_split_seconds,
            import_analysis_seconds,
            derivations_cold_seconds,
            gate_seconds,
            figures_unchanged_seconds,
        )
    }
    | hypergradients.ALL
    | networks.ALL
    | streaming.ALL
    | table_3_loop.ALL
)
