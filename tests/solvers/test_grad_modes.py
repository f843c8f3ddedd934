"""Whoever calls may have switched gradients off: the same numbers under every mode."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import solvers as so
from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.bilevel.single_loop import single_loop
from solvers.data import Dataset, LabelledData
from solvers.families.categorical import CategoricalPolicy
from solvers.families.gaussian import GaussianPolicy
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.functional import functional
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.methods import Implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, Adam, one_step, unrolled
from solvers.rewards import bounded
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.learnable import ConstantReward
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient
from solvers.training.reference import Distilled, Reference
from tests.draws import F64, normal
from tests.fuzz import calls, oracle, spoiling

INF = float("inf")
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
}
modes = pytest.mark.parametrize("mode", MODES)


def J(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).square().sum() - 0.1 * theta.square().sum()


def F(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - 3).square().sum() - 0.2 * phi.square().sum()


@dataclass(frozen=True)
class Inputs:
    """Everything a solver is given, made where this is."""

    phi: Tensor = field(default_factory=lambda: torch.tensor([0.5, -1.0], dtype=F64))
    one: Tensor = field(default_factory=lambda: torch.ones((), dtype=F64))
    small: Tensor = field(default_factory=lambda: torch.tensor(0.05, dtype=F64))
    identity: Tensor = field(default_factory=lambda: torch.eye(2, dtype=F64))
    reward: MahalanobisReward = field(
        default_factory=lambda: MahalanobisReward.full(torch.eye(2, dtype=F64))
    )
    policy: GaussianPolicy = field(default_factory=lambda: GaussianPolicy(2, 2, "full"))
    params: dict[str, Tensor] = field(
        default_factory=lambda: GaussianPolicy(2, 2, "full").init(
            [torch.Generator().manual_seed(0)], dtype=F64
        )
    )
    data: Dataset = field(default_factory=lambda: Dataset.of(normal(0, 9, 2), normal(1, 9, 1, 2)))
    labels: LabelledData = field(
        default_factory=lambda: LabelledData.soft(normal(2, 9, 2), normal(3, 9, 3).softmax(-1))
    )

    @property
    def point(self) -> tuple[Tensor, Tensor]:
        return self.phi / 1.1, self.phi


def problem() -> bilevel.Bilevel:
    return bilevel.Bilevel(J, F)


def by_functional(given: Inputs) -> Any:
    reward = ConstantReward(2, "full")
    phi, x = reward.start(given.identity), given.data.x
    return functional(
        given.policy, given.params, lambda p: reward(p, x), phi, 0.5, given.data, distance=INF
    )


def by_bounded_reward(given: Inputs) -> Any:
    with pytest.warns(bounded.NoGlobalMaximumWarning):
        return bounded.inner_solution(
            bounded.BoundedReward(given.one), given.small, given.phi, given.one
        )


# what takes trees of tensors only
TREES: dict[str, Callable[[Inputs], Any]] = {
    "dense": lambda given: implicit(J, F, *given.point, method="dense"),
    "cg": lambda given: implicit(J, F, *given.point, method="cg"),
    "neumann": lambda given: implicit(J, F, *given.point, method="neumann"),
    "nystrom-cg": lambda given: implicit(
        J, F, *given.point, method="nystrom-cg", generator=torch.Generator().manual_seed(0)
    ),
    "unrolled": lambda given: unrolled(
        J, F, *given.point, optimiser=Adam(0.1), steps=4, last=2, tolerance=INF, distance=INF
    ),
    "one_step": lambda given: one_step(
        J, F, *given.point, optimiser=SGD(0.1), tolerance=INF, distance=INF
    ),
    "penalty": lambda given: penalty(J, F, *given.point, weight=1e4),
    "solve": lambda given: bilevel.solve(
        problem(), *given.point, optimiser=lambda p: torch.optim.Adam(p, lr=0.1), steps=3
    ),
    "solve by L-BFGS": lambda given: bilevel.solve(
        problem(), *given.point, optimiser=torch.optim.LBFGS, steps=2
    ),
    "solve by steps of Adam": lambda given: bilevel.solve(
        problem(), *given.point, optimiser=lambda p: torch.optim.SGD(p, lr=0.1), steps=2,
        inner=bilevel.AdamSteps(3, 0.1), hypergradient=Implicit(damping=0.0, distance=INF),
    ),
    "single_loop": lambda given: single_loop(
        problem(), *given.point, steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
    ),
    "minimum": lambda given: inner.minimum(
        {"t": given.phi}, lambda p: -J(p["t"], torch.ones(2, dtype=F64))
    ),
    "inner_solution": lambda given: inner_solution(J, *given.point),
}  # fmt: skip
# what takes data, laws and rewards, which hold tensors
OBJECTS: dict[str, Callable[[Inputs], Any]] = {
    "functional": by_functional,
    "bounded reward": by_bounded_reward,
    "gradient": lambda given: inner.gradient(given.policy, given.params, NLL(), given.data),
    "second_order": lambda given: inner.second_order(
        given.policy, given.params, NLL(), given.data
    ),
    "closed_form": lambda given: inner.closed_form(given.reward, 0.5, given.phi),
    "fit": lambda given: inner.fit(
        CategoricalPolicy(2, 3), given.labels, weight_decay=0.1
    ),
    "fit on a reward": lambda given: inner.fit(
        CategoricalPolicy(2, 3), given.labels,
        PolicyGradient(ClassReward(normal(4, 1, 3, 3).clone()), given.one), weight_decay=0.1,
    ),
    "plug_in": lambda given: likelihood.plug_in(
        given.policy, given.params, given.one, given.data
    ),
}  # fmt: skip
ENTRIES = TREES | OBJECTS
entries = pytest.mark.parametrize("entry", ENTRIES)


def numbers(found: Any) -> list[Any]:
    """Return every tensor and number in a result, in order."""
    if isinstance(found, Tensor):
        return [found.detach().clone()]
    if isinstance(found, dict | list | tuple):
        return [n for part in pytree.tree_leaves(found) for n in (
            numbers(part) if not isinstance(part, dict | list | tuple) else [])]  # fmt: skip
    if hasattr(found, "__dataclass_fields__"):
        return [n for name in found.__dataclass_fields__ for n in numbers(getattr(found, name))]
    return [found]


def alike(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want)
    assert any(isinstance(n, Tensor) for n in want)
    for a, b in zip(got, want, strict=True):
        if isinstance(b, Tensor):
            assert torch.equal(a, b)
        else:
            assert a == b


@pytest.mark.gate
@modes
@entries
def test_the_same_under_every_mode(entry: str, mode: str) -> None:
    given = Inputs()
    want = numbers(ENTRIES[entry](given))
    with MODES[mode]():
        got = numbers(ENTRIES[entry](given))
    alike(got, want)


@pytest.mark.gate
@modes
@pytest.mark.parametrize("entry", TREES)
def test_inputs_made_under_every_mode(entry: str, mode: str) -> None:
    want = numbers(TREES[entry](Inputs()))
    with MODES[mode]():
        given = Inputs()
        inside = numbers(TREES[entry](given))
    alike(inside, want)
    alike(numbers(TREES[entry](given)), want)


@modes
@pytest.mark.parametrize("entry", OBJECTS)
def test_objects_made_under_every_mode(entry: str, mode: str) -> None:
    want = numbers(OBJECTS[entry](Inputs()))
    with MODES[mode]():
        got = numbers(OBJECTS[entry](Inputs()))
    alike(got, want)


@modes
@pytest.mark.parametrize("key", calls.all_calls())
@pytest.mark.filterwarnings("ignore")  # what is doubted is not the question
def test_arguments_of_every_public_callable_made_under_every_mode(key: str, mode: str) -> None:
    function, arguments = calls.all_calls()[key]
    want = list(oracle.numbers(function(**spoiling.own(arguments))))
    with MODES[mode]():  # copies are tensors of the mode they are made in
        got = list(oracle.numbers(function(**spoiling.own(arguments))))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(2, 2, dtype=F64)
        self.scale = torch.nn.Buffer(torch.ones(2, dtype=F64))
        with torch.no_grad():
            self.mean.weight.copy_(torch.eye(2))
            self.mean.bias.zero_()

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mean(x) * self.scale, self.scale)


def of_a_module() -> dict[str, Tensor]:
    policy = so.policy(Net())
    return so.fit(policy, Inputs().data, params=policy.start()).value


def of_a_teacher() -> dict[str, Tensor]:
    given = Inputs()
    taught = Distilled(given.data.x, Reference(given.policy, given.params))
    assert taught.mean.shape == (9, 2)  # kept by a cached property
    return so.fit(given.policy, taught).value


def of_frozen_parameters() -> dict[str, Tensor]:
    given = Inputs()
    still = torch.nn.Parameter(given.params["scale.raw"].detach(), requires_grad=False)
    plain = {name: p.detach() for name, p in given.params.items()}
    found = so.fit(given.policy, given.data, params=plain | {"scale.raw": still}).value
    assert torch.equal(found["scale.raw"], still)
    return found


def of_another_mapping() -> dict[str, Tensor]:
    given = Inputs()
    return so.fit(given.policy, given.data, params=MappingProxyType(given.params)).value


def by_training() -> dict[str, Tensor]:
    given = Inputs()
    return so.train(
        given.policy, given.params, PolicyGradient(given.reward, given.one), given.data,
        epochs=3, learning_rate=0.1, batch_ndim=0,
    )  # fmt: skip


def by_maximum_likelihood() -> dict[str, Tensor]:
    given = Inputs()
    problem = so.maximum_likelihood(given.policy, ConstantReward(2), given.data, lam=given.one)
    return dict(so.solve(problem, steps=1).phi)


@modes
@pytest.mark.parametrize(
    "run",
    [
        of_a_module,
        of_a_teacher,
        of_frozen_parameters,
        of_another_mapping,
        by_training,
        by_maximum_likelihood,
    ],
)
@pytest.mark.filterwarnings("ignore:the hypergradient")
def test_whole_sessions_under_every_mode(run: Callable[[], dict[str, Tensor]], mode: str) -> None:
    want = run()
    with MODES[mode]():
        got = run()
    alike(list(got.values()), list(want.values()))
    assert not any(p.is_inference() for p in got.values())


@pytest.mark.gate
@entries
def test_the_mode_of_the_caller_is_left_as_it_was(entry: str) -> None:
    given = Inputs()
    with torch.no_grad():
        ENTRIES[entry](given)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        ENTRIES[entry](given)
        assert torch.is_inference_mode_enabled()


@modes
def test_a_solution_stays_differentiable_where_it_can(mode: str) -> None:
    theta, phi = Inputs().point
    phi.requires_grad_()
    with MODES[mode]():
        found = inner_solution(J, theta, phi)
    assert found.requires_grad == (mode == "enable_grad")


def captured(data: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, p: -(data @ t - p).square().sum() - 0.1 * t.square().sum()


@pytest.mark.parametrize("entry", ["implicit", "solve", "minimum", "inner_solution"])
def test_data_made_in_inference_mode(entry: str) -> None:
    """It works, or torch's own message names the mode; never another number."""
    theta, phi = Inputs().point
    plain = normal(7, 2, 2)
    with torch.inference_mode():
        data = normal(7, 2, 2)

    def run(matrix: Tensor) -> Any:
        inside = captured(matrix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if entry == "implicit":
                return implicit(inside, F, theta, phi)
            if entry == "solve":
                return bilevel.solve(
                    bilevel.Bilevel(inside, F), theta, phi, steps=1,
                    optimiser=lambda p: torch.optim.SGD(p, lr=0.1),
                )  # fmt: skip
            if entry == "minimum":
                return inner.minimum({"t": theta}, lambda p: -inside(p["t"], phi))
            return inner_solution(inside, theta, phi)

    want = numbers(run(plain))
    try:
        got = numbers(run(data))
    except RuntimeError as error:
        assert "nference" in str(error)  # noqa: PT017
    else:
        alike(got, want)
