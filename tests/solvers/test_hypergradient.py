"""The implicit hypergradient: what it warns of, refuses and reports"""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from paper_checks.conformance.strategies import make_problem
from solvers import bilevel
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.hypergradients.implicit import (
    HypergradientError,
    HypergradientWarning,
    Method,
    implicit,
    unwarned,
    variation,
)
from solvers.numerics import linear_solve
from solvers.numerics.trees import Leaves
from tests.draws import F64
from tests.gate.identities import hypergradients as identities
from tests.gate.identities.hypergradients import make_quadratic

ITERATIVE: tuple[Method, ...] = ("cg", "neumann", "nystrom-cg")
EVERY: tuple[Method, ...] = ("dense", *ITERATIVE)
QUADRATIC = make_quadratic(5, 2, 1)


def scalar_problem() -> tuple[Any, Any]:
    """`θ* = φ³`, `F = -½(θ - 1)²`: `dF/dφ = (1 - φ³) 3φ²`."""
    return (
        lambda theta, phi: -0.5 * (theta - phi**3) ** 2,
        lambda theta, phi: -0.5 * (theta - 1) ** 2,
    )


@pytest.mark.parametrize("method", EVERY)
def test_a_scalar_inner_variable(method: Method) -> None:
    J, F = scalar_problem()
    phi = torch.tensor(0.7, dtype=F64)
    found = implicit(J, F, phi**3, phi, method=method, generator=identities.generator())
    assert float(found.value) == pytest.approx((1 - 0.7**3) * 3 * 0.49, rel=1e-9)
    assert found.value.shape == ()
    assert found.stationarity == 0
    assert found.curvature == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_through_functional_call(dtype: torch.dtype) -> None:
    """Ridge regression of a linear module: θ are its parameters, φ the log of the ridge."""
    torch_generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=torch_generator, dtype=dtype)
    y = x.sum(-1, keepdim=True) + 1
    model = nn.Linear(3, 1).to(dtype)

    def J(theta: Any, phi: Tensor) -> Tensor:
        error = functional_call(model, theta, (x,)) - y
        size = sum(p.square().sum() for p in theta.values())
        return -0.5 * (error.square().mean() + phi.exp() * size)

    def F(theta: Any, phi: Tensor) -> Tensor:
        return -(functional_call(model, theta, (x,)) - y).square().mean()

    phi = torch.tensor(-1.0, dtype=dtype)
    X = torch.cat([x, torch.ones(20, 1, dtype=dtype)], 1)
    H = X.T @ X / 20 + phi.exp() * torch.eye(4, dtype=dtype)
    w = torch.linalg.solve(H, X.T @ y[:, 0] / 20)
    theta = {"weight": w[None, :3], "bias": w[3:]}
    found = implicit(J, F, theta, phi, distance=1e-3, tolerance=1e-5)
    slope = -2 * X.T @ (X @ w - y[:, 0]) / 20
    want = -torch.linalg.solve(H, slope) @ w * phi.exp()
    rtol = 1e-3 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found.value, want, rtol=rtol, atol=0)
    assert found.value.dtype == dtype


@pytest.mark.parametrize("method", EVERY)
def test_a_point_that_is_not_stationary(method: Method) -> None:
    """A small inner error gives a large hypergradient error: it is told, or refused."""
    J, F = identities.quadratic_objectives(QUADRATIC)
    away = identities.as_tree(QUADRATIC.theta() + 0.1)
    options: Any = {"method": method, "rank": 3, "max_iterations": 10_000}
    with pytest.warns(HypergradientWarning, match=r"inner gradient is .* theta is about .* train"):
        found = implicit(J, F, away, QUADRATIC.phi, generator=identities.generator(), **options)
    slope = QUADRATIC.A @ torch.full((5,), 0.1, dtype=F64)
    assert found.stationarity == pytest.approx(float(slope.norm()))
    with pytest.raises(HypergradientError, match="may be wrong: the inner gradient is"):
        implicit(
            J, F, away, QUADRATIC.phi, generator=identities.generator(), strict=True, **options
        )


def test_a_step_of_ones_own_for_the_neumann_series() -> None:
    """Below 2 over the largest curvature it gives the same value; a shorter one takes longer."""
    J, F = identities.quadratic_objectives(QUADRATIC)
    theta = identities.as_tree(QUADRATIC.theta())
    exact = implicit(J, F, theta, QUADRATIC.phi, method="dense")
    largest = float(torch.linalg.eigvalsh(QUADRATIC.A).max())
    long, short = (
        implicit(
            J, F, theta, QUADRATIC.phi, method="neumann", step=part / largest, max_iterations=10_000
        )
        for part in (1.0, 0.5)
    )
    for found in (long, short):
        torch.testing.assert_close(found.value, exact.value, rtol=1e-8, atol=1e-10)
    assert long.iterations < short.iterations


@pytest.mark.parametrize("method", ITERATIVE)
def test_a_linear_system_that_is_not_solved(method: Method) -> None:
    J, F = identities.quadratic_objectives(QUADRATIC)
    theta = identities.as_tree(QUADRATIC.theta())
    call = partial(
        implicit, J, F, theta, QUADRATIC.phi, method=method, max_iterations=1, rank=1,
        generator=identities.generator(),
    )  # fmt: skip
    with pytest.warns(HypergradientWarning, match=r"solved to .*, not to 1e-10, after .* products"):
        found = call()
    # the residual that is reported is the true one
    assert found.residual is not None
    assert found.residual > 1e-10
    with pytest.raises(HypergradientError, match="raise max_iterations or tolerance"):
        call(strict=True)


@pytest.mark.parametrize("method", ["dense", "cg"])
def test_a_point_that_is_no_maximum(method: Method) -> None:
    def saddle(theta: Tensor, phi: Tensor) -> Tensor:
        return -0.5 * theta[0] ** 2 + 0.5 * theta[1] ** 2 + theta @ phi

    phi = torch.tensor([1.0, 1.0], dtype=F64)
    theta = torch.tensor([1.0, -1.0], dtype=F64)
    with pytest.warns(HypergradientWarning, match=r"curvature -.*: J is not strictly concave"):
        found = implicit(saddle, lambda t, p: t[1] + 0.1 * t[0], theta, phi, method=method)
    assert found.curvature == pytest.approx(-1, rel=0.05)
    with pytest.raises(HypergradientError, match=r"pass damping > 1"):
        implicit(saddle, lambda t, p: t[1], theta, phi, method="dense", strict=True)


def test_a_singular_hessian_is_an_error_and_damping_is_reported() -> None:
    """Two parameters that only act through their sum, as in a network."""

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -0.5 * (theta.sum() - phi) ** 2

    theta, phi = torch.tensor([0.5, 0.5], dtype=F64), torch.tensor(1.0, dtype=F64)
    with pytest.raises(HypergradientError, match="singular at theta; pass damping > 0"):
        implicit(J, lambda t, p: t[0] - 2 * t[1], theta, phi, method="dense")
    found = implicit(J, lambda t, p: t.sum() ** 2, theta, phi, damping=1e-8)
    assert float(found.value) == pytest.approx(2.0, rel=1e-7)
    assert found.damping == 1e-8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_that_is_not_finite_goes_unnoticed(value: float) -> None:
    J, F = scalar_problem()
    good, bad = torch.tensor(1.0, dtype=F64), torch.tensor(value, dtype=F64)
    with pytest.raises(NonFiniteError, match="theta"):
        implicit(J, F, bad, good)
    with pytest.raises(NonFiniteError, match="phi"):
        implicit(J, F, good, bad)
    with pytest.raises(NonFiniteError, match="F is"):
        implicit(J, lambda t, p: F(t, p) + bad, good, good)
    with pytest.raises(NonFiniteError, match=r"∂J/∂θ has an entry that is not finite"):
        implicit(lambda t, p: J(t, p) - (t - t.detach()).abs().sqrt(), F, good, good)


def test_what_is_refused() -> None:
    J, F = scalar_problem()
    one = torch.tensor(1.0, dtype=F64)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"method": "nystrom", "generator": identities.generator()}, InputError, "pass damping"),
        ({"method": "nystrom-cg"}, InputError, "draws a random sketch: pass generator"),
        ({"damping": -1.0}, InputError, "damping is -1.0: pass a number >= 0"),
    ]
    for options, error, words in cases:
        with pytest.raises(error, match=words):
            implicit(J, F, one, one, **options)
    with pytest.raises(ShapeError, match=r"J has shape \(2,\): return a single number"):
        implicit(lambda t, p: J(t, p).expand(2), F, one, one)
    with pytest.raises(InputError, match="theta holds no tensor"):
        implicit(J, F, [], one)
    with pytest.raises(InputError, match=r"theta\['a'\] is a float: pass tensors only"):
        implicit(J, F, {"a": 1.0}, one)
    with pytest.raises(InputError, match="use one dtype"):
        implicit(J, F, {"a": one, "b": one.float()}, one)
    with pytest.raises(InputError, match="J does not depend on theta or phi"):
        implicit(lambda t, p: torch.zeros((), dtype=F64), F, one, one)


def test_outer_variables_that_do_not_matter_have_gradient_zero() -> None:
    J, F = scalar_problem()
    phi = {"used": torch.tensor(0.7, dtype=F64), "idle": torch.ones(3, dtype=F64)}
    found = implicit(
        lambda t, p: J(t, p["used"]), lambda t, p: F(t, p["used"]), phi["used"] ** 3, phi
    )
    assert torch.equal(found.value["idle"], torch.zeros(3, dtype=F64))
    assert float(found.value["used"]) != 0


def test_an_outer_objective_of_the_outer_variables_only() -> None:
    J, _ = scalar_problem()
    phi = torch.tensor(0.7, dtype=F64)
    found = implicit(J, lambda t, p: 3 * p, phi**3, phi, method="cg")
    assert float(found.value) == 3
    assert found.residual == 0


def test_arguments_are_left_alone_and_the_sketch_is_seeded() -> None:
    J, F = identities.quadratic_objectives(QUADRATIC)
    theta = identities.as_tree(QUADRATIC.theta())
    before = [t.clone() for t in theta]
    values = [
        implicit(
            J, F, theta, QUADRATIC.phi, method="nystrom-cg", rank=2,
            generator=torch.Generator().manual_seed(5),
        ).value
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(values[0], values[1])
    assert all(torch.equal(a, b) for a, b in zip(theta, before, strict=True))
    assert not any(t.requires_grad for t in theta)


def test_trees_come_back_as_they_went() -> None:
    tree = {"b": [torch.zeros(2), torch.ones(())], "a": (torch.ones(1, 3),)}
    leaves = Leaves.of("tree", tree)
    again = leaves.tree()
    assert list(again) == ["b", "a"]
    assert isinstance(again["a"], tuple)
    assert leaves.names == ("tree['b'][0]", "tree['b'][1]", "tree['a'][0]")
    flat = torch.arange(6.0)
    assert [tuple(t.shape) for t in leaves.split(flat)] == [(2,), (), (1, 3)]


@pytest.mark.parametrize("solver", ["cg", "neumann", "dense"])
def test_a_right_hand_side_of_zero(solver: str) -> None:
    A = torch.diag(torch.tensor([1.0, 2.0], dtype=F64))
    b = torch.zeros(2, dtype=F64)
    if solver == "dense":
        found = linear_solve.dense(A, b)
    else:
        found = getattr(linear_solve, solver)(lambda v: A @ v, b, tolerance=1e-12)
    assert torch.equal(found.x, b)
    assert found.residual == 0


def test_nystrom_of_full_rank_is_the_matrix() -> None:
    A = torch.as_tensor(make_problem(5, 3).U)
    sketch = linear_solve.nystrom(lambda v: A @ v, A[0], 5, identities.generator())
    rebuilt = sketch.V @ torch.diag(sketch.w) @ sketch.V.T
    torch.testing.assert_close(rebuilt, A, rtol=1e-6, atol=1e-6)
    x = sketch.inverse(A[1], 0.5)
    want = torch.linalg.solve(A + 0.5 * torch.eye(5, dtype=F64), A[1])
    torch.testing.assert_close(x, want, rtol=1e-6, atol=1e-6)


def test_a_thread_that_is_not_warned_leaves_the_others_warned() -> None:
    """`warnings.catch_warnings` would silence all of them, or none once one has left it."""
    J, F = scalar_problem()
    phi = torch.tensor(0.7, dtype=F64)

    def off_the_solution() -> Any:
        return implicit(J, F, phi**3 + 0.1, phi)

    before = list(warnings.filters)
    with unwarned(), ThreadPoolExecutor(1) as pool:
        assert off_the_solution().doubts
        with pytest.raises(HypergradientWarning, match="inner gradient"):  # an error, in tests
            pool.submit(off_the_solution).result()
        assert warnings.filters == before
    with pytest.warns(HypergradientWarning, match="inner gradient"):
        off_the_solution()


def test_outer_loops_side_by_side_warn_once_each() -> None:
    """Neither lets a warning of its steps through where another one ends first."""
    J, F = scalar_problem()
    one = torch.tensor(1.0, dtype=F64)

    def climbed(steps: int) -> Any:
        return bilevel.solve(
            bilevel.Bilevel(J, F),
            0 * one,
            0.7 * one,
            optimiser=lambda leaves: torch.optim.SGD(leaves, lr=0.01),
            steps=steps,
            inner=bilevel.AdamSteps(1, 0.01),  # far from solved: every step has a doubt
        )

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(3) as pool:
        warnings.simplefilter("always")
        found = list(pool.map(climbed, (1, 3, 6)))
    assert all(row.doubts for each in found for row in each.history)
    assert len([w for w in caught if "outer points" in str(w.message)]) == 3
    assert len(caught) == 3


UNITS = [1e-100, 1e-8, 1.0, 1e8, 1e100]


def in_units(unit: float) -> tuple[Any, Any]:
    """Objectives of `θ = unit · φ`, a fourth power in the outer one."""

    def J(t: Tensor, p: Tensor) -> Tensor:
        return -(t / unit - p).square().sum() - (t / unit - p).pow(4).sum()

    def F(t: Tensor, p: Tensor) -> Tensor:
        return -(t / unit).pow(4).sum()

    return J, F


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("off", [1e-9, 1e-3, 0.5])
def test_whether_a_point_is_near_does_not_change_with_units(unit: float, off: float) -> None:
    J, F = in_units(unit)
    phi = torch.ones(2, dtype=torch.float64)
    with unwarned():
        found = implicit(J, F, unit * (1 + off) * phi, phi)
    assert found.converged == (off < 1e-6), found.doubts
    if found.converged:
        torch.testing.assert_close(found.value, -4 * phi, rtol=1e-6, atol=0)


def test_near_a_solution_at_0_derivatives_say_what_is_near() -> None:
    zero = torch.zeros(2, dtype=torch.float64)

    def J(t: Tensor, p: Tensor) -> Tensor:
        return -(t - p).square().sum()

    def F(t: Tensor, p: Tensor) -> Tensor:
        return -(t - 1).pow(4).sum()

    for off in (1e-12, 1e-3):
        with unwarned():
            found = implicit(J, F, zero + off, zero)
        assert found.converged == (off < 1e-6)
    inner, outer = (Leaves.of(name, zero + 1e-3).fresh() for name in ("theta", "phi"))
    # a slope of 4(1 - θ)³ changes by 3/(1 - θ) of itself, along both axes; J has one curvature
    here = Leaves.of("phi", zero).fresh()
    assert variation(J, F, inner, here) == pytest.approx(3 / (1 - 1e-3) / math.sqrt(2))
    assert variation(J, F, inner, outer) == 0.0  # at the solution


def test_an_outer_objective_of_a_modules_own_parameters_is_refused() -> None:
    """It has gradients, and none in θ or φ: `functional_call` was forgotten."""
    net, x = nn.Linear(2, 1, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    theta = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    phi = torch.tensor(0.3, dtype=torch.float64)

    def J(t: Any, p: Tensor) -> Tensor:
        return -torch.stack([(leaf - p).square().sum() for leaf in t.values()]).sum()

    def F(t: Any, p: Tensor) -> Tensor:
        return -net(x).square().mean()

    with pytest.raises(InputError, match="F does not depend on theta or phi"):
        implicit(J, F, theta, phi)
    with pytest.raises(InputError, match="F does not depend on theta or phi"):
        bilevel.solve(bilevel.Bilevel(J, F), theta, phi, optimiser=bilevel.lbfgs, steps=1)
