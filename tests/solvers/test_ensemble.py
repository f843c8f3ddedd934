"""Batched training: a member of a batch is the same member trained alone."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from solvers.data import Dataset, LabelledData
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.baselines import Baseline
from solvers.families.categorical import CategoricalPolicy
from solvers.families.gaussian import GaussianPolicy, Structure
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import objectives, streams
from solvers.training.ensemble import (
    DivergenceWarning,
    adam,
    clip_per_member,
    gradient_descent,
    train,
)
from solvers.training.estimators import Analytic, Estimator, ScoreFunction
from solvers.training.objectives import (
    MSE,
    NLL,
    BetaNLL,
    Faithful,
    Objective,
    PolicyGradient,
)
from tests.draws import F64, normal

BATCH = (2, 3)
MEMBERS = [(i, j) for i in range(BATCH[0]) for j in range(BATCH[1])]
N, S, INPUTS, n = 5, 4, 3, 2
EPOCHS = 20
Trajectory = list[dict[str, Tensor]]


def policy_of(structure: Structure = "full") -> GaussianPolicy:
    return GaussianPolicy(INPUTS, n, structure, MLP((6,), "tanh"), "shared")


def initial(policy: GaussianPolicy, members: list[tuple[int, int]], batch: tuple[int, ...]):
    return policy.init([streams.generator(0, "init", *member) for member in members], batch, F64)


def noise(members: list[tuple[int, int]], batch: tuple[int, ...]) -> streams.MemberNoise:
    return streams.MemberNoise([streams.generator(0, "noise", *k) for k in members], batch)


# Made where a test asks for them: what is wrong with the solvers fails a test, not its collection.
@cache
def all_data() -> Dataset:
    return Dataset.of(normal(0, *BATCH, N, INPUTS), normal(1, *BATCH, N, S, n))


LAM = 0.1 + normal(2, *BATCH).square()
FACTOR = normal(3, *BATCH, n, n).tril(-1) + torch.diag_embed(0.5 + normal(4, *BATCH, n).square())


def sampled(baseline: Baseline) -> PolicyGradient:
    return PolicyGradient(MahalanobisReward(FACTOR), LAM, ScoreFunction(3, baseline))


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "NLL": NLL,
    "MSE": MSE,
    "analytic": lambda: PolicyGradient(MahalanobisReward(FACTOR), LAM, Analytic()),
    "none": partial(sampled, "none"),
    "minimum": partial(sampled, "minimum"),
    "mean": partial(sampled, "mean"),
    "leave-one-out": partial(sampled, "leave-one-out"),
}


def of_member(objective: Objective, index: tuple[int | slice, ...]) -> Objective:
    if not isinstance(objective, PolicyGradient):
        return objective
    assert isinstance(objective.reward, MahalanobisReward)
    reward = MahalanobisReward(objective.reward.cholesky[index])
    return replace(objective, reward=reward, lam=torch.as_tensor(objective.lam)[index])


def data_of(index: tuple[int | slice, ...]) -> Dataset:
    return Dataset.of(all_data().x[index], all_data().y[index])


def trajectory(
    policy: GaussianPolicy,
    objective: Objective,
    data: Dataset,
    members: list[tuple[int, int]],
    batch: tuple[int, ...],
    max_norm: float | None = 0.05,
) -> Trajectory:
    steps: Trajectory = []

    def observe(epoch: int, params: Params) -> None:
        assert epoch == len(steps) + 1
        steps.append({name: p.detach().clone() for name, p in params.items()})

    train(
        policy,
        initial(policy, members, batch),
        objective,
        data,
        epochs=EPOCHS,
        learning_rate=0.01,
        batch_ndim=len(batch),
        noise=noise(members, batch),
        max_norm=max_norm,
        observe=observe,
    )
    return steps


@pytest.mark.gate
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_a_member_of_a_batch_is_the_member_alone(name: str, structure: Structure) -> None:
    """Step by step, every parameter, with the clipping of each member active."""
    policy, objective = policy_of(structure), OBJECTIVES[name]()
    together = trajectory(policy, objective, all_data(), MEMBERS, BATCH)
    for member in MEMBERS:
        alone = trajectory(policy, of_member(objective, member), data_of(member), [member], ())
        for epoch, (batched, single) in enumerate(zip(together, alone, strict=True), 1):
            for key, want in single.items():
                error = float((batched[key][member] - want).abs().max())
                assert error <= 1e-10, (
                    f"member {member} of a batch {BATCH} is not the member trained alone: {name}, "
                    f"{structure}, {key} differs by {error:.3e} > 1e-10 after epoch {epoch}"
                )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_members_do_not_matter(name: str) -> None:
    policy, objective = policy_of(), OBJECTIVES[name]()
    all_six = trajectory(policy, objective, all_data(), MEMBERS, BATCH)[-1]
    columns = (slice(None), slice(0, 2))
    members = [(i, j) for i, j in MEMBERS if j < 2]
    four = trajectory(policy, of_member(objective, columns), data_of(columns), members, (2, 2))
    for key, p in four[-1].items():
        torch.testing.assert_close(p, all_six[key][:, :2], rtol=0, atol=1e-12)


def test_same_seed_same_bits() -> None:
    policy, objective = policy_of(), OBJECTIVES["leave-one-out"]()
    first, second = (
        trajectory(policy, objective, all_data(), MEMBERS, BATCH)[-1] for _ in range(2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_global_random_state_is_untouched() -> None:
    before = torch.random.get_rng_state()
    trajectory(policy_of(), OBJECTIVES["none"](), all_data(), MEMBERS, BATCH)
    assert torch.equal(before, torch.random.get_rng_state())


def test_starting_point_is_left_unchanged() -> None:
    policy = policy_of()
    params = initial(policy, MEMBERS, BATCH)
    before = {key: p.detach().clone() for key, p in params.items()}
    trained = train(policy, params, NLL(), all_data(), epochs=3, learning_rate=0.1, batch_ndim=2)
    assert all(torch.equal(params[key], before[key]) for key in params)
    assert all(p.grad is None for p in params.values())
    assert not any(p.requires_grad for p in trained.values())
    assert not torch.equal(trained["mean.weight0"], before["mean.weight0"])


def test_no_epochs_return_the_start() -> None:
    policy = policy_of()
    params = initial(policy, MEMBERS, BATCH)
    trained = train(policy, params, NLL(), all_data(), epochs=0, learning_rate=0.1, batch_ndim=2)
    assert all(torch.equal(trained[key], params[key]) for key in params)
    with pytest.raises(InputError, match="epochs is -1"):
        train(policy, params, NLL(), all_data(), epochs=-1, learning_rate=0.1, batch_ndim=2)


def test_clipping_is_that_of_torch_for_every_member() -> None:
    gradients = [normal(0, 2, 3, 4, 5), normal(1, 2, 3, 5)]
    gradients[0][0, 0] *= 1e-3
    gradients[1][0, 0] *= 1e-3
    clipped = [g.clone() for g in gradients]
    clip_per_member(clipped, 0.7, 2)
    for member in MEMBERS:
        alone = [torch.zeros_like(g[member]) for g in gradients]
        for p, g in zip(alone, gradients, strict=True):
            p.grad = g[member].clone()
        torch.nn.utils.clip_grad_norm_(alone, 0.7)
        for p, g in zip(alone, clipped, strict=True):
            torch.testing.assert_close(g[member], p.grad)
    assert torch.equal(clipped[0][0, 0], gradients[0][0, 0])


def test_clipping_matters_in_the_property_test() -> None:
    policy = policy_of()
    for make in OBJECTIVES.values():
        objective = make()
        clipped = trajectory(policy, objective, all_data(), MEMBERS, BATCH)
        free = trajectory(policy, objective, all_data(), MEMBERS, BATCH, max_norm=None)
        difference = [(clipped[-1][k] - free[-1][k]).abs().flatten(2).amax(-1) for k in free[-1]]
        assert bool((torch.stack(difference).amax(0) > 1e-6).all())


def test_losses_match_their_definition() -> None:
    """MSE, NLL and the exact objective are means over rows of what the data say."""
    policy = policy_of()
    params = initial(policy, MEMBERS, BATCH)
    law = policy(params, all_data().x)
    error = all_data().y - law.mean.unsqueeze(-2)
    torch.testing.assert_close(
        objectives.MSE()(law, all_data()), error.square().sum(-1).mean((-2, -1))
    )
    rows = torch.distributions.MultivariateNormal(
        law.mean.unsqueeze(-2), scale_tril=law.scale.unsqueeze(-3)
    )
    torch.testing.assert_close(
        objectives.NLL()(law, all_data()), -rows.log_prob(all_data().y).mean((-2, -1))
    )
    U = FACTOR @ FACTOR.mT
    quadratic = torch.einsum("abNSi,abij,abNSj->abNS", error, U, error).mean((-2, -1))
    spread = torch.einsum("abNij,abji->abN", law.covariance, U).mean(-1)
    want = quadratic + spread - LAM * law.entropy().mean(-1)
    torch.testing.assert_close(OBJECTIVES["analytic"]()(law, all_data()), want)


ROWS, C = 7, 3
CLASSIFIER = CategoricalPolicy(INPUTS, C, MLP((6,), "tanh"))


@cache
def labelled() -> LabelledData:
    return LabelledData.soft(normal(0, ROWS, INPUTS), normal(1, ROWS, C).softmax(-1))


@cache
def class_reward() -> ClassReward:
    return ClassReward(normal(5, *BATCH, ROWS, C, C))


def per_row(by: Estimator, index: tuple[int, ...]) -> Objective:
    """Each member's reward of each input: the batch has to be cut out of it."""
    return PolicyGradient(ClassReward(class_reward().table[index]), LAM[index], by)


def classify(
    members: list[tuple[int, int]],
    batch: tuple[int, ...],
    objective: Objective,
    orders: streams.MemberNoise,
    **options: Any,
) -> Trajectory:
    steps: Trajectory = []

    def observe(epoch: int, params: Params) -> None:
        assert epoch == len(steps) + 1
        steps.append({name: p.detach().clone() for name, p in params.items()})

    start = CLASSIFIER.init([streams.generator(0, "init", *k) for k in members], batch, F64)
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 3, "learning_rate": 0.05, **options}
    trained = train(
        CLASSIFIER, start, objective, labelled(),
        batch_ndim=len(batch), shuffle=orders, observe=observe, **settings,
    )  # fmt: skip
    assert all(torch.equal(steps[-1][name], p) for name, p in trained.items())
    assert len(steps) == settings["epochs"]
    return steps


@pytest.mark.parametrize("by", [Analytic(), ScoreFunction(3)])
def test_a_classifier_of_a_batch_is_the_classifier_alone(by: Estimator) -> None:
    """Each with its own order of the data, the last batch of an epoch smaller than the others."""

    def run(members: list[tuple[int, int]], batch: tuple[int, ...], index: tuple[int, ...]):
        objective, orders = per_row(by, index), noise(members, batch)
        own = streams.MemberNoise([streams.generator(1, "noise", *k) for k in members], batch)
        return classify(members, batch, objective, orders, noise=own)

    together, again = (run(MEMBERS, BATCH, ()) for _ in range(2))
    assert all(torch.equal(together[-1][key], again[-1][key]) for key in again[-1])
    for member in MEMBERS:
        alone = run([member], (), member)
        for batched, single in zip(together, alone, strict=True):
            for key, want in single.items():
                torch.testing.assert_close(batched[key][member], want, rtol=0, atol=1e-10)


def test_one_order_for_all_is_the_same_order_for_each() -> None:
    shared = streams.MemberNoise([streams.generator(0, "order")])
    each = streams.MemberNoise([streams.generator(0, "order") for _ in MEMBERS], BATCH)
    one, many = (classify(MEMBERS, BATCH, NLL(), orders) for orders in (shared, each))
    other = classify(MEMBERS, BATCH, NLL(), noise(MEMBERS, BATCH))
    for key, want in many[-1].items():
        torch.testing.assert_close(one[-1][key], want, rtol=0, atol=1e-10)
        assert bool((one[-1][key] - other[-1][key]).abs().flatten(2).amax(-1).gt(1e-6).all())


@pytest.mark.usefixtures("as_users_run")
def test_the_size_of_a_batch_may_be_a_number_of_numpy() -> None:
    one, other = (
        classify([(0, 1)], (), NLL(), noise([(0, 1)], ()), batch_size=size)
        for size in (3, np.int64(3))
    )
    assert all(torch.equal(one[-1][name], other[-1][name]) for name in one[-1])


def test_classifiers_are_trained_as_torch_would() -> None:
    """On the same batches, with the penalty in the loss instead of the optimiser."""
    for rho in (0.0, 0.3):
        found = classify([(0, 1)], (), NLL(), noise([(0, 1)], ()), weight_decay=rho)
        drawn = CLASSIFIER.init([streams.generator(0, "init", 0, 1)], (), F64)
        theta, orders = list(drawn.values()), noise([(0, 1)], ())
        optimiser = torch.optim.Adam(theta, lr=0.05)
        for epoch in found:
            order = orders.permutation(ROWS)
            for rows in (order[:3], order[3:6], order[6:]):
                hidden = torch.tanh(labelled().x[rows] @ theta[0] + theta[1])
                logits = hidden @ theta[2] + theta[3]
                loss = torch.nn.functional.cross_entropy(logits, labelled().pi[rows])
                optimiser.zero_grad()
                (loss + rho / 2 * sum(p.square().sum() for p in theta)).backward()
                optimiser.step()
            for got, want in zip(epoch.values(), theta, strict=True):
                torch.testing.assert_close(got, want.detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("epochs", "batch_size"), [(-1, 3), (1, 0)])
def test_what_training_of_classifiers_refuses(epochs: int, batch_size: int) -> None:
    order = streams.MemberNoise([streams.generator(0)])
    with pytest.raises(InputError, match=r"epochs is -1: pass|batch_size is 0: pass"):
        classify(MEMBERS, BATCH, NLL(), order, epochs=epochs, batch_size=batch_size)


SHAPES = st.sampled_from([(), (1,), (2,), (3,), (2, 3), (3, 2), (2, 1)])


@pytest.mark.usefixtures("as_users_run")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=SHAPES, lam=SHAPES, reward=SHAPES, data=SHAPES)
def test_one_loss_per_member_or_an_error_that_says_so(
    members: tuple[int, ...], lam: tuple[int, ...], reward: tuple[int, ...], data: tuple[int, ...]
) -> None:
    """Never on the sum of the losses of others: what is trained has the members' shape."""
    policy = GaussianPolicy(INPUTS, n)
    start = {k: p.expand(*members, *p.shape).clone() for k, p in policy.zeros(F64).items()}
    objective = PolicyGradient(
        MahalanobisReward.scalar(torch.ones(reward, dtype=F64), n), torch.ones(lam, dtype=F64)
    )
    there = Dataset.of(normal(0, *data, N, INPUTS), normal(1, *data, N, S, n))
    run = partial(train, policy, start, objective, there, epochs=1, learning_rate=0.1)
    if len(reward) == len(members) + 1 and reward[-1] in (1, N):
        reward = reward[:-1]  # it has an axis of the inputs
    # the members of a reward lead those of the policy, those of λ and of data come last
    leading = reward + (1,) * (len(members) - len(reward))
    try:
        whole = torch.broadcast_shapes(members, lam, leading, data)
    except RuntimeError:
        whole = None
    if whole == members and len(reward) <= len(members):
        trained = run(batch_ndim=len(members))
        assert all(p.shape == start[name].shape for name, p in trained.items())
    else:
        with pytest.raises(ShapeError):
            run(batch_ndim=len(members))


@pytest.mark.parametrize("descend", [adam, gradient_descent])
@pytest.mark.parametrize(
    ("params", "ndim", "words"),
    [
        ({"a": (2,), "b": (2, 3)}, 2, r"params\['a'\] has shape \(2,\), and batch_ndim is 2"),
        ({"a": ()}, 1, r"params\['a'\] has shape \(\), and batch_ndim is 1"),
        ({"a": (2, 3)}, 5, r"has shape \(2, 3\), and batch_ndim is 5"),
        ({"a": (2, 3), "b": (3, 3)}, 1, r"is of members \(3,\), params\['a'\] of \(2,\)"),
        ({"a": (2, 3), "b": (1, 3)}, 1, r"is of members \(1,\), params\['a'\] of \(2,\)"),
    ],
)
def test_parameters_are_of_the_same_members(
    descend: Any, params: dict[str, tuple[int, ...]], ndim: int, words: str
) -> None:
    def never(theta: Params, step: int) -> Tensor:
        raise AssertionError("no work before the parameters are looked at")

    start = {name: torch.ones(shape, dtype=F64) for name, shape in params.items()}
    with pytest.raises(ShapeError, match=words):
        descend(start, never, steps=1, learning_rate=0.1, batch_ndim=ndim)


@pytest.mark.parametrize("ndim", [0, 1])
def test_members_of_one_number_each_are_clipped(ndim: int) -> None:
    gradient = torch.tensor([100.0, -200.0][: 1 + ndim], dtype=F64)[(0,) * (1 - ndim)]
    clipped = gradient.clone()
    clip_per_member([clipped], 0.5, ndim)
    torch.testing.assert_close(clipped, 0.5 * gradient.sign())
    live: list[Tensor] = []

    def loss(p: Params, step: int) -> Tensor:
        live[:] = [p["a"]]
        return gradient * p["a"]

    start = {"a": torch.zeros_like(gradient)}
    adam(start, loss, steps=1, learning_rate=0.1, batch_ndim=ndim, max_norm=0.5)
    assert live[0].grad is not None
    torch.testing.assert_close(live[0].grad, clipped)


@pytest.mark.parametrize("objective", [NLL(), MSE(), BetaNLL(), Faithful()])
@pytest.mark.parametrize("rows", [1, 2, N - 1, 2 * N])
def test_laws_and_data_of_other_inputs(objective: Any, rows: int) -> None:
    policy = policy_of("diagonal")
    params = {k: p[0, 0] for k, p in initial(policy, MEMBERS, BATCH).items()}
    law = policy(params, normal(0, N, INPUTS))
    other = Dataset.of(normal(0, rows, INPUTS), normal(1, rows, S, n))
    if rows == 1:  # shared by all inputs
        assert objective(law, other).shape == ()
        return
    with pytest.raises(ShapeError, match=rf"\({rows},\).*\({N},\)"):
        objective(law, other)


BAD = st.sets(st.integers(0, 3), min_size=1)


@settings(max_examples=15)
@given(BAD, st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_members_that_start_where_their_loss_is_undefined(bad: set[int], value: float) -> None:
    offset = torch.zeros(4, dtype=F64)
    offset[list(bad)] = value

    words = rf"at the start of {len(bad)} of 4 members \(\["
    with pytest.raises(NonFiniteError, match=words) as refused:
        adam(
            {"a": torch.ones(4, 2, dtype=F64)}, lambda p, _: p["a"].sum(-1) + offset,
            steps=3, learning_rate=0.1, batch_ndim=1,
        )  # fmt: skip
    assert ", ".join(f"[{k}]" for k in sorted(bad)) in str(refused.value)


@pytest.mark.usefixtures("as_users_run")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(BAD, st.integers(2, 5), st.sampled_from([adam, gradient_descent]))
def test_members_that_diverge_are_lost_alone(bad: set[int], at: int, descend: Any) -> None:
    """The others are trained as without them; a warning says so where none is left."""
    lost = torch.zeros(4, dtype=torch.bool)
    lost[list(bad)] = True

    def plain(p: Params, step: int) -> Tensor:
        return p["a"].square().sum(-1) + p["b"]

    def losses(p: Params, step: int) -> Tensor:
        return plain(p, step) * torch.where(lost & torch.tensor(step >= at), torch.nan, 1.0)

    start = {"a": normal(0, 4, 2), "b": normal(1, 4)}
    settings: dict[str, Any] = {"steps": 6, "learning_rate": 0.1, "batch_ndim": 1}
    want = descend(start, plain, **settings)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        got = descend(start, losses, **settings)
    assert [w.category for w in warned] == [DivergenceWarning] * (len(bad) == 4)
    assert all(r"of 4 of 4 members ([0], [1], [2], [3]) are" in str(w.message) for w in warned)
    for name, p in got.items():
        assert torch.equal(p[~lost], want[name][~lost])
        assert not torch.isfinite(p[lost]).any()


def test_a_reward_that_is_undefined() -> None:
    policy = policy_of("diagonal")
    params = {k: p[0, 0] for k, p in initial(policy, MEMBERS, BATCH).items()}
    there = Dataset.of(normal(0, N, INPUTS), normal(1, N, S, n))

    def reward(generation: Tensor, y: Tensor) -> Tensor:
        return (generation - y).sum(-1) * torch.nan

    with pytest.raises(NonFiniteError, match="the loss is nan at the start: pass data, rewards"):
        train(
            policy, params, PolicyGradient(reward, 0.5, ScoreFunction(3)), there, epochs=2,
            learning_rate=0.1, batch_ndim=0, noise=streams.MemberNoise([streams.generator(0)]),
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("ndim", [0, 1])
@pytest.mark.parametrize("share", [1e-3, 0.6, 0.9])
def test_gradients_whose_squares_are_infinite(dtype: torch.dtype, ndim: int, share: float) -> None:
    """Adam divides by their root, and would leave the parameters where they are, without a word."""
    size = torch.finfo(dtype).max ** share
    weight = torch.tensor([1.0, size] if ndim else size, dtype=dtype)
    start = {"a": torch.ones_like(weight)}
    settings: dict[str, Any] = {"steps": 3, "learning_rate": 0.1, "batch_ndim": ndim}

    def loss(p: Params, step: int) -> Tensor:
        return weight * p["a"]

    if share < 0.5:
        moved = adam(start, loss, **settings)["a"]
        torch.testing.assert_close(moved, torch.full_like(moved, 0.7))
    else:
        of = r" of 1 of 2 members \(\[1\]\)" if ndim else ""
        with pytest.raises(NonFiniteError, match=f"square of the gradient{of} is infinite"):
            adam(start, loss, **settings)
        with pytest.warns(DivergenceWarning, match=f"squares of gradients{of} have become"):
            adam(start, lambda p, k: loss(p, k) if k == 3 else p["a"], **settings)
    moved = adam(start, loss, max_norm=1.0, **settings)["a"]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.7))


def test_what_an_observer_keeps_is_its_own() -> None:
    start, kept = {"a": torch.ones(3, dtype=F64)}, list[Params]()

    def observe(step: int, p: Params) -> None:
        kept.append(p)
        p["a"].zero_() if step == 2 else None

    settings: dict[str, Any] = {"steps": 4, "learning_rate": 0.1, "batch_ndim": 1}
    found = adam(start, lambda p, _: p["a"].square(), observe=observe, **settings)
    assert torch.equal(found["a"], adam(start, lambda p, _: p["a"].square(), **settings)["a"])
    for step in (1, 3, 4):
        settings["steps"] = step
        alone = adam(start, lambda p, _: p["a"].square(), **settings)
        assert torch.equal(kept[step - 1]["a"], alone["a"])
        assert not kept[step - 1]["a"].requires_grad


ENDS: dict[str, tuple[Any, bool]] = {
    "True": (True, True),
    "NumPy's": (np.float64(1) > 0, True),
    "torch's": (torch.tensor(1) > 0, True),
    "False": (False, False),
    "NumPy's False": (np.float64(1) < 0, False),
    "torch's False": (torch.tensor(1) < 0, False),
    "None": (None, False),
    "a number": (1.0, False),
    "a loss": (torch.tensor(1.0), False),
    "of members": (torch.tensor([True, True]), False),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_ends_a_training(what: str) -> None:
    said, ends = ENDS[what]
    seen: list[int] = []

    def observe(step: int, p: Params) -> Any:
        seen.append(step)
        return said

    adam(
        {"a": torch.ones(2)}, lambda p, _: p["a"].square(), steps=3, learning_rate=0.1,
        batch_ndim=1, observe=observe,
    )  # fmt: skip
    assert seen == ([1] if ends else [1, 2, 3])
