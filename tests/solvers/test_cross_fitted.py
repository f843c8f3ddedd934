"""Early stopping, and a reward learned from residuals of held-out rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.bilevel import cross_fitted
from solvers.data import Dataset
from solvers.errors import InputError, ShapeError
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.rewards.learnable import InputReward
from solvers.training.early_stopping import EarlyStopping
from solvers.training.ensemble import adam
from solvers.training.streams import generator
from tests.draws import F64

MODEL = InputReward(1, 2, MLP(), "diagonal")


def residuals(seed: int, rows: int) -> Dataset:
    """Residuals of variance `exp(x)` and `exp(-x)`."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 1, generator=g, dtype=F64)
    scale = torch.cat([x / 2, -x / 2], -1).exp()
    return Dataset.pairs(x, scale * torch.randn(rows, 2, generator=g, dtype=F64))


def members(*seeds: int) -> dict[str, Tensor]:
    drawn = [MODEL.start(generator(seed)) for seed in seeds]
    return {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}


def side_by_side(*parts: Dataset) -> Dataset:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Dataset(*map(torch.stack, columns))


def test_the_learned_reward_is_half_lam_over_the_variance() -> None:
    data, lam = residuals(0, 4000), 0.6
    found = cross_fitted.learn(
        MODEL,
        MODEL.start(generator(0)),
        lam,
        data,
        residuals(1, 4000),
        steps=600,
        learning_rate=0.03,
    )
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=F64)
    variance = torch.cat([x, -x], -1).exp()
    torch.testing.assert_close(
        MODEL.weights(found.value, x), lam / (2 * variance), rtol=0.1, atol=0
    )
    law = cross_fitted.inner_law(MODEL, found.value, lam, x)
    torch.testing.assert_close(law.scale.square(), variance, rtol=0.1, atol=0)
    torch.testing.assert_close(
        MODEL(found.value, x).U.diagonal(dim1=-2, dim2=-1), MODEL.weights(found.value, x)
    )


def test_members_are_learned_as_if_alone() -> None:
    few, many = residuals(2, 20), residuals(3, 20)
    batch = side_by_side(few, many)
    settings: dict[str, Any] = {"steps": 40, "learning_rate": 0.05, "weight_decay": 1e-3}
    both = cross_fitted.learn(MODEL, members(0, 1), 1.0, batch, batch, **settings)
    for k, data in enumerate((few, many)):
        one = cross_fitted.learn(MODEL, MODEL.start(generator(k)), 1.0, data, data, **settings)
        for name, p in one.value.items():
            torch.testing.assert_close(both.value[name][k], p)
        torch.testing.assert_close(both.loss[k], one.loss)


def test_a_reward_of_another_kind_or_dimension_is_refused() -> None:
    data = residuals(0, 10)
    full, three = InputReward(1, 2, MLP()), InputReward(1, 3, MLP(), "diagonal")
    with pytest.raises(InputError, match="kind='diagonal'"):
        cross_fitted.learn(
            full, full.start(generator(0)), 1.0, data, data, steps=2, learning_rate=0.1
        )
    with pytest.raises(ShapeError, match="n = 3"):
        cross_fitted.learn(
            three, three.start(generator(0)), 1.0, data, data, steps=2, learning_rate=0.1
        )


def followed(goals: Tensor, **settings: Any) -> EarlyStopping:
    """Members that walk through `0 .. 9`; each is to stop at its goal."""
    stop = EarlyStopping(lambda p: (p["a"] - goals).abs(), **settings)
    for step in range(1, 11):
        if stop(step, {"a": torch.full_like(goals, step - 1.0)}):
            break
    return stop


def test_every_member_keeps_its_own_best() -> None:
    stop = followed(torch.tensor([2.0, 5.0]), patience=2)
    assert stop.best()["a"].tolist() == [2.0, 5.0]
    assert stop.step.tolist() == [3, 6]
    assert stop.score.tolist() == [0.0, 0.0]
    assert stop.ended
    other = followed(torch.tensor([2.0, 9.0]), patience=2)
    assert not other.ended
    assert other.done.tolist() == [True, False]


def test_looks_are_taken_every_so_often() -> None:
    stop = followed(torch.tensor([2.0]), every=5)
    assert stop.step.tolist() == [5]
    with pytest.raises(InputError, match="train for 50 steps or more"):
        followed(torch.tensor([2.0]), every=50).best()


def test_small_gains_are_kept_and_give_no_more_time() -> None:
    stop = followed(torch.tensor([9.0]), patience=2, least=20.0)
    assert stop.ended
    assert stop.step.tolist() == [3]


def test_what_is_not_a_number_is_never_kept() -> None:
    stop = EarlyStopping(lambda p: p["a"])
    for step, value in enumerate((torch.nan, 1.0, torch.nan), 1):
        stop(step, {"a": torch.tensor(value)})
    assert stop.best()["a"] == 1.0


def test_one_score_per_member_is_asked_for() -> None:
    stop = EarlyStopping(lambda p: p["a"].flatten())
    with pytest.raises(ShapeError, match="one number per member"):
        stop(1, {"a": torch.zeros(2, 3)})


def test_training_ends_with_the_last_member() -> None:
    seen: list[int] = []

    def losses(theta: Params, step: int) -> Tensor:
        seen.append(step)
        return theta["a"].square()

    def observe(step: int, theta: Params) -> bool:
        return step == 3

    adam({"a": torch.ones(2)}, losses, steps=10, learning_rate=0.1, batch_ndim=1, observe=observe)
    assert seen == [1, 2, 3]


def test_early_stopping_is_of_one_training() -> None:
    """It would compare one training with another, and return parameters of the first."""
    stop = EarlyStopping(lambda p: p["a"].square(), every=2)
    settings: dict[str, Any] = {"steps": 5, "learning_rate": 0.1, "batch_ndim": 1, "observe": stop}
    adam({"a": torch.ones(2)}, lambda p, _: p["a"].square(), **settings)
    before = {name: p.clone() for name, p in stop.best().items()}
    with pytest.raises(InputError, match=r"step 1 comes after step 5: pass a new EarlyStopping"):
        adam({"a": torch.ones(2)}, lambda p, _: p["a"].square(), **settings)
    assert all(torch.equal(p, before[name]) for name, p in stop.best().items())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_score_of_no_real_numbers_is_named(dtype: torch.dtype) -> None:
    stop = EarlyStopping(lambda p: p["a"].to(dtype))
    with pytest.raises(InputError, match=f"the score is {dtype}"):
        stop(1, {"a": torch.ones(2)})
