"""Table 3 on a small system: what is trained, on what, and what is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from figures import table_3 as drawing
from figures import tables
from paper_checks import store
from paper_checks.experiments import table_3, table_3_bilevel
from paper_checks.experiments import table_3_data as data
from paper_checks.experiments import table_3_methods as methods
from solvers.errors import InputError
from solvers.families.gaussian import Gaussian
from solvers.hypergradients.implicit import HypergradientWarning, implicit
from tests import walks
from tests.elsewhere import Elsewhere
from tests.shapes import unchecked


@pytest.fixture(autouse=True)
def small_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_3, "transitions", walks.transitions)


def problem(splits: tuple[int, ...] = (0, 1, 2), **changes: Any) -> data.Problem:
    known: dict[str, Any] = {
        "rows": (60, 30, 40),
        "by": "episode",
        "standardised": True,
        "horizon": 50,
        "stretches": 3,
        "seed": 0,
    }
    steps = walks.transitions(None, "halfcheetah", 0)
    return data.problem(steps, splits, **(known | changes))


TRAINED = ("solvers", *(f"{table_3.__name__}{part}" for part in ("", "_methods", "_bilevel")))


@pytest.mark.parametrize("settings", [walks.SMALL, walks.SMALL_AS_PUBLISHED])
def test_all_that_is_trained_is_on_the_device_of_the_data(
    settings: table_3.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every() -> pd.DataFrame:
        if settings.published:
            parts, run = table_3.PUBLISHED_PARTS, table_3._as_published
        else:
            parts, run = table_3.PARTS, table_3._corrected
        work = [table_3.Work("halfcheetah", part) for part in parts]
        return pd.concat([run(settings, 0, one, settings.splits) for one in work])

    want = every()
    data = table_3.load(
        settings,
        0,
        "halfcheetah",
        settings.splits,
        "transition" if settings.published else "episode",
    )
    monkeypatch.setattr(table_3, "load", lambda *arguments: data)
    with Elsewhere(*TRAINED):
        got = every()
    pd.testing.assert_frame_equal(got, want)


def test_data_go_to_a_device() -> None:
    there = problem().to(torch.device("meta"))
    assert there.device.type == "meta"
    whole = (there.train, there.test, there.input_units, there.rollouts)
    assert all(value.is_meta for one in whole for value in vars(one).values())
    assert there.episode.is_meta
    assert (there.splits, there.differences) == ((0, 1, 2), True)


def test_every_arm_is_measured_on_every_split() -> None:
    table = table_3.run(walks.SMALL, seed=0)
    arms = set(table.arm)
    assert {*methods.named(walks.SMALL.betas), *methods.CONSTANT, *methods.powers()} < arms
    assert {"copy the state", "least squares", "MSE", "faithful", methods.TEMPERED} < arms
    assert {table_3_bilevel.IMPLICIT, table_3_bilevel.IMPLICIT_TEMPERED} < arms
    assert set(table_3_bilevel.CONTROLS) < arms
    assert (table.groupby("arm").split.nunique() == 3).all()
    assert not table.duplicated(["environment", "arm", "split", "repetition"]).any()
    rest = table[table.arm != "MSE"]
    assert rest[[*table_3.METRICS, *table_3.ROLLOUTS]].notna().all(axis=None)
    assert table[table.arm == "MSE"].nll.isna().all()
    text = drawing.caption(table)
    assert "3 splits by episode" in text
    assert "β-NLL" in tables.markdown(drawing.summary(table))
    tables.latex(drawing.summary(table))


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    first, again, other = (table_3.run(walks.SMALL, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert (first.rmse != other.rmse).any()


def test_as_published_repetitions_share_all_but_the_noise() -> None:
    table = table_3.run(walks.SMALL_AS_PUBLISHED, seed=0)
    counts = table.groupby("arm").repetition.nunique()
    assert counts["MSE"] == counts["NLL"] == 1
    assert counts["PG(I)"] == counts["PG(implicit)"] == 2
    assert table[table.arm == "PG(I)"].rmse.nunique() == 2
    implicit = table.arm == "PG(implicit)"
    assert (table.u[implicit] > 0).all()
    assert table.u[~implicit].isna().all()
    trained = [arm for part in table_3.PUBLISHED_PARTS.values() for arm in part]
    assert sorted(map(str, trained)) == sorted(map(str, table_3.RANKED))
    assert "λn/(2 Tr S)" in drawing.caption_as_published(table)
    tables.latex(drawing.summary_as_published(table))


def test_faithful_regression_has_the_mean_of_squared_error() -> None:
    """With clipping out of the way and no early stop, step by step."""
    free = replace(walks.FAST, max_norm=1e9, every=20)
    at = problem()
    squares = methods.means(at, free, 0).trained
    _, faithful = methods.likelihood(at, free, (0.0,), 0)
    torch.testing.assert_close(
        squares.law(at.test.x).mean, faithful.law(at.test.x).mean, rtol=1e-3, atol=1e-4
    )


def test_episodes_stay_on_one_side_and_in_one_fold() -> None:
    at = problem()
    folds = at.folds(3)
    for own, fold in zip(at.episode, folds, strict=True):
        pairs = {(int(e), int(k)) for e, k in zip(own, fold, strict=True)}
        assert len(pairs) == len(own.unique())
        assert set(fold.tolist()) == {0, 1, 2}
    with pytest.raises(InputError, match="training episodes"):
        at.folds(20)
    with pytest.raises(InputError, match="are asked for"):
        problem(rows=(600, 300, 400))


def test_a_split_is_the_same_in_any_company() -> None:
    alone, among = problem((1,)), problem((0, 1, 2))
    torch.testing.assert_close(alone.train.x[0], among.train.x[1])
    torch.testing.assert_close(alone.test.mean[0], among.test.mean[1])


def test_units_come_from_training_rows() -> None:
    at = problem()
    torch.testing.assert_close(at.train.mean.mean(-2), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(at.train.mean.std(-2), torch.ones(3, 2), atol=1e-4, rtol=0)
    raw = problem(standardised=False)
    still = raw.still(raw.train.x)
    torch.testing.assert_close(still, raw.train.x[..., :2])


@pytest.mark.parametrize(("horizon", "starts"), [(54, 2), (55, 1), (56, 0)])
def test_stretches_start_wherever_an_episode_is_long_enough(horizon: int, starts: int) -> None:
    """Of one episode of 55 steps."""
    one = walks.transitions(None, "halfcheetah", 0).rows(torch.arange(walks.STEPS))
    found = data._stretches(one, one, horizon, 50, torch.Generator().manual_seed(0))
    seen = [] if found is None else found.observation[0, :, 0].unique(dim=0)
    assert len(seen) == starts


@pytest.mark.parametrize("standardised", [True, False])
def test_the_truth_rolls_out_without_an_error(standardised: bool) -> None:
    at = problem(standardised=standardised)
    assert at.rollouts is not None
    truth, count = at.rollouts.observation, iter(range(50))

    def mean(x: Tensor) -> Tensor:
        step = next(count)
        change = truth[..., step + 1, :] - standardised * truth[..., step, :]
        return at.target_units.to(change)

    for error in data.rollout_errors(at, mean, (1, 5, 50)).values():
        torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-4, rtol=0)
    assert problem(horizon=80).rollouts is None
    assert data.rollout_errors(problem(horizon=80), mean, (1,)) == {}


def test_metrics_of_a_known_law() -> None:
    at = problem()
    exact = methods.metrics(lambda x: Gaussian(at.test.mean, torch.ones(3, 1, 2)), at.test)
    assert (exact["rmse"] == 0).all()
    assert (exact["r2"] == 1).all()
    assert (exact["coverage"] == 1).all()
    torch.testing.assert_close(exact["nll"], torch.full((3,), 0.9189385), atol=1e-5, rtol=0)


def test_the_power_of_the_temperature_is_chosen_under_the_error_of_least_squares() -> None:
    at = problem((0, 1))
    y = at.validation.mean

    def off(*by: float) -> methods.LawAt:
        return lambda x: Gaussian(
            torch.stack([y + b for b in by]), torch.ones(len(by), 2, y.shape[-2], 2)
        )

    nll = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    done = torch.tensor([[True, False], [False, True]])
    squares = methods.Trained(off(0.5), done[:1], torch.zeros(1, 2))
    for by, want in (((0.6, 0.4), 1), ((0.3, 0.1), 0), ((0.9, 0.8), 1)):
        group = methods.Trained(off(*by), done, nll)
        assert methods.choose(group, squares, at).tolist() == [want, want]
    chosen = methods.select(methods.Trained(off(0.6, 0.4), done, nll), torch.tensor([1, 0]))
    assert chosen.ended.tolist() == [[False, False]]
    error = (chosen.law(at.validation.x).mean - y)[0, :, 0, 0]
    torch.testing.assert_close(error, torch.tensor([0.4, 0.6]), atol=1e-5, rtol=0)


def test_a_rollout_that_runs_away_has_an_infinite_error_alone() -> None:
    """A selected network, far from its inputs, has a scale that overflows: no error of the run."""
    at = problem((0, 1))

    def law(x: torch.Tensor) -> Gaussian:
        growth = torch.tensor([1e30, 0.0]).reshape(2, 1, 1)  # of the two splits
        mean = growth * x[..., :2].abs() + 1
        return Gaussian(mean, mean.square(), check=False)

    done = torch.tensor([[True, True]])
    chosen = methods.select(methods.Trained(law, done, torch.zeros(1, 2)), torch.tensor([0, 0]))
    found = chosen.law(at.validation.x)
    assert torch.isinf(found.scale[0, 0]).all()
    assert torch.isfinite(found.scale[0, 1]).all()


def test_the_bilevel_solver_finds_the_scalar_of_held_out_residuals() -> None:
    """Through a network of two units, solved exactly; weight decay would let the mean follow u."""
    known = problem((0,), rows=(200, 100, 100))
    found = table_3_bilevel.scalar(known, lam=1.0, seed=0, units=2, weight_decay=1e-4, steps=4)
    assert found.inner == found.solves
    assert found.slope < 1e-5
    assert found.u == pytest.approx(found.predicted, rel=5e-3)
    assert found.start < 0.9 * found.predicted


def found(at: data.Problem, training: methods.Training) -> methods.LearnedReward:
    squares = methods.means(at, training, 0)
    return methods.learn_reward(at, training, squares.residuals, squares.trained.law, 1.0, 0)


@unchecked()
def test_the_bilevel_solver_goes_on_from_the_reward_of_alternation() -> None:
    """No split ends below where it begins; a power that is given stays, the other is learned."""
    at = problem((0, 1), rows=(60, 60, 40))
    training = replace(walks.FAST, outer_steps=3, evaluations=40, outer_rate=0.1)
    begin = found(at, training)

    def learned(power: float | None, steps: int) -> table_3_bilevel.Learned:
        how = replace(training, outer_steps=steps)
        return table_3_bilevel.learned(at, how, begin, power, 1.0, 0)

    first, last = learned(None, 0), learned(None, 3)
    gain = first.trained.validation - last.trained.validation
    assert bool((gain >= 0).all())
    assert float(gain.max()) > 0.005
    assert not bool((last.power == 0.5).all())
    assert bool((learned(0.25, 1).power == 0.25).all())


def test_both_levels_are_sums_over_splits() -> None:
    """So that the hypergradient of one of them does not see the others."""

    def slope(splits: tuple[int, ...], place: int) -> dict[str, Tensor]:
        at = problem(splits)
        train, held_out = (
            methods.pairs(part.x.double(), part.mean.double()) for part in (at.train, at.validation)
        )
        levels = table_3_bilevel._Levels(replace(at, train=train), walks.FAST, 1.0, held_out)
        theta = methods.start(levels.policy, 1, at, 0)
        reward = methods.reward(at, walks.FAST)
        drawn = [reward.start(torch.Generator().manual_seed(k)) for k in splits]
        phi = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
        phi["power"] = torch.full((len(splits), 1, 1), 0.3, dtype=torch.float64)
        with pytest.warns(HypergradientWarning, match="the inner gradient is"):
            found = implicit(
                levels.J,
                levels.F,
                {name: leaf[0].double() for name, leaf in theta.items()},
                phi,
                method="dense",
                damping=100.0,
            )
        return {name: leaf[place] for name, leaf in found.value.items()}

    torch.testing.assert_close(slope((0, 1), 1), slope((1,), 0))


def test_what_trains_apart_is_kept_apart_and_the_table_is_the_same(tmp_path: Path) -> None:
    want = table_3.run(walks.SMALL, seed=0)
    place = store.Store.open(tmp_path)

    def interrupted() -> pd.DataFrame:
        table_3.run(walks.SMALL, seed=0)
        raise KeyboardInterrupt

    keywords: dict[str, Any] = {"seed": 0, "provenance": {}}
    with pytest.raises(KeyboardInterrupt):
        place.load_or_run("table-3", walks.SMALL, interrupted, **keywords)
    assert len(list(place.results.glob(".cells/*/*.parquet"))) == len(table_3.PARTS)
    found = place.load_or_run(
        "table-3", walks.SMALL, lambda: table_3.run(walks.SMALL, seed=0), **keywords
    )
    pd.testing.assert_frame_equal(found, want, check_exact=True)


def test_the_published_protocol_is_rolled_out_too() -> None:
    table = table_3.run(walks.SMALL_AS_PUBLISHED, seed=0)
    assert table[list(table_3.ROLLOUTS)].notna().all(axis=None)
