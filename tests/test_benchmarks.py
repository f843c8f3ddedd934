"""The benchmarks measure what they say: the plain loop is the same training."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import (
    hypergradients,
    memory,
    names,
    plain_loop,
    ridge,
    streaming,
    table_3_loop,
    unit,
)
from benchmarks.league import problems
from benchmarks.measure import Record, process, seconds, to_json
from benchmarks.plain_loop import Member
from figures import catalogue
from paper_checks import store
from paper_checks.experiments import arms, figure_1, figure_2, full_covariance, tables_1_2
from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.tasks import linear
from solvers.tasks.linear import LinearTask
from solvers.training import streams
from solvers.training.ensemble import train
from solvers.training.objectives import MSE, NLL

LOADERS = [plain_loop.dataloader, plain_loop.tensors]
ARMS = [Member(arms.MSE), Member(arms.NLL), Member(arms.PG_IDENTITY, 1.0, 0.1)]
ARMS += [Member(arms.PG_OPTIMAL, 0.3, 0.1)]


def task() -> LinearTask:
    return linear.draw([streams.generator(0, "data", 0)], rows=20)


def network_of(params: Params) -> nn.Sequential:
    model = plain_loop.network(2, 2)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer, module in enumerate(linears):
            module.weight.copy_(params[f"mean.weight{layer}"].T)
            module.bias.copy_(params[f"mean.bias{layer}"])
    return model


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("member", ARMS, ids=lambda member: member.arm.label)
def test_the_loop_returns_metrics(loader: plain_loop.Loader, member: Member) -> None:
    history = plain_loop.train(member, task(), plain_loop.network(2, 2), loader, epochs=3)
    assert [list(metrics) for metrics in history] == 3 * [list(figure_1.METRICS)]
    assert all(math.isfinite(value) for metrics in history for value in metrics.values())


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("arm", "objective"), [(arms.MSE, MSE()), (arms.NLL, NLL())])
def test_the_loop_is_our_training(loader: plain_loop.Loader, arm, objective) -> None:
    """Same start, same data: same metrics as the batched run, epoch by epoch."""
    data, policy = task(), figure_1.POLICY
    params = policy.init([streams.generator(0, "init", 0)], (1, 1))
    ours: list[list[float]] = []
    train(
        policy,
        params,
        objective,
        Dataset(*(t.unsqueeze(1) for t in vars(data.train).values())),
        epochs=3,
        learning_rate=plain_loop.SETTINGS.learning_rate,
        batch_ndim=2,
        max_norm=plain_loop.SETTINGS.max_norm,
        observe=lambda _, p: ours.append(figure_1._metrics(p, data).flatten().tolist()),
    )
    alone = {name: p.detach()[0, 0] for name, p in params.items()}
    history = plain_loop.train(Member(arm), data, network_of(alone), loader, epochs=3)
    for metrics, want in zip(history, ours, strict=True):
        assert list(metrics.values()) == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_the_loop_estimates_our_policy_gradient() -> None:
    """Averaged over draws, its gradient in the network's outputs is the exact one."""
    member, data = Member(arms.PG_OPTIMAL, 0.3, 0.1), task()
    x, y = plain_loop.rows(data.train)
    outputs = plain_loop.network(2, 2)(x).mean(0).detach().requires_grad_()
    identity = nn.Identity()

    def slope(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, outputs)[0]

    def law() -> torch.distributions.Normal:
        return plain_loop.law_at(identity, outputs.expand(len(x), -1))

    rewards = -member.u * ((law().mean - y).square() + law().variance).sum(-1)
    want = slope(-(rewards + member.lam * law().entropy().sum(-1)).mean())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = torch.stack([slope(plain_loop.loss(member, law(), y)) for _ in range(300)])
    z = (draws.mean(0) - want).abs() / draws.std(0) * math.sqrt(len(draws))
    assert bool((z < 5).all()), z


def test_the_sample_has_the_mix_of_the_figure() -> None:
    settings = figure_1.ONE_RUN
    members = [len(settings.lams) if arm.reward else 1 for arm in settings.arms]
    assert settings.experiments * sum(members) == names.MEMBERS["figure-1"]


def test_the_members_are_those_of_the_figures() -> None:
    """The notes say how many; the tables say who was trained."""
    trained = {
        "figure-2": figure_2.run(replace(figure_2.AS_PUBLISHED, epochs=0), seed=0),
        "full-covariance": full_covariance.run(
            replace(full_covariance.AS_PUBLISHED, epochs=0), seed=0
        ),
        "tables-1-2": tables_1_2.run(replace(tables_1_2.AS_PUBLISHED, epochs=0), seed=0).query(
            "stage == 'trained'"
        ),
    }
    for name, table in trained.items():
        assert len(table) == names.MEMBERS[name]


@pytest.mark.parametrize(
    ("benchmark", "figure", "target", "members"),
    [
        (names.train_figure_2_seconds, figure_2, 0.4, 11),
        (names.train_full_covariance_seconds, full_covariance, 4, 450),
        (names.train_tables_1_2_seconds, tables_1_2, 3, 60),
    ],
)
def test_the_first_run_is_not_timed(benchmark, figure, target, members, monkeypatch) -> None:
    """Five seeds of the published settings, after a run that pays for what is built once."""
    runs: list[tuple[object, int]] = []
    monkeypatch.setattr(figure, "run", lambda settings, *, seed: runs.append((settings, seed)))
    record = benchmark()
    assert runs[-5:] == [(figure.AS_PUBLISHED, seed) for seed in range(5)]
    assert len(runs) == 6
    assert record.unit == "s"
    assert record.target == target
    assert record.note.startswith(f"median of 5; {members} members, ")


def test_medians_and_targets() -> None:
    runs: list[int] = []
    record = seconds(runs.append, target=1.0, note="appending")
    assert runs == [0, 1, 2, 3, 4]
    assert record.met(1.0)
    assert record.note == "median of 5; appending"
    assert not Record(2.0, "s", target=1.0).met(1.0)
    assert Record(2.0, "s", target=1.0).met(2.0)  # in units
    assert not Record(2.0, "s", target=5.0).met(0.3)
    for size in (0.1, 10.0):  # which is of times alone
        assert Record(2.0, "x", target=1.0).met(size)
        assert not Record(0.5, "x", target=1.0).met(size)
        assert not Record(None, "s", target=1.0).met(size)
        assert not Record(2.0, "", target=1.0).met(size)
        assert Record(0.5, "GiB", target=1.0).met(size)
        assert Record(2.0, "s").met(size) is None


def test_the_unit_is_the_same_work_each_time() -> None:
    """About as much of SymPy, of Python and of torch, and no more for what is cached."""
    assert unit.algebra() == unit.algebra() > 0
    assert unit.interpretation() == unit.interpretation()
    assert unit.tensors() == unit.tensors()
    assert 0.05 < unit.seconds(repeats=1) < 60


def test_json_has_every_field() -> None:
    records = {"a": Record(1.5, "x", 1.0, 3.0, 1.5, "how"), "b": Record(1.0, "s")}
    nothing = dict.fromkeys(("target", "peer", "ratio", "units", "peer_units"))
    assert json.loads(to_json(records, unit=2.0)) == {
        "unit": {"value": 2.0, "unit": "s", "units": 1.0},
        "a": nothing
        | {"value": 1.5, "unit": "x", "target": 1.0, "peer": 3.0, "ratio": 1.5, "peer_units": 1.5},
        "b": nothing | {"value": 1.0, "unit": "s", "units": 0.5},
    }


def test_failed_processes_say_why() -> None:
    with pytest.raises(RuntimeError, match="the reason"):
        process("-c", "raise SystemExit('the reason')")


def test_the_unchanged_figure_is_drawn_by_its_name(monkeypatch) -> None:
    """A figure that was renamed would leave the benchmark without a number."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(names, "process", lambda *arguments: calls.append(arguments))
    assert names.figures_unchanged_seconds().target == 10
    (drawn,) = {name for _, package, name in calls if package == "figures"}
    assert catalogue.find(drawn).name == drawn


def test_names_of_the_promised_numbers_are_there() -> None:
    assert set(names.ALL) >= {
        "train_figure_1_seconds",
        "train_figure_1_vs_dataloader_loop",
        "train_figure_1_vs_tensor_loop",
        "train_figure_2_seconds",
        "train_full_covariance_seconds",
        "train_tables_1_2_seconds",
        "import_analysis_seconds",
        "derivations_cold_seconds",
        "gate_seconds",
        "figures_unchanged_seconds",
        *(f"hypergradient_ridge_{size}_vs_jaxopt" for size in (100, 1000, 5000)),
        *(f"hypergradient_ridge_{size}_error" for size in (100, 1000, 5000)),
        "hypergradient_memory_1000_vs_10_steps",
        "hypergradient_million_gib",
        "stream_million_gib",
    }


@pytest.mark.parametrize("size", [50, 250])
def test_the_ridge_comparison(size: int, monkeypatch) -> None:
    """Dense and by CG; without jaxopt, half the numbers are missing and no more."""
    monkeypatch.setattr(ridge, "ROUNDS", (2, 2))
    monkeypatch.setattr(ridge, "theirs", lambda _: None)
    found = ridge.compare(problems.ridge(size))
    assert found.error < hypergradients.ERROR
    assert (found.products > 0) == (size > 200)
    assert found.rounds == 2
    assert found.ours > 0
    assert found.theirs is None
    assert found.their_error is None


def test_a_peer_that_is_wrong_is_seen(monkeypatch) -> None:
    problem = problems.ridge(20)
    monkeypatch.setattr(ridge, "ROUNDS", (1, 1))
    monkeypatch.setattr(ridge, "theirs", lambda p: (1.5 * p.exact).numpy)
    found = ridge.compare(problem)
    assert found.their_error == pytest.approx(0.5)
    assert found.theirs is not None


def test_records_of_the_ridge_comparison(monkeypatch) -> None:
    found = ridge.Comparison(0.2, 1e-11, 40, 7, 0.1, 2e-11)
    monkeypatch.setattr(hypergradients, "_ridge", lambda size: found)
    record = hypergradients.ridge_vs_jaxopt(1000)
    assert (record.value, record.target, record.peer, record.ratio) == (2.0, 1.0, 0.1, 0.5)
    assert record.met(1.0) is False
    assert "error of jaxopt 2e-11" in record.note
    assert hypergradients.ridge_error(1000).met(1.0)
    alone = replace(found, theirs=None, their_error=None)
    monkeypatch.setattr(hypergradients, "_ridge", lambda size: alone)
    assert hypergradients.ridge_vs_jaxopt(1000).value is None
    assert "not installed" in hypergradients.ridge_vs_jaxopt(1000).note
    assert hypergradients.ridge_error(1000).met(1.0)


def test_the_peak_is_that_of_the_process() -> None:
    """What a process held for a moment counts; what its parent holds does not."""
    held = torch.ones(300 * 2**17, dtype=torch.float64)  # 300 MiB
    code = "from benchmarks.memory import peak_gib; {}print(peak_gib())"
    low = float(process("-c", code.format("")))
    high = float(process("-c", code.format("import torch; torch.ones(300 * 2**17).double(); ")))
    assert low < 0.8
    assert high - low > 0.25
    assert memory.peak_gib() > held.numel() * 8 / 2**30


def test_the_memory_benchmark_takes_a_hypergradient() -> None:
    peak = memory.hypergradient((4, 4), rows=10, steps=2, products=3)
    assert peak.parameters == (8 * 4 + 4) + (4 * 4 + 4) + (4 * 2 + 2) + 3
    assert 1 < peak.products <= 4
    assert peak.gib > 0


def test_the_streaming_benchmark_reads_it_all(tmp_path: Path) -> None:
    streaming.synthetic(tmp_path, 3, 50)
    found = streaming.Streamed(**json.loads(process("-m", "benchmarks.streaming", str(tmp_path))))
    assert found.rows == 150
    assert 0 < found.gib < 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=store.ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--only", "import_analysis_seconds")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert list(written) == ["unit", "import_analysis_seconds"]
    share = written["import_analysis_seconds"]["value"] / written["unit"]["value"]
    assert written["import_analysis_seconds"]["units"] == pytest.approx(share)
    assert "units of" in done.stdout
    assert 0 < written["import_analysis_seconds"]["value"] < 60
    assert "1 torch threads" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_an_unknown_name(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--only", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "train_figure_1_seconds" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_loop_of_table_3_has_our_losses() -> None:
    """At one policy: likelihood and error are the same numbers, the reward's slope on average."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, 30, k, generator=generator) for k in (4, 3))
    data = Dataset.pairs(x, y)
    policy = GaussianPolicy(4, 3, "diagonal", mean=MLP((64, 64)), scale="shared")
    params = policy.init([streams.generator(0)], (1,), torch.float32)
    plain, losses = plain_loop.network(4, 3), table_3_loop.losses(data, 0.08)
    linears = [module for module in plain if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer, module in enumerate(linears):
            module.weight.copy_(params[f"mean.weight{layer}"][0].T)
            module.bias.copy_(params[f"mean.bias{layer}"][0])
    ours = policy(params, data.x)
    law = plain_loop.law_at(plain, x[0])
    torch.testing.assert_close(law.scale, ours.scale[0].detach())
    for arm, objective in (("MSE", MSE()), ("NLL", NLL())):
        got = losses[arm](law, y[0])
        torch.testing.assert_close(got, objective(ours, data)[0].detach())
    mean = law.mean.mean(0).detach().requires_grad_()
    for arm, U in (
        ("PG(implicit)", 0.08 * torch.eye(3)),
        ("PG(marginal full)", torch.linalg.inv(torch.cov(y[0].T, correction=0)) / 2),
    ):
        # the slope of E r in the mean is 2U(ȳ - m), of every row's mean the same one here
        want = 2 * U @ (mean - y[0].mean(0))  # of the loss, which is minimised
        law = torch.distributions.Normal(mean.expand(30, 3), torch.ones(3))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            draws = [torch.autograd.grad(losses[arm](law, y[0]), mean)[0] for _ in range(300)]
        slopes = torch.stack(draws)
        z = (slopes.mean(0) - want).abs() / slopes.std(0) * math.sqrt(len(slopes))
        assert bool((z < 5).all()), (arm, z)
