"""Damping chosen by the solver: none where it is not needed, or about as little as will do."""

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paper_checks.conformance.strategies import one_in
from solvers.bilevel import Bilevel, solve
from solvers.bilevel.convergence import Record, reached
from solvers.errors import InputError
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from tests.draws import F64, normal
from tests.gate.identities.hypergradients import make_quadratic

methods = pytest.mark.parametrize("method", ["dense", "cg"])


@pytest.mark.gate
@methods
@one_in(3)
@given(size=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_none_where_the_problem_is_strictly_concave(method: Any, size: int, seed: int) -> None:
    q = make_quadratic(size, 2, seed)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -theta @ q.A @ theta / 2 + theta @ (q.B @ phi + q.c)

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -(theta - q.t).square().sum() / 2 + q.d @ phi

    plain = implicit(J, F, q.theta(), q.phi, method=method, strict=True)
    auto = implicit(J, F, q.theta(), q.phi, method=method, damping="auto", strict=True)
    assert auto.damping == 0
    assert auto.doubts == ()
    torch.testing.assert_close(auto.value, plain.value, rtol=1e-12, atol=0)


@pytest.mark.gate
@one_in(2)
@given(seed=st.integers(0, 2**16), rank=st.integers(1, 4))
def test_the_pseudo_inverse_where_the_pull_lies_in_the_range(seed: int, rank: int) -> None:
    """`J` sees `Lᵀθ` only, and so does `F`."""
    L, b = torch.linalg.qr(normal(seed, 6, rank))[0], normal(seed + 1, rank)
    phi = normal(seed + 2, rank)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -(L.T @ theta - phi).square().sum()

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return (L.T @ theta) @ b

    with pytest.warns(HypergradientWarning, match="not strictly concave.*damped by"):
        found = implicit(J, F, L @ phi, phi, method="dense", damping="auto")
    torch.testing.assert_close(found.value, b, rtol=1e-5, atol=1e-9)
    assert 0 < found.damping < 1e-4
    assert len(found.doubts) == 1


@pytest.mark.gate
@methods
@one_in(3)
@given(seed=st.integers(0, 2**16), negative=st.floats(0.01, 10))
def test_an_indefinite_problem_is_doubted(method: Any, seed: int, negative: float) -> None:
    doubted(method, seed, negative)


def doubted(method: Any, seed: int, negative: float) -> None:
    q, _ = torch.linalg.qr(normal(seed, 4, 4))
    A = q @ torch.tensor([-negative, 0.5, 1.0, 2.0], dtype=F64).diag() @ q.T
    A, b = (A + A.T) / 2, normal(seed + 1, 4)
    phi = normal(seed + 2, 4)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -theta @ A @ theta / 2 + theta @ phi

    theta = torch.linalg.solve(A, phi)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = implicit(J, lambda t, p: b @ t, theta, phi, method=method, damping="auto")
    assert bool(torch.isfinite(found.value).all())
    of = A.diagonal().abs() if method == "dense" else torch.ones(4, dtype=F64)
    added = found.damping * of.diag()
    damped = A + added
    assert float(torch.linalg.eigvalsh(damped)[0]) > 0
    assert len(caught) == 1
    words = "; ".join(found.doubts)
    assert "curvature" in words
    assert f"damped by {found.damping:.3g}" in words
    torch.testing.assert_close(found.value, torch.linalg.solve(damped, b), rtol=1e-6, atol=1e-9)
    with pytest.raises(HypergradientError, match="not strictly concave"):
        implicit(J, lambda t, p: b @ t, theta, phi, method=method, damping="auto", strict=True)


@pytest.mark.parametrize("method", ["neumann", "nystrom", "nystrom-cg"])
def test_methods_that_cannot_tell_refuse(method: Any) -> None:
    one = torch.ones(2, dtype=F64)
    with pytest.raises(InputError, match="damping 'auto' goes with 'dense' and 'cg'"):
        implicit(
            lambda t, p: -(t - p).square().sum(), lambda t, p: t.sum(), one, one,
            method=method, damping="auto", generator=torch.Generator().manual_seed(0),
        )  # fmt: skip


@pytest.mark.parametrize("method", ["nystrom", "nystrom-cg"])
def test_a_sketch_of_what_is_not_concave_is_refused(method: Any) -> None:
    one, w = torch.ones(2, dtype=F64), torch.tensor([3.0, -1.0], dtype=F64)
    with pytest.raises(HypergradientError, match=r"J is not concave at theta: .* use another"):
        implicit(
            lambda t, p: -(w * t * t).sum() + (t * p).sum(), lambda t, p: t.sum(), one, one,
            method=method, damping=3.0, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip


@pytest.mark.parametrize("damping", [-1.0, math.nan, math.inf])
def test_dampings_that_are_none(damping: float) -> None:
    one = torch.ones(2, dtype=F64)
    with pytest.raises(InputError, match="pass a number >= 0, or 'auto'"):
        implicit(lambda t, p: -(t - p).square().sum(), lambda t, p: t.sum(), one, one,
                 damping=damping)  # fmt: skip


def test_a_run_warns_once() -> None:
    """`θ` has a direction that `J` does not see."""
    zero = torch.zeros(2, dtype=F64)
    problem = Bilevel(
        lambda t, p: -(t.sum() - p.sum()).square(), lambda t, p: -(t.sum() - 1).square()
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = solve(problem, zero, zero, optimiser=lambda p: torch.optim.SGD(p, lr=0.1), steps=4)
    assert [w.category for w in caught] == [HypergradientWarning]
    assert f"of {len(found.history)} outer points" in str(caught[0].message)
    assert any(row.doubts for row in found.history)
    clean = Bilevel(lambda t, p: -(t - p).square().sum(), lambda t, p: -(t.sum() - 1).square())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(clean, zero, zero, optimiser=lambda p: torch.optim.SGD(p, lr=0.1), steps=4)


@pytest.mark.parametrize("size", [20, 250])  # dense, and by CG
@pytest.mark.parametrize("seed", [0, 1])
def test_a_hypergradient_that_is_damped_away_is_no_maximum(size: int, seed: int) -> None:
    """Half of `J` grows as steep as `exp φ`, beside which rounding hides the half that `F` sees."""
    Q, zero = torch.linalg.qr(normal(seed, size, size))[0], torch.zeros(1, dtype=F64)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        steep, flat = (Q @ theta).tensor_split(2)
        return -phi[0].exp() * steep.square().sum() / 2 - (flat - phi[0]).square().sum() / 2

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -((Q @ theta).tensor_split(2)[1] - 1).square().sum() / 2

    def climbed(step: float) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            return solve(
                Bilevel(J, F), torch.zeros(size, dtype=F64), zero,
                optimiser=lambda p: torch.optim.Adam(p, lr=step), steps=1,
            )  # fmt: skip

    near, far = climbed(1.0), climbed(130.0)
    assert near.converged
    assert near.history[-1].held == 0
    assert not far.converged
    assert far.history[-1].held > 0.9
    assert "says nothing: the Hessian of J was damped by" in far.reason


@pytest.mark.parametrize("size", [6, 20])
def test_a_singular_problem_converges_with_damping(size: int) -> None:
    """`J` sees half of `θ`, and so does `F`."""
    Q = torch.linalg.qr(normal(0, size, size))[0]

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -((Q @ theta).tensor_split(2)[1] - phi[0]).square().sum() / 2

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -((Q @ theta).tensor_split(2)[1] - 1).square().sum() / 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        found = solve(
            Bilevel(J, F), torch.zeros(size, dtype=F64), torch.zeros(1, dtype=F64),
            optimiser=lambda p: torch.optim.SGD(p, lr=2 / size), steps=5,
        )  # fmt: skip
    assert found.converged
    assert found.history[-1].damping > 0
    torch.testing.assert_close(found.phi, torch.ones(1, dtype=F64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pull", "away"), [(1e-3, True), (1e-9, False), (0.0, False)])
def test_a_pull_that_is_0_but_for_rounding_is_not_damped_away(pull: float, away: bool) -> None:
    """What rounding leaves of `∂_θF` at a maximum lies in any direction, also where `J` is flat."""
    start = Record(0, 0.0, 0.0, 1.0, 0.0, 0.0, 1, 1.0, pull=1.0)
    last = replace(start, hypergradient=1e-9, damping=1.0, held=1.0, pull=pull)
    reason = reached([start, last], 1.0, 1e-6, F64)
    assert (reason is None) == away


@pytest.mark.parametrize("damping", [0.5, 2.0])
def test_what_the_damping_holds_is_its_share_of_the_curvature(damping: float) -> None:
    """Of curvature 2 and pull 3, `x = 3/(2 + damping)`, and `3 - 2x` is left of the pull."""

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -(theta - phi).square().sum()

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return 3 * theta.sum()

    found = implicit(J, F, torch.ones(1, dtype=F64), torch.ones(1, dtype=F64), damping=damping)
    assert found.held == pytest.approx(damping / (2 + damping), rel=1e-12)
    assert found.pull == 3


def test_a_hypergradient_counts_as_0_below_its_share_or_the_resolution_of_the_objective() -> None:
    start = Record(0, 1.0, 0.0, 1.0, 0.0, 0.0, 1, 1.0, pull=1.0)
    last = replace(start, hypergradient=0.5)
    assert reached([start, last], 1.0, 1e-6, F64) is None
    assert reached([start, last], 1.0, 0.6, F64) == "the hypergradient is 0.5 of the largest met"
    tiny = replace(start, hypergradient=1e-6)
    assert reached([start, tiny], 1.0, 1e-9, F64) is None
    far = replace(tiny, F=1e4)  # of which rounding is 10⁻¹²
    assert "below the resolution of F" in str(reached([start, far], 1.0, 1e-9, F64))
    assert reached([start, far], 1.0, 0.0, F64) is None
