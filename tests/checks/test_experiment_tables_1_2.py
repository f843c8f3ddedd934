"""Tables 1 and 2 on small settings: what is trained, on what, and what is measured."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from paper_checks.experiments import arms, tables_1_2
from paper_checks.experiments import tables_1_2_methods as methods
from solvers.data import LabelledData
from solvers.families.categorical import Categorical
from solvers.rewards.between_classes import gibbs
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient
from tests.labelled import labelled_by

PUBLISHED = replace(
    tables_1_2.AS_PUBLISHED, names=("iris",), epochs=2, repetitions=3, generations=4
)
CORRECTED = replace(
    tables_1_2.CORRECTED,
    names=("iris",),
    arms=(arms.NLL, arms.PG_BETA, arms.PG_DIAGONAL),
    splits=(0, 1),
    repetitions=2,
    updates=3,
    optimum=False,
    processes=False,
)


def problem(weight_decay: float = 1.0) -> methods.Problem:
    return methods.load(
        "iris", 3, scaler="train", weight_decay=weight_decay, lam=0.1, estimates=True
    )


def sorted_rows(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    keys = ["name", "split", "stage", "epoch", "repetition"]
    return table[table.arm == arm].sort_values(keys, ignore_index=True)


def test_every_run_is_in_the_table() -> None:
    table = tables_1_2.run(replace(CORRECTED, optimum=True), seed=0)
    counts = table.groupby(["arm", "stage"]).size()
    for arm in CORRECTED.arms:
        assert counts[arm.label].to_dict() == {
            "training": 2 * 4 * 2,
            "trained": 2 * 2,
            "optimum": 2,
        }
    trained, training = table[table.stage != "training"], table[table.stage == "training"]
    assert trained[list(tables_1_2.METRICS)].notna().all(axis=None)
    assert training[["validation", "last_batch"]].notna().all(axis=None)
    assert set(training.epoch) == {0, 1, 2, 3}  # one batch an epoch
    assert not table.duplicated(["arm", "split", "stage", "epoch", "repetition"]).any()
    assert table[table.stage == "optimum"].converged.all()
    assert table[table.arm == "PG(diag)"].converged.all()
    fixed = table[(table.stage != "optimum") & (table.arm != "PG(diag)")]
    assert fixed.converged.isna().all()


@pytest.mark.parametrize("settings", [PUBLISHED, CORRECTED], ids=["published", "corrected"])
def test_same_seed_same_bits_and_other_seeds_differ(settings: tables_1_2.Settings) -> None:
    first, again, other = (tables_1_2.run(settings, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not np.allclose(*(t[t.stage == "trained"].nll for t in (first, other)))


@pytest.mark.parametrize("settings", [PUBLISHED, CORRECTED], ids=["published", "corrected"])
@pytest.mark.parametrize("arm", [arms.NLL, arms.PG_BETA], ids=str)
def test_other_arms_do_not_change_a_run(settings: tables_1_2.Settings, arm: arms.Arm) -> None:
    whole, alone = (
        tables_1_2.run(each, seed=0) for each in (settings, replace(settings, arms=(arm,)))
    )
    pd.testing.assert_frame_equal(
        sorted_rows(whole, arm.label), sorted_rows(alone, arm.label), rtol=1e-5
    )


def test_paired_arms_start_from_the_same_policies_and_published_ones_do_not() -> None:
    for settings, same in ((CORRECTED, True), (PUBLISHED, False)):
        table = tables_1_2.run(replace(settings, epochs=0), seed=0)
        start = table[table.stage == "trained"].pivot(
            index=["split", "repetition"], columns="arm", values="nll"
        )
        assert bool((start.nunique(axis=1) == 1).all()) is same
        assert start["NLL"].nunique() == len(start)


def test_processes_change_nothing() -> None:
    threads, processes = (
        tables_1_2.run(replace(CORRECTED, processes=each), seed=0) for each in (False, True)
    )
    pd.testing.assert_frame_equal(threads, processes, check_exact=True)


def test_plug_ins_teach_the_estimate_and_heuristics_do_not() -> None:
    """At free logits: the diagonal gives π̂ itself, and u* the likeliest law of its kind."""
    given = problem()
    pi, lam = given.distilled.pi, given.lam

    def likelihood(arm: arms.Arm) -> tuple[torch.Tensor, float]:
        taught = methods.reward(given, arm)
        law = gibbs(taught.reward, lam, pi)
        plug_in = arm in (arms.PG_SCALAR, arms.PG_DIAGONAL)
        assert (taught.data is given.distilled) == plug_in
        assert taught.converged is (True if plug_in else None)
        return law.p, float(law.cross_entropy(labelled_by(pi)).mean())

    ordered = (arms.PG_DIAGONAL, arms.PG_SCALAR, arms.PG_BETA, arms.PG_TWICE_BETA)
    (taught, *_), losses = zip(*map(likelihood, ordered), strict=True)
    torch.testing.assert_close(taught, pi, rtol=0, atol=1e-12)
    assert list(losses) == sorted(losses)
    assert losses[0] < losses[1] - 1e-3 < losses[2] - 2e-3


def test_the_published_scale_is_that_of_the_sample_covariance() -> None:
    given = problem()
    taught = methods.reward(given, arms.PG_BETA)
    beta = 0.1 * 3 / (2 * np.trace(np.cov(given.train.pi.numpy().T)))
    want = -2 * beta * (1 - np.eye(3))
    np.testing.assert_allclose(taught.reward.table[0].numpy(), want, rtol=1e-12)
    assert taught.data is given.train


def test_the_learned_reward_gives_maximum_likelihood() -> None:
    given = problem()
    learned, likely = (
        given.policy(methods.solve(given, taught).value, given.test.x)
        for taught in (methods.reward(given, arms.PG_LEARNED), None)
    )
    nll = [float(law.cross_entropy(given.test).mean()) for law in (learned, likely)]
    assert nll[0] == pytest.approx(nll[1], rel=0.01)
    torch.testing.assert_close(learned.p, likely.p, rtol=0, atol=0.01)


def test_the_last_batch_is_what_full_ones_leave() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    data = LabelledData.of(torch.zeros(5, 1), labels, 2)
    law = Categorical(torch.tensor([[1.0, 0.0]]).expand(5, 2))  # right on the first three
    for size, want in ((2, 0.0), (3, 0.0), (4, 0.0), (5, 0.6), (128, 0.6)):
        found = tables_1_2._accuracy_of_last_batch(law, data, size)
        assert float(found) == pytest.approx(want)


def test_a_learned_reward_that_is_not_found_marks_all_its_rows(monkeypatch) -> None:
    monkeypatch.setattr(methods, "OUTER_STEPS", 2)
    settings = replace(CORRECTED, arms=(arms.NLL, arms.PG_LEARNED), splits=(0,), optimum=True)
    table = tables_1_2.run(settings, seed=0)
    learned = table[table.arm == "PG(learned)"].converged
    assert learned.notna().all()
    assert not learned.any()
    assert table[(table.arm == "NLL") & (table.stage == "optimum")].converged.all()


def test_a_learned_reward_is_found() -> None:
    assert methods.learn(problem()).converged


def test_a_learned_reward_is_solved_at_the_best_inner_maximum_known(monkeypatch) -> None:
    # A split where the loop, started once, ends on an inner maximum that training from 0 beats.
    given = methods.load(
        "breast_cancer", 4242546227, scaler="train", weight_decay=1.0, lam=0.1, estimates=False
    )

    def inner_objective(taught: methods.Taught, params: dict[str, torch.Tensor]) -> float:
        loss = PolicyGradient(taught.reward, given.lam)
        decay = given.lam * inner.decay(params, given.weight_decay)
        return -float(loss(given.policy(params, given.train.x), given.train) + decay)

    taught = methods.learn(given)
    own, fresh = (methods.solve(given, each) for each in (taught, replace(taught, start=None)))
    assert taught.converged
    assert own.converged
    gain = inner_objective(taught, fresh.value) - inner_objective(taught, own.value)
    assert gain <= methods.BETTER * given.lam
    likely = methods.solve(given, None)
    nll = [
        float(NLL()(given.policy(each.value, given.train.x), given.train)) for each in (own, likely)
    ]
    assert nll[0] == pytest.approx(nll[1], rel=0.01)

    monkeypatch.setattr(methods, "RESTARTS", 0)
    once = methods.learn(given)
    assert not once.converged  # because training from 0 is better by far more than BETTER:
    own, fresh = (methods.solve(given, each) for each in (once, replace(once, start=None)))
    gain = inner_objective(once, fresh.value) - inner_objective(once, own.value)
    assert gain > 10 * methods.BETTER * given.lam


def test_a_fit_that_is_not_found_marks_its_plug_ins() -> None:
    given = replace(problem(), estimated=False)
    for arm in (arms.PG_SCALAR, arms.PG_DIAGONAL):
        assert methods.reward(given, arm).converged is False
    assert methods.reward(given, arms.PG_BETA).converged is None
