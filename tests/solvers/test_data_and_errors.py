"""Bad input to the solvers: a typed error that names the value and the remedy, before any work."""

import collections.abc
import importlib
import inspect
import pkgutil
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

import solvers
from solvers.arguments import checked
from solvers.data import Dataset
from solvers.errors import (
    InputError,
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
    check_finite,
    check_positive,
    check_spd,
)
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.bounded import BoundedReward
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_scale
from solvers.rewards.windows import WindowReward
from solvers.tasks import linear
from solvers.training import inner
from solvers.training.objectives import MSE, NLL, PolicyGradient
from tests.draws import F64, normal

pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@given(n=st.integers(1, 3), samples=st.integers(1, 6))
def test_moments_are_those_of_the_outcomes(batch: tuple[int, ...], n: int, samples: int) -> None:
    data = Dataset.of(normal(0, *batch, 4, 5), normal(1, *batch, 4, samples, n))
    assert data.n == n
    torch.testing.assert_close(data.mean, data.y.mean(-2))
    second = (data.y.unsqueeze(-1) * data.y.unsqueeze(-2)).mean(-3)
    outer = data.mean.unsqueeze(-1) * data.mean.unsqueeze(-2)
    torch.testing.assert_close(data.covariance + outer, second)
    if samples == 1:
        assert bool((data.covariance == 0).all())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((4, 2), (5, 1, 2)),
        ((4, 2), (4, 2)),
        ((3, 4, 2), (4, 1, 2)),
        ((3, 4, 2), (2, 4, 1, 2)),
        ((4,), (4, 1)),
    ],
)
def test_data_must_fit(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        Dataset.of(torch.zeros(x), torch.zeros(y))
    assert str(x) in str(caught.value)
    assert str(y) in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y"),
    [((0, 2), (0, 1, 1)), ((4, 2), (4, 0, 1)), ((4, 2), (4, 1, 0)), ((4, 0), (4, 1, 1))],
)
def test_empty_data(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"data are empty.*pass at least one row"):
        Dataset.of(torch.zeros(x), torch.zeros(y))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_data_must_be_finite(value: float) -> None:
    x, y = torch.zeros(3, 2), torch.zeros(3, 4, 1)
    y[1, 2, 0] = value
    with pytest.raises(NonFiniteError, match=rf"y\[1, 2, 0\] is {value} \(1 of 12 entries"):
        Dataset.of(x, y)
    x[2, 1] = value
    with pytest.raises(NonFiniteError, match=rf"x\[2, 1\] is {value} .*remove or impute"):
        Dataset.of(x, torch.zeros(3, 4, 1))


def test_data_of_two_precisions() -> None:
    with pytest.raises(ShapeError, match="convert both to one dtype"):
        Dataset.of(torch.zeros(3, 2), torch.zeros(3, 1, 1, dtype=F64))


def test_entropy_weight_of_an_objective() -> None:
    reward = MahalanobisReward.scalar(torch.tensor(1.0), 2)
    for bad in (0.0, -0.1):
        with pytest.raises(InputError, match="lam must be positive"):
            PolicyGradient(reward, torch.tensor([0.1, bad]))
    with pytest.raises(NonFiniteError, match=r"lam\[0\] is nan"):
        PolicyGradient(reward, torch.tensor([float("nan")]))


def test_reward_of_another_outcome_dimension() -> None:
    data = Dataset.of(torch.zeros(4, 2), torch.zeros(4, 1, 3))
    law = Gaussian(torch.zeros(4, 3), torch.ones(4, 3))
    objective = PolicyGradient(MahalanobisReward.scalar(torch.tensor(1.0), 2), torch.tensor(0.1))
    with pytest.raises(ShapeError, match="the outcome has n = 3, the reward n = 2: build both"):
        objective(law, data)
    assert NLL()(law, data).shape == ()


@pytest.mark.parametrize("wrong", [1, 2])
def test_policy_of_another_outcome_dimension(wrong: int) -> None:
    """n = 1 in particular: it would broadcast."""
    data = Dataset.of(torch.zeros(4, 2), torch.zeros(4, 1, 3))
    law = Gaussian(torch.zeros(4, wrong), torch.ones(4, wrong))
    reward = MahalanobisReward.scalar(torch.tensor(1.0), 3)
    for objective in (NLL(), MSE(), PolicyGradient(reward, torch.tensor(0.1))):
        with pytest.raises(ShapeError, match=f"the policy has n = {wrong}, the data n = 3"):
            objective(law, data)


@given(n=st.integers(1, 4), seed=st.integers(0, 2**20), scale=st.sampled_from([1e-8, 1.0, 1e8]))
def test_spd_matrices_of_any_size_pass(n: int, seed: int, scale: float) -> None:
    A = normal(seed, 3, n, n)
    check_spd("A", scale * (A @ A.mT + 0.1 * torch.eye(n, dtype=F64)))


@given(n=st.integers(1, 4), seed=st.integers(0, 2**20), scale=st.sampled_from([1e-8, 1.0, 1e8]))
def test_indefinite_matrices_of_any_size_are_refused(n: int, seed: int, scale: float) -> None:
    rotation, _ = torch.linalg.qr(normal(seed, n, n))
    eigenvalues = (
        torch.linspace(-0.5, 1, n, dtype=F64) if n > 1 else torch.tensor([-0.5], dtype=F64)
    )
    A = scale * (rotation * eigenvalues) @ rotation.mT
    with pytest.raises(NotPositiveDefiniteError, match="smallest eigenvalue") as caught:
        check_spd("A", (A + A.mT) / 2)
    assert f"{-0.5 * scale:.3g}" in str(caught.value)


def test_singular_matrices_are_refused() -> None:
    v = torch.tensor([[1.0], [2.0]], dtype=F64)
    with pytest.raises(NotPositiveDefiniteError, match=r"Sigma .*largest 5"):
        check_spd("Sigma", v @ v.T)


def test_shapes_of_matrices() -> None:
    for shape in [(2, 3), (3,), (), (0, 0), (2, 0, 0)]:
        with pytest.raises(ShapeError, match="square"):
            check_spd("A", torch.zeros(shape))


def test_a_batch_names_its_worst_matrix() -> None:
    batch = torch.diag_embed(torch.tensor([[1.0, 1.0], [1.0, -3.0], [-1.0, 9.0]], dtype=F64))
    with pytest.raises(NotPositiveDefiniteError, match=r"smallest eigenvalue -3, largest 1;"):
        check_spd("A", batch)


def test_one_asymmetric_matrix_in_a_batch_of_mixed_sizes() -> None:
    """A large neighbour must not hide the asymmetry of a small matrix."""
    skewed = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=F64)
    batch = torch.stack([1e18 * torch.eye(2, dtype=F64), skewed])
    with pytest.raises(NotPositiveDefiniteError, match="not symmetric"):
        check_spd("A", batch)


def test_scalars_are_checked_too() -> None:
    check_finite("a", torch.tensor(1.0))
    with pytest.raises(NonFiniteError, match=r"a.* is inf"):
        check_finite("a", torch.tensor(float("inf")))
    with pytest.raises(InputError, match="a must be positive, got -2: pass a > 0"):
        check_positive("a", torch.tensor([1.0, -2.0]))


def test_every_error_is_a_value_error() -> None:
    for kind in (NotPositiveDefiniteError, NonFiniteError, ShapeError):
        assert issubclass(kind, InputError)
    assert issubclass(InputError, ValueError)


def test_linear_task() -> None:
    """Same experiment, same data, whatever its neighbours; the law is the one that was drawn."""

    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = linear.draw(generators(1, 2), samples=50, dtype=F64)
    alone = linear.draw(generators(2), samples=50, dtype=F64)
    assert torch.equal(both.train.y[1], alone.train.y[0])
    assert both.train.y.shape == (2, 100, 50, 2)
    assert both.validation.y.shape == (2, 100, 1, 2)
    assert bool((both.sigma > 0.1).all() and (both.sigma < 2.5).all())
    law = both.law(both.train.x)
    z = (both.train.y - law.mean.unsqueeze(-2)) / law.scale.unsqueeze(-2)
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    assert float(z.mean()) == pytest.approx(0, abs=0.02)
    given_sigma = linear.draw(generators(1, 2), sigma=[0.5, 0.1], dtype=F64)
    assert torch.equal(given_sigma.sigma, torch.tensor([0.5, 0.1], dtype=F64))
    assert torch.equal(given_sigma.train.x, both.train.x)


def test_outcome_dimensions_of_rewards() -> None:
    weight = MahalanobisReward.scalar(torch.tensor(1.0, dtype=F64), 2)
    with pytest.raises(ShapeError, match="the outcome has n = 3, the reward n = 2"):
        weight.quadratic(normal(0, 4, 3))
    one = torch.tensor(1.0, dtype=F64)
    with pytest.raises(ShapeError, match=r"Sigma .* n = 3, and M has n = 2"):
        optimal_scale(torch.eye(2, dtype=F64), torch.eye(3, dtype=F64), one)
    with pytest.raises(ShapeError, match="square"):
        MahalanobisReward.full(normal(0, 2, 3))


def test_batches_in_the_inner_solver() -> None:
    one, two = torch.tensor(1.0, dtype=F64), torch.ones(2, dtype=F64)
    policy, reward = GaussianPolicy(1, 2), MahalanobisReward.scalar(one, 2)
    params = policy.init([torch.Generator()], dtype=F64)
    data = Dataset.of(normal(0, 3, 1), normal(1, 3, 4, 2))
    batch = Dataset.of(normal(0, 2, 3, 1), normal(1, 2, 3, 4, 2))
    objective = PolicyGradient(reward, one)
    with pytest.raises(ShapeError, match=r"\(2, 3, 1\): pass x \(N, d\), one member at a time"):
        inner.gradient(policy, params, objective, batch)
    with pytest.raises(ShapeError, match=r"shape \(2,\), not one number"):
        inner.gradient(policy, params, PolicyGradient(reward, two), data)
    members = policy.init([torch.Generator(), torch.Generator()], (2,), F64)
    with pytest.raises(ShapeError, match=r"shape \(2,\), not one number"):
        inner.gradient(policy, members, objective, data)


def test_closed_form_refuses_bad_input() -> None:
    reward = MahalanobisReward.scalar(torch.tensor(1.0, dtype=F64), 2)
    one, mu = torch.tensor(1.0, dtype=F64), torch.zeros(2, dtype=F64)
    with pytest.raises(InputError, match="lam must be positive, got -1"):
        inner.closed_form(reward, -one, mu)
    with pytest.raises(NonFiniteError, match=r"mu\[0\] is nan"):
        inner.closed_form(reward, one, mu / 0)
    with pytest.raises(ShapeError, match="mu has n = 3, the reward n = 2"):
        inner.closed_form(reward, one, torch.zeros(3, dtype=F64))


def choices() -> Iterator[tuple[str, Any]]:
    """Yield every annotation of the solvers that leaves a choice, with one place where it stands.

    Numbers that may be tensors aside: these are for `errors.as_tensor` to read.
    """
    found: dict[str, tuple[str, Any]] = {}
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        module = importlib.import_module(info.name)
        for thing in vars(module).values():
            if getattr(thing, "__module__", "") != info.name:
                continue
            own = (
                vars(thing) if inspect.isclass(thing) else {getattr(thing, "__name__", "_"): thing}
            )
            for public, function in own.items():
                inside = public.startswith("_") and public not in ("__init__", "__call__")
                if inside or not inspect.isfunction(function):
                    continue
                try:
                    hints = get_type_hints(function)
                except (NameError, ValueError):  # for readers alone: nothing can be checked by it
                    continue
                for name, hint in hints.items():
                    if get_origin(hint) not in (Union, types.UnionType):
                        continue
                    parts = [_class(part) for part in get_args(hint) if part is not type(None)]
                    if len(parts) > 1 and not (float in parts and Tensor in parts):
                        found.setdefault(str(hint), (f"{function.__qualname__}.{name}", hint))
    yield from found.values()


def _class(hint: Any) -> Any:
    return Tensor if hasattr(hint, "dim_str") else hint


def of_the_theory() -> Iterator[tuple[str, Any]]:
    """Yield every function of laws, rewards and training that states where its formula is from."""
    for room in ("families", "rewards", "training"):
        for info in pkgutil.walk_packages([f"{solvers.__path__[0]}/{room}"], f"solvers.{room}."):
            module = importlib.import_module(info.name)
            for name, function in vars(module).items():
                if name.startswith("_") or not inspect.isfunction(function):
                    continue
                if function.__module__ == info.name and "Source:" in (function.__doc__ or ""):
                    yield f"{info.name.removeprefix('solvers.')}.{name}", function


OF_THE_THEORY = dict(of_the_theory())
SIGMA, HALF = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=F64), torch.full((2,), 0.5, dtype=F64)
GIVEN: dict[str, Any] = {  # good values, by the name of an argument
    "Sigma": SIGMA,
    "M": SIGMA,
    "U": torch.diag(HALF),
    "lam": 0.05,
    "mu": HALF,
    "rho": HALF,
    "pi": HALF,
    "reference": Gaussian(HALF, 9 * HALF),
    "rewards": HALF,
    "baseline": "mean",
    "omega": 2.0,
    "variance": 0.5,
    "n": 2,
    "structure": "full",
    "samples": None,
    "reward": MahalanobisReward.full(SIGMA),
}
WINDOWS = WindowReward(torch.zeros(2, 4, dtype=F64), 2)
OTHERS: dict[str, dict[str, Any]] = {
    "rewards.between_classes.exact_scale": {"pi": torch.tensor([[0.3, 0.7]], dtype=F64)},
    "rewards.between_classes.gibbs": {"pi": HALF[None], "reward": ClassReward.scalar(0.5, 2)},
    "rewards.bounded.inner_solution": {"reward": BoundedReward(2.0)},
    "rewards.windows.soft_values": {"reward": WINDOWS},
    "rewards.windows.inner_solution": {"reward": WINDOWS},
}
ELSEWHERE = {  # of data and functions: see tests/solvers/test_sequences.py and test_ensemble.py
    "rewards.windows.optimal_windows",
    "rewards.windows.cost",
    "training.ensemble.gradient_descent",
}


@pytest.mark.filterwarnings("ignore::solvers.rewards.bounded.NoGlobalMaximumWarning")
@pytest.mark.parametrize("address", sorted(OF_THE_THEORY.keys() - ELSEWHERE))
def test_every_formula_refuses_what_is_no_tensor_or_law_by_name(address: str) -> None:
    function = OF_THE_THEORY[address]
    given = GIVEN | OTHERS.get(address, {})
    arguments = {name: given[name] for name in inspect.signature(function).parameters}
    function(**arguments)
    for name, good in arguments.items():
        wrong = [object(), 1j, (0.5, 0.5), np.ones((2, 2)), "x", lambda: 0]
        for value in wrong if good is None else [None, *wrong]:
            with pytest.raises(InputError, match=rf"\b{name}\b"):
                function(**arguments | {name: value})


def names(hint: Any) -> list[str]:
    """What a message must speak of to name all that satisfies an annotation."""
    if hint is type(None):
        return ["None"]
    if get_origin(hint) is Literal:
        return [repr(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType):
        return [name for part in get_args(hint) for name in names(part)]
    words: dict[Any, str] = {float: "number", collections.abc.Callable: "function"}
    known = _class(hint)
    kind = get_origin(known) or known
    plain: dict[Any, str] = {
        collections.abc.Sequence: "list",
        collections.abc.Mapping: "dict",
        Tensor: "ensor",
    }
    return [(words | plain).get(kind) or str(kind.__name__)]


@pytest.mark.parametrize(("where", "hint"), [*choices()], ids=str)
@pytest.mark.parametrize("value", [object(), 1j, type, b"x"], ids=["object", "1j", "type", "b"])
def test_all_that_may_be_passed_is_named(where: str, hint: Any, value: Any) -> None:
    def function(argument: Any) -> None:
        raise AssertionError("refused before it is entered")

    function.__annotations__["argument"] = hint
    if callable(value) and "function" in names(hint):
        return
    with pytest.raises(InputError, match=r"^argument is ") as caught:
        checked(function)(value)
    said = str(caught.value).rpartition(": pass ")[2]
    assert [name for name in names(hint) if name not in said] == [], said


def test_of_what_is_nearly_right_the_fault_is_named() -> None:
    @checked
    def function(choice: list[int] | tuple[float, float] | Literal["a"] | None) -> Any:
        return choice

    @checked
    def shaped(x: Float[Tensor, "n"] | Int[Tensor, "n"] | None) -> Any:
        return x

    good: Any
    bad: Any
    for good in ([1, 2], (0.5, 1.0), "a", None):
        assert function(good) == good
    for bad, words in (
        ([1, "b"], r"choice\[1\] is 'b' \(str\): pass an int"),
        ((0.5, "b"), r"choice\[1\] is 'b' \(str\): pass a number"),
        ((0.5,), r"choice is \(0.5,\): pass 2 values"),
        ("b", r"choice is 'b' \(str\): pass a list of int, a tuple of float, 'a' or None"),
    ):
        with pytest.raises(InputError, match=f"^{words}$"):
            function(bad)
    with pytest.raises(InputError, match=r"x is 'b' \(str\): pass a tensor \(n,\), .* or None"):
        shaped(bad)
    with pytest.raises(ShapeError, match=r"x has shape \(2, 2\): pass \(n,\)"):
        shaped(torch.ones(2, 2))


def test_matrices_without_entries_are_not_square() -> None:
    for shape in ((0, 0), (2, 0, 0)):
        with pytest.raises(ShapeError, match="must be square"):
            check_spd("Sigma", torch.zeros(shape, dtype=F64))


def test_parts_of_a_container_share_their_letters() -> None:
    @checked
    def joined(parts: list[Float[Tensor, "_ d"]]) -> int:
        return len(parts)

    rows = torch.zeros(2, 3, dtype=F64)
    assert joined([rows, rows[:1]]) == 2
    with pytest.raises(ShapeError, match=r"parts\[1\]"):
        joined([rows, rows[:, :2]])
