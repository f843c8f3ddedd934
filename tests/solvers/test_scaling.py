"""Units change nothing: objectives multiplied by a number, however large, give the same answers."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paper_checks.conformance.strategies import one_in
from solvers.bilevel import Bilevel
from solvers.bilevel.single_loop import single_loop
from solvers.hypergradients.implicit import Hypergradient, implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, Adam, one_step, unrolled
from solvers.numerics import linear_solve, norms
from tests.draws import F64

F32 = torch.float32
ETA = 0.2  # learning rate of the unrolled steps; the curvatures of J lie between 1 and 4
dtypes = pytest.mark.parametrize("dtype", [F64, F32])


@dataclass(frozen=True)
class Quadratic:
    """`J = -c ½θᵀAθ + c θᵀBφ`, `F = -f ½‖θ - t‖² + f dᵀφ`, exact in closed form."""

    dtype: torch.dtype
    seed: int

    def drawn(self, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + 100 * sum(shape))
        return torch.randn(*shape, generator=generator, dtype=F64).to(self.dtype)

    @property
    def A(self) -> Tensor:
        q, _ = torch.linalg.qr(self.drawn(3, 3).double())
        A = q @ torch.tensor([1.0, 2.0, 4.0], dtype=F64).diag() @ q.T
        return ((A + A.T) / 2).to(self.dtype)

    def objectives(self, c: float, f: float) -> tuple[Any, Any]:
        A, B, t, d = self.A, self.drawn(3, 2), self.drawn(3) + 3, self.drawn(2)

        def J(theta: Tensor, phi: Tensor) -> Tensor:
            return c * (-theta @ A @ theta / 2 + theta @ (B @ phi))

        def F(theta: Tensor, phi: Tensor) -> Tensor:
            return f * (-(theta - t).square().sum() / 2 + d @ phi)

        return J, F

    @property
    def phi(self) -> Tensor:
        return torch.tensor([0.5, -1.5], dtype=self.dtype)

    @property
    def theta(self) -> Tensor:
        pull = (self.drawn(3, 2) @ self.phi).double()
        return torch.linalg.solve(self.A.double(), pull).to(self.dtype)


quadratics = st.integers(0, 2**16)
Run = Callable[[Quadratic, float, float], Hypergradient]


def by_implicit(method: Any, **options: Any) -> Run:
    def run(problem: Quadratic, c: float, f: float) -> Hypergradient:
        more = dict(options)
        if "nystrom" in method:
            more |= {"generator": torch.Generator().manual_seed(0), "rank": 3}
        if method == "nystrom":
            more |= {"damping": 0.1 * c}
        return implicit(
            *problem.objectives(c, f), problem.theta, problem.phi,
            method=method, strict=True, **more,
        )  # fmt: skip

    return run


def by_sgd(problem: Quadratic, c: float, f: float) -> Hypergradient:
    return unrolled(
        *problem.objectives(c, f), problem.theta + 0.1, problem.phi,
        optimiser=SGD(ETA / c), steps=30, strict=True, tolerance=1e-2, distance=1e-2,
    )  # fmt: skip


def by_adam(problem: Quadratic, c: float, f: float) -> Hypergradient:
    return unrolled(
        *problem.objectives(1.0, f), problem.theta + 0.1, problem.phi,
        optimiser=Adam(0.05), steps=5, strict=True, tolerance=math.inf, distance=math.inf,
    )  # fmt: skip


def by_one_step(problem: Quadratic, c: float, f: float) -> Hypergradient:
    return one_step(
        *problem.objectives(c, f), problem.theta + 0.1, problem.phi,
        optimiser=SGD(ETA / c), strict=True, tolerance=math.inf, distance=math.inf,
    )  # fmt: skip


def by_penalty(problem: Quadratic, c: float, f: float) -> Hypergradient:
    close = 1e4 if problem.dtype == F64 else 300.0
    return penalty(
        *problem.objectives(c, f), problem.theta, problem.phi, weight=close * f / c, strict=True
    )


def by_single_loop(problem: Quadratic, c: float, f: float) -> Hypergradient:
    J, F = problem.objectives(c, f)
    found = single_loop(
        Bilevel(J, F), problem.theta, problem.phi,
        steps=10, every=10, inner_rate=lambda k: ETA / c, outer_rate=lambda k: 0.05 / f,
    )  # fmt: skip
    last = found.history[-1]
    moved = (found.phi - problem.phi) * f  # the sum of all directions
    return Hypergradient(moved, last.stationarity, last.residual, last.iterations, last.curvature)


METHODS: dict[str, Run] = {
    "dense": by_implicit("dense"),
    "cg": by_implicit("cg"),
    "neumann": by_implicit("neumann"),
    "nystrom": by_implicit("nystrom", tolerance=1e-4),
    "nystrom-cg": by_implicit("nystrom-cg"),
    "unrolled": by_sgd,
    "unrolled Adam": by_adam,
    "one_step": by_one_step,
    "penalty": by_penalty,
    "single_loop": by_single_loop,
}
methods = pytest.mark.parametrize("method", METHODS)
powers = {F64: st.floats(-150, 150), F32: st.floats(-30, 30)}


def close(name: str, got: float, want: float, eps: float, size: float = 0.0) -> None:
    assert abs(got - want) <= eps * (abs(want) + size), f"{name} fails: {got} for {want}"


def scales(name: str, seed: int, dtype: torch.dtype, c: float, f: float) -> None:
    """The hypergradient is multiplied by `f`, its diagnostics by what their units say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = METHODS[name](Quadratic(dtype, seed), 1.0, 1.0)
        scaled = METHODS[name](Quadratic(dtype, seed), c, f)
    assert scaled.doubts == ()
    # penalty takes a difference of gradients that agree to about 1/weight
    digits = (1e-9, 1e-3) if name != "penalty" else (1e-6, 5e-2)
    eps = digits[dtype == F32]
    size = float(plain.value.double().norm())
    off = float((scaled.value.double() / f - plain.value.double()).norm())
    assert off <= eps * size, f"the hypergradient by {name} fails: {off} of {size}, c={c}, f={f}"
    assert plain.residual is not None
    assert scaled.residual is not None
    close("the residual", scaled.residual, plain.residual, eps, 1.0)
    gradient = 4 * float(Quadratic(dtype, seed).theta.norm())
    # unrolled takes it along the gradient, whose direction is rounding where it is nearly 0
    known = name != "unrolled" or plain.stationarity > 1e3 * torch.finfo(dtype).eps * gradient
    if known and plain.curvature is not None and scaled.curvature is not None:
        close("the curvature", scaled.curvature / c, plain.curvature, eps, 4.0)
    if name != "penalty":  # 0 but for rounding there, and for what the search leaves
        close("the stationarity", scaled.stationarity / c, plain.stationarity, eps, gradient)
    if name not in ("penalty", "neumann"):  # the number of steps may hang on a rounded comparison
        assert abs(scaled.iterations - plain.iterations) <= 1


@pytest.mark.gate
@dtypes
@methods
@one_in(6)
@given(data=st.data(), seed=quadratics)
def test_the_units_of_the_outer_objective(
    method: str, dtype: torch.dtype, data: st.DataObject, seed: int
) -> None:
    scales(method, seed, dtype, 1.0, 10.0 ** data.draw(powers[dtype]))


@pytest.mark.gate
@dtypes
@pytest.mark.parametrize("method", [name for name in METHODS if name != "unrolled Adam"])
@one_in(6)
@given(power=st.floats(-12, 12), seed=quadratics)
def test_the_units_of_the_inner_objective(
    method: str, dtype: torch.dtype, power: float, seed: int
) -> None:
    scales(method, seed, dtype, 10.0**power, 1.0)


@pytest.mark.gate
@pytest.mark.parametrize("method", ["dense", "cg", "neumann", "nystrom-cg"])
@pytest.mark.parametrize(
    ("dtype", "size"), [(F32, 1e-24), (F64, 1e-165), (F32, 1e20), (F64, 1e-290), (F32, 1e-36)]
)
def test_a_tiny_hypergradient_is_not_nothing(method: Any, dtype: torch.dtype, size: float) -> None:
    point = torch.ones(3, dtype=dtype)  # θ* = φ, so that dF/dφ = -size (φ - 3)/2
    found = implicit(
        lambda t, p: -(t - p).square().sum(),
        lambda t, p: -size * (t - 3).square().sum() / 4,
        point, point, method=method, strict=True, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    torch.testing.assert_close(found.value / size, point, rtol=1e-5, atol=0)
    assert found.residual is not None
    assert found.residual < 1e-5


sizes = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


@pytest.mark.gate
@dtypes
@given(data=st.data(), entries=sizes)
def test_norms_are_those_of_exact_sums(
    dtype: torch.dtype, data: st.DataObject, entries: list[float]
) -> None:
    range_ = (-300, 300) if dtype == F64 else (-37, 37)
    scale = 10.0 ** data.draw(st.floats(*range_))
    v = torch.tensor(entries, dtype=F64).mul(scale).to(dtype)
    largest = float(v.abs().amax())
    unit = [float(x) / largest if largest else 0.0 for x in v]
    want = largest * math.sqrt(math.fsum(x * x for x in unit))
    got = norms.norm(v)
    assert got == pytest.approx(want, rel=4 * torch.finfo(dtype).eps, abs=0)
    other = v.flip(0) * 0.5 + v
    if bool(other.any()):
        w = [float(x) / largest for x in other]
        want = math.sqrt(math.fsum(x * x for x in unit)) / math.sqrt(math.fsum(x * x for x in w))
        assert norms.share(v, other) == pytest.approx(want, rel=8 * torch.finfo(dtype).eps)


def test_shares_of_nothing_and_of_very_different_sizes() -> None:
    zero, one = torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)
    assert norms.share(zero, zero) == 0
    assert norms.share(zero, one) == 0
    assert norms.share(one, zero) == math.inf
    assert norms.share(1e-200 * one, one) == pytest.approx(1e-200)
    assert norms.share(one, 1e-200 * one) == pytest.approx(1e200)
    assert norms.norm(torch.tensor([math.nan, 1.0])) != norms.norm(one)
    assert norms.norm(torch.tensor([math.inf, 1.0])) == math.inf
    assert norms.norm(torch.tensor(-3.0)) == 3.0


SOLVERS: dict[str, Callable[[Tensor, Tensor], linear_solve.Solve]] = {
    "cg": lambda A, b: linear_solve.cg(lambda v: A @ v, b, tolerance=1e-5),
    "neumann": lambda A, b: linear_solve.neumann(lambda v: A @ v, b, tolerance=1e-5),
    "dense": linear_solve.dense,
}


@pytest.mark.gate
@dtypes
@pytest.mark.parametrize("solver", SOLVERS)
@one_in(2)
@given(data=st.data(), seed=quadratics)
def test_linear_systems_in_any_units(
    solver: str, dtype: torch.dtype, data: st.DataObject, seed: int
) -> None:
    reach = 140.0 if dtype == F64 else 17.0
    a, c = (10.0 ** data.draw(st.floats(-reach, reach)) for _ in range(2))
    problem = Quadratic(dtype, seed)
    A, b = problem.A, problem.theta + 1
    plain, scaled = SOLVERS[solver](A, b), SOLVERS[solver](a * A, c * b)
    got = scaled.x.double() / c * a
    torch.testing.assert_close(got, plain.x.double(), rtol=1e-4, atol=1e-5)
    assert scaled.residual <= 1e-4
    assert scaled.curvature / a == pytest.approx(plain.curvature, rel=1e-2)
