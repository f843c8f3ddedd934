"""Numbers where scalars are meant: any kind of real number, the dtype of the data, named errors."""

import importlib
import inspect
import math
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
import solvers as so
from solvers.bilevel import cross_fitted, inner_solve, likelihood
from solvers.data import Dataset, LabelledData
from solvers.errors import InputError, NonFiniteError, as_tensor
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP
from solvers.hypergradients import methods
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.functional import functional
from solvers.hypergradients.implicit import HypergradientWarning, implicit
from solvers.hypergradients.penalty import penalty
from solvers.numerics import linear_solve, optimisers
from solvers.rewards import bounded, windows, with_reference
from solvers.rewards.between_classes import (
    ClassReward,
    FreeReward,
    exact_diagonal,
    exact_scale,
    gibbs,
    heuristic_scale,
)
from solvers.rewards.bounded import BoundedReward, NoGlobalMaximumWarning
from solvers.rewards.learnable import ConstantReward, InputReward
from solvers.rewards.mahalanobis import (
    MahalanobisReward,
    isotropic_weight,
    optimal_reward,
    optimal_scale,
    optimal_weights,
)
from solvers.rewards.windows import WindowMatch, WindowReward
from solvers.training import ensemble, inner
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import normal
from tests.elsewhere import Elsewhere
from tests.solvers import test_copies as copies

F32, F64 = torch.float32, torch.float64
POLICY, CLASSIFIER = GaussianPolicy(2, 2), CategoricalPolicy(2, 3)


pytestmark = pytest.mark.usefixtures("as_users_run")


def data(dtype: torch.dtype) -> Dataset:
    return Dataset.of(normal(0, 6, 2).to(dtype), normal(1, 6, 3, 2).to(dtype))


def labelled(dtype: torch.dtype) -> LabelledData:
    return LabelledData.soft(normal(0, 6, 2).to(dtype), normal(2, 6, 3).softmax(-1).to(dtype))


def spd(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=dtype)


def law(dtype: torch.dtype) -> Gaussian:
    return Gaussian(normal(3, 6, 2).to(dtype), normal(4, 6, 2).to(dtype).exp())


def start(policy: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    return policy.init([torch.Generator().manual_seed(0)], dtype=dtype)


def reference(dtype: torch.dtype) -> Gaussian:
    return Gaussian(torch.zeros(2, dtype=dtype), 2 * torch.ones(2, dtype=dtype))


def class_law(dtype: torch.dtype) -> Categorical:
    return Categorical(normal(5, 6, 3).to(dtype))


def bounded_solution(lam: Any, variance: Any, omega: Any, dtype: torch.dtype) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGlobalMaximumWarning)
        found = bounded.inner_solution(BoundedReward(omega), lam, normal(6, 2).to(dtype), variance)
    assert found.converged
    return found.value.scale


def through_phi(lam: Any, dtype: torch.dtype) -> Tensor:
    """The functional hypergradient in the logarithm of `u`, at the inner solution for 0.5."""
    at, model = data(dtype), ConstantReward(2, "scalar")
    phi = {"log_u": torch.zeros((), dtype=dtype)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        found = functional(POLICY, start(POLICY, dtype), lambda p: model(p, at.x), phi, lam, at)
    return found.value["log_u"]


def levels(lam: Any, dtype: torch.dtype) -> Tensor:
    problem = likelihood.problem(POLICY, ConstantReward(2), lam, data(dtype))
    return problem.J(start(POLICY, dtype), ConstantReward(2).start(spd(dtype)))


def class_levels(lam: Any, dtype: torch.dtype) -> Tensor:
    model = FreeReward(2, 3)
    phi = model.start(torch.Generator().manual_seed(0), dtype)
    problem = likelihood.problem(CLASSIFIER, model, lam, labelled(dtype), weight_decay=0.1)
    return problem.J(start(CLASSIFIER, dtype), phi)


def closed_form_inner(lam: Any, dtype: torch.dtype) -> Tensor:
    """The variances of the closed-form solution for `U = 2I`."""
    reward = MahalanobisReward.scalar(torch.tensor(2.0, dtype=dtype), 2)
    return inner.closed_form(reward, lam, torch.zeros(2, dtype=dtype)).value.scale


def class_inner(lam: Any, dtype: torch.dtype) -> Tensor:
    found = inner.fit(
        CLASSIFIER,
        labelled(dtype),
        PolicyGradient(ClassReward.scalar(1, 3), lam),
        weight_decay=0.1,
        tolerance=1e-6,
    )
    return found.value["weight0"]


def cross_fitted_loss(lam: Any, dtype: torch.dtype) -> Tensor:
    model, at = InputReward(2, 2, MLP(), "diagonal"), data(dtype)
    start = model.start(torch.Generator().manual_seed(0), dtype)
    return cross_fitted.learn(model, start, lam, at, at, steps=10, learning_rate=0.1).loss


def cross_fitted_law(lam: Any, dtype: torch.dtype) -> Tensor:
    model = InputReward(2, 2, MLP(), "diagonal")
    start = model.start(torch.Generator().manual_seed(0), dtype)
    return cross_fitted.inner_law(model, start, lam, data(dtype).x).scale


Takes = Callable[[Any, torch.dtype], Tensor]


def words(dtype: torch.dtype) -> Dataset:
    y = torch.tensor([[[0, 1], [1, 0], [1, 1]]], dtype=dtype)
    return Dataset.of(torch.ones(1, 1, dtype=dtype), y)


TAKES: dict[tuple[str, str], Takes] = {
    ("optimal_reward", "lam"): lambda v, d: optimal_reward(spd(d), v).U,
    ("optimal_scale", "lam"): lambda v, d: optimal_scale(spd(d), spd(d), v),
    ("isotropic_weight", "lam"): lambda v, d: isotropic_weight(torch.tensor([3.0], dtype=d), 2, v),
    ("isotropic_weight", "trace"): lambda v, d: isotropic_weight(
        v, 2, torch.tensor([3.0], dtype=d)
    ),
    ("MahalanobisReward.scalar", "u"): lambda v, d: MahalanobisReward.scalar(v, 2).of(law(d).mean),
    ("PolicyGradient", "lam"): lambda v, d: PolicyGradient(optimal_reward(spd(d), 1), v)(
        law(d), data(d)
    ),
    ("functional", "lam"): through_phi,
    ("BoundedReward", "omega"): lambda v, d: BoundedReward(v).expected(law(d), data(d)),
    ("critical_lam", "omega"): lambda v, d: bounded.critical_lam(
        v, torch.tensor([0.7], dtype=d), 2
    ),
    ("critical_lam", "variance"): lambda v, d: bounded.critical_lam(
        torch.tensor([0.7], dtype=d), v, 2
    ),
    ("inner_solution", "lam"): lambda v, d: bounded_solution(v, 1.0, 20, d),
    ("inner_solution", "variance"): lambda v, d: bounded_solution(0.01, v, 20, d),
    ("optimal_weights", "lam"): lambda v, d: optimal_weights(normal(0, 3).to(d).sigmoid(), v),
    ("optimal_reward with a reference", "lam"): lambda v, d: (
        with_reference.optimal_reward(spd(d) / 9, v, law(d).mean[0], reference(d)).U
    ),
    ("stationary_weight", "lam"): lambda v, d: with_reference.stationary_weight(
        spd(d), v, law(d).mean[0], reference(d)
    ),
    ("projected_reward", "lam"): lambda v, d: (
        so.projected_reward(spd(d), v, law(d).mean[0], reference(d)).U
    ),
    ("inner_solution with a reference", "lam"): lambda v, d: (
        with_reference.inner_solution(
            MahalanobisReward.full(spd(d)), v, law(d).mean[0], reference(d)
        ).mean
    ),
    ("soft_values", "lam"): lambda v, d: windows.soft_values(
        WindowReward(normal(0, 3, 2).to(d), 2), v
    )[0],
    ("WindowMatch", "u"): lambda v, d: WindowMatch(v, 2).against(words(d)).table,
    ("optimal_windows", "lam"): lambda v, d: windows.optimal_windows(words(d), v, 2, 0).table,
    ("problem", "lam"): levels,
    ("plug_in", "lam"): lambda v, d: (
        likelihood.plug_in(POLICY, start(POLICY, d), v, data(d), estimate="marginal").reward.U
    ),
    ("class problem", "lam"): class_levels,
    ("maximum_likelihood", "lam"): lambda v, d: (
        so.maximum_likelihood(POLICY, ConstantReward(2), data(d), lam=v).lam
    ),
    ("fit", "lam"): class_inner,
    ("inner_law", "lam"): cross_fitted_law,
    ("learn", "lam"): cross_fitted_loss,
    ("closed_form", "lam"): closed_form_inner,
    ("ClassReward.scalar", "u"): lambda v, d: ClassReward.scalar(v, 3).by_class(labelled(d).pi),
    ("gibbs", "lam"): lambda v, d: gibbs(ClassReward.scalar(1.0, 3), v, labelled(d).pi).p,
    ("heuristic_scale", "lam"): lambda v, d: heuristic_scale(labelled(d).pi, v),
    ("exact_scale", "lam"): lambda v, d: exact_scale(labelled(d).pi, v),
    ("exact_diagonal", "lam"): lambda v, d: exact_diagonal(labelled(d).pi, v),
    ("PolicyGradient of classes", "lam"): lambda v, d: PolicyGradient(ClassReward.scalar(1, 3), v)(
        class_law(d), labelled(d)
    ),
}
takes = pytest.mark.parametrize("take", TAKES.values(), ids=[".".join(key) for key in TAKES])

HALVES = [
    0.5,
    np.float32(0.5),
    np.float64(0.5),
    np.float16(0.5),
    Fraction(1, 2),
    torch.tensor(0.5, dtype=torch.float16),
    torch.tensor(0.5, dtype=torch.bfloat16),
    torch.tensor(0.5, dtype=F32),
    torch.tensor(0.5, dtype=F64),
]


SMALL = TAKES["inner_solution", "lam"]  # beyond ¼ there is no solution


@takes
@pytest.mark.parametrize("dtype", [F32, F64])
def test_any_kind_of_number_is_the_same_number(take: Takes, dtype: torch.dtype) -> None:
    unit = 8 if take is SMALL else 1
    want = take(torch.tensor(0.5, dtype=dtype) / unit, dtype)
    assert want.dtype == dtype
    for half in HALVES:
        value: Any = half / unit
        got = take(value, dtype)
        assert got.dtype == dtype, repr(value)
        single = isinstance(value, Tensor) and value.dtype == F32  # a root of it is single, too
        torch.testing.assert_close(got, want, rtol=1e-6 if single else 1e-15, atol=0)


@takes
def test_whole_numbers(take: Takes) -> None:
    if take is SMALL:
        with pytest.raises(InputError, match="lam is 1, and J has a local maximum only below"):
            bounded.inner_solution(BoundedReward(2), 1, normal(0, 2), 1)
        return
    want = take(1.0, F64)
    for value in (1, np.int64(1), np.uint8(1), torch.tensor(1)):
        assert torch.equal(take(value, F64), want), repr(value)


@takes
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.5", "'0.5' (str): pass a number"),
        (None, "None (NoneType): pass a number"),
        (0.5j, "0.5j (complex): pass a number"),
        (True, "True (bool): pass a number"),
        (np.True_, "(bool): pass a number"),
        ([0.5], "[0.5] (list): pass a number"),
        (np.array([0.5]), "(ndarray): pass a number"),
        (torch.tensor(True), "has dtype torch.bool: pass real numbers"),
        (torch.tensor(0.5j), "has dtype torch.complex64: pass real numbers"),
        (math.nan, "is nan: pass a finite number"),
        (math.inf, "is inf: pass a finite number"),
        (torch.tensor(math.nan), "is nan: pass a finite number"),
        (0, "must be positive, got 0"),
        (-0.5, "must be positive, got -0.5"),
        (10**400, "is an integer beyond float64"),
    ],
    ids=range(15),
)
def test_anything_else_is_refused_by_name(take: Takes, value: Any, shown: str) -> None:
    (name,) = [key[1] for key, known in TAKES.items() if known is take]
    with pytest.raises(InputError) as caught:
        take(value, F64)
    assert str(caught.value).startswith(name), caught.value
    assert shown in str(caught.value)


def test_numbers_that_the_precision_of_the_data_cannot_hold() -> None:
    for value in (1e-60, 1e60):
        with pytest.raises(
            InputError, match=r"lam is 1e[+-]60, beyond torch.float32: pass float64"
        ):
            optimal_reward(spd(F32), value)


def public(module: Any) -> Iterator[tuple[str, inspect.Signature]]:
    """The public functions of a module, its dataclasses, and their other constructors."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(thing):
            yield name, inspect.signature(thing)
        elif inspect.isclass(thing):
            if is_dataclass(thing):
                yield name, inspect.signature(thing)
            for own, method in vars(thing).items():
                if isinstance(method, classmethod):
                    yield f"{name}.{own}", inspect.signature(method.__func__)


def test_no_public_scalar_is_left_out() -> None:
    """Every `lam`, `omega`, `variance`, `trace` and scalar `u` of the solvers is tried above."""
    again = {  # the same functions, or others of the same name
        "class problem",
        "PolicyGradient of classes",
        "fit",
        "optimal_reward with a reference",
        "inner_solution with a reference",
    }
    tried = {key for key in TAKES if key[0] not in again}
    # parts of `functional`, and what holds a number that was read
    of_tensors = {
        "covariance_adjoint",
        "covariance_curvature",
        "MaximumLikelihood",
        "DiagonalReward",
        "Tempered",
    }
    seen = set()
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        if info.ispkg or info.name.startswith("solvers.tasks."):
            continue
        for name, signature in public(importlib.import_module(info.name)):
            if name in of_tensors or name.endswith(".diagonal"):
                continue
            scalars = {"lam", "omega", "variance", "trace", "u"} & {*signature.parameters}
            seen |= {(name, parameter) for parameter in scalars}
    assert seen == tried


SOLVE = {"functional", "inner_solution", "plug_in", "fit"}  # SciPy and LAPACK, on the CPU


@pytest.mark.parametrize("key", [key for key in TAKES if key[0] not in SOLVE], ids=".".join)
@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5, dtype=F64)], ids=["float", "tensor"])
def test_tensors_are_made_on_the_device_of_the_inputs(key: tuple[str, str], value: Any) -> None:
    """A tensor made anywhere else lands on `meta`, which has no values and mixes with nothing."""
    want = TAKES[key](value, F64)
    with Elsewhere("solvers"):
        got = TAKES[key](value, F64)
    assert torch.equal(got, want)


def test_a_reward_made_of_a_number_is_exact_in_either_precision() -> None:
    reward, bound = MahalanobisReward.scalar(0.1, 2), BoundedReward(0.1)
    for dtype in (F32, F64):
        e = normal(0, 5, 2).to(dtype)
        want = -torch.tensor(0.1, dtype=dtype) * e.square().sum(-1)
        torch.testing.assert_close(reward.of(e), want)
        torch.testing.assert_close(bound.of(e), (-e.square().sum(-1) / 0.1).exp())
        assert reward.of(e).dtype == bound.of(e).dtype == dtype
        found = ClassReward.scalar(0.1, 3).by_class(labelled(dtype).pi)
        assert found.dtype == dtype


def test_a_batch_of_weights_still_leads() -> None:
    lam = torch.tensor([0.1, 1.0], dtype=F64)
    both = PolicyGradient(MahalanobisReward.scalar(1.0, 2), lam)(law(F64), data(F64))
    for k, weight in enumerate(lam.tolist()):
        one = PolicyGradient(MahalanobisReward.scalar(1.0, 2), weight)(law(F64), data(F64))
        torch.testing.assert_close(both[k], one)


def test_gradients_reach_a_weight() -> None:
    lam = torch.tensor(0.5, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(optimal_reward(spd(F64), lam).U.sum(), lam)
    assert float(slope) == pytest.approx(float(torch.linalg.inv(spd(F64)).sum() / 2))
    assert as_tensor("lam", lam) is lam


def numeric(hint: Any) -> type | None:
    """The kind of number that an annotation asks for, if it is one."""
    inside = [part for part in (get_args(hint) or [hint]) if part in (float, int, bool)]
    return inside[0] if inside and get_origin(hint) is not tuple else None


NO_NUMBERS = ("0.1", 0.1j, [0.1], np.array(0.1), torch.tensor(0.1))
BAD: dict[type, tuple[Any, ...]] = {
    float: (math.nan, -0.1, -math.inf, True, np.True_, *NO_NUMBERS),
    int: (math.nan, math.inf, -1, 2.5, 2.0, True, 2**65, *NO_NUMBERS),
    bool: (1, 0, 0.0, "no", "", None, *NO_NUMBERS),
}


def bad(hint: Any) -> list[Any]:
    """What is no number of the kind that an annotation asks for."""
    kind = numeric(hint)
    assert kind is not None
    optional = type(None) in get_args(hint)
    return [*BAD[kind], *([] if optional or kind is bool else [None])]


def methods_of() -> list[Any]:
    """An example of every dataclass that says how to solve, optimise or differentiate."""
    found = {
        kind
        for module in (methods, optimisers, inner_solve)
        for kind in vars(module).values()
        if inspect.isclass(kind) and is_dataclass(kind) and kind.__module__ == module.__name__
    }
    results = {optimisers.Moments}
    results |= {kind for kind in found if kind.__name__.startswith("_")}
    examples = [make() for make in copies.EXAMPLES.values()]
    known = {type(one): one for one in examples}
    return [known[kind] for kind in sorted(found - results, key=lambda kind: kind.__name__)]


METHODS = methods_of()
FIELDS = [
    (one, name, hint)
    for one in METHODS
    for name, hint in get_type_hints(type(one)).items()
    if numeric(hint)
]


@pytest.mark.parametrize(
    ("one", "name", "hint"), FIELDS, ids=[f"{type(one).__name__}.{name}" for one, name, _ in FIELDS]
)
def test_every_number_of_a_method_is_checked_when_it_is_made(
    one: Any, name: str, hint: Any
) -> None:
    for value in bad(hint):
        with pytest.raises(InputError, match=f"^{name} is ") as caught:
            replace(one, **{name: value})
        assert "pass" in str(caught.value), value


def quadratic(theta: Tensor, phi: Tensor) -> Tensor:
    return -(2 * (theta - phi) ** 2).sum()


def pulling(theta: Tensor, phi: Tensor) -> Tensor:
    return -((theta - 1) ** 2).sum() - 0.1 * (phi**2).sum()


@pytest.mark.parametrize("one", [m for m in METHODS if callable(m)], ids=repr)
def test_methods_take_any_kind_of_number(one: Any) -> None:
    at = torch.tensor([0.5, -0.25], dtype=F64)
    hints = {name: hint for owner, name, hint in FIELDS if owner is one}
    for kind, whole in ((Fraction, np.int64), (np.float32, np.int32), (np.float64, np.uint8)):
        given: dict[str, Any] = {}
        for name, hint in hints.items():
            value = 0.5 if numeric(hint) is float else 3
            if numeric(hint) is not bool:
                given[name] = value
        as_other = {k: whole(v) if isinstance(v, int) else kind(v) for k, v in given.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            want = replace(one, **given)(quadratic, pulling, at, at).value
            got = replace(one, **as_other)(quadratic, pulling, at, at).value
        assert torch.equal(want, got)


def unasked(*_: Any) -> Any:
    raise AssertionError("no work before the arguments are checked")


LEVELS: dict[str, Any] = {
    "J": unasked,
    "F": unasked,
    "theta": torch.ones(2, dtype=F64),
    "phi": torch.ones(2, dtype=F64),
}
DIFFERENTIATE: dict[str, Callable[..., Any]] = {
    "implicit": partial(implicit, **LEVELS),
    "penalty": partial(penalty, **LEVELS, weight=1e3),
    "functional": lambda **given: functional(
        POLICY, start(POLICY, F64), unasked, LEVELS["phi"], 0.5, data(F64), **given
    ),
    "inner_solution": partial(inner_solution, J=unasked, theta0=LEVELS["theta"], phi=LEVELS["phi"]),
    "cg": partial(linear_solve.cg, unasked, torch.ones(2, dtype=F64), tolerance=0.1),
    "neumann": partial(linear_solve.neumann, unasked, torch.ones(2, dtype=F64), tolerance=0.1),
    "nystrom": partial(
        linear_solve.nystrom, unasked, torch.ones(2, dtype=F64), generator=torch.Generator()
    ),
}
ARGUMENTS = [
    (name, argument, hint)
    for name, call in DIFFERENTIATE.items()
    for argument, hint in get_type_hints(
        functional if name == "functional" else call.func  # pyright: ignore[reportFunctionMemberAccess]
    ).items()
    if numeric(hint) and argument not in ("lam", "return")
]


@pytest.mark.parametrize(
    ("name", "argument", "hint"), ARGUMENTS, ids=[".".join(one[:2]) for one in ARGUMENTS]
)
def test_every_number_of_a_function_is_checked_before_any_work(
    name: str, argument: str, hint: Any
) -> None:
    for value in bad(hint):
        given = {"rank": 1} if name == "nystrom" else {}
        with pytest.raises(InputError, match=f"^{argument} is "):
            DIFFERENTIATE[name](**(given | {argument: value}))


def test_no_function_that_differentiates_is_left_out() -> None:
    """`unrolled` and `one_step` have tests of their own, in `test_unrolled`."""
    package = importlib.import_module("solvers.hypergradients")
    found: set[str] = set()
    for info in pkgutil.iter_modules(package.__path__, "solvers.hypergradients."):
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != info.name:
                continue
            if inspect.isfunction(thing) and "phi" in inspect.signature(thing).parameters:
                found.add(name)
    assert found - {"unrolled", "one_step"} <= {*DIFFERENTIATE}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, "0.1", None, True, 0.1j])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "max_norm"])
def test_settings_of_a_training(name: str, bad: Any) -> None:
    settings: dict[str, Any] = {"learning_rate": 0.1, "max_norm": 1.0, "weight_decay": 0.0}
    if name == "max_norm" and bad is None:
        bad = "none"

    def loss(theta: Any, step: int) -> Tensor:
        raise AssertionError("no work before the settings are checked")

    with pytest.raises(InputError, match=f"{name} is "):
        ensemble.adam(
            {"a": torch.zeros(1)}, loss, steps=1, batch_ndim=0, **(settings | {name: bad})
        )


def test_a_name_is_what_the_error_of_a_tensor_says() -> None:
    with pytest.raises(NonFiniteError, match=r"lam\[1\] is nan"):
        as_tensor("lam", torch.tensor([1.0, math.nan]))
    assert NLL()(law(F64), data(F64)).dtype == F64
