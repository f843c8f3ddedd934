"""Converged means near the solution, in whatever units the problem is written."""

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from paper_checks.conformance.strategies import Problem, one_in, problems, spd
from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.data import Dataset, LabelledData
from solvers.errors import InputError
from solvers.families.categorical import CategoricalPolicy
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.hypergradients.differentiable import InnerSolutionError, inner_solution
from solvers.numerics import minimise
from solvers.numerics.norms import digits
from solvers.rewards import bounded
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.tasks import regression
from solvers.training import inner
from solvers.training.objectives import MSE, NLL, PolicyGradient
from tests.draws import F64, normal

F32 = torch.float32
WEIGHTS = [1e-9, 1e-6, 1.0, 1e6, 1e9]
weights = pytest.mark.parametrize("lam", WEIGHTS)
factors = pytest.mark.parametrize("c", [1e-12, 1e-6, 1e6, 1e12])
UNITS = [(1e-6, 1), (1e6, 1), (1, 1e-6), (1, 1e6)]
units = pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
searches = pytest.mark.parametrize("search", [inner.gradient, inner.second_order])


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def rows(inputs: float = 1.0, outcomes: float = 1.0) -> Dataset:
    x = normal(0, 25, 2)
    y = x @ normal(1, 2, 2) + 0.3 * normal(2, 25, 2)
    return Dataset.of(inputs * x, (outcomes * y).unsqueeze(1))


def start(policy: GaussianPolicy, inputs: float = 1.0, outcomes: float = 1.0) -> dict[str, Tensor]:
    """Return parameters drawn as usual, written in the units of the data."""
    drawn = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    drawn = {name: value.detach().clone() for name, value in drawn.items()}
    for name, value in drawn.items():
        if name.startswith("mean"):
            drawn[name] = value * outcomes / (inputs if "weight" in name else 1)
    if outcomes != 1:  # a diagonal S: its logarithm is shifted
        drawn["scale.raw"] = drawn["scale.raw"] + math.log(outcomes)
    return drawn


def least_squares(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return fitted means and the covariance of the residuals."""
    scale = data.x.abs().amax()
    X = torch.cat([data.x / scale, torch.ones(len(data.x), 1, dtype=F64)], 1)
    fitted = X @ torch.linalg.lstsq(X, data.mean).solution
    return fitted, (data.mean - fitted).T @ (data.mean - fitted) / len(X)


@pytest.mark.gate
@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@weights
@one_in(5)
@given(problem=problems(3), power=st.floats(-6, 6))
def test_the_closed_form(structure: Any, lam: float, problem: Problem, power: float) -> None:
    t = problem.tensors()
    reward = MahalanobisReward.full(t["U"] * 10.0 ** (-2 * power))
    found = inner.closed_form(reward, lam, t["mu"] * 10.0**power, structure)
    assert found.converged, found.distance
    P = found.value.covariance / lam / 10.0 ** (2 * power)
    want = inner.closed_form(MahalanobisReward.full(t["U"]), 1.0, t["mu"], structure)
    torch.testing.assert_close(P, want.value.covariance, rtol=1e-9, atol=0)


@pytest.mark.gate
@searches
@weights
def test_a_policy_trained_with_any_entropy_weight(search: Any, lam: float) -> None:
    data, policy = rows(), GaussianPolicy(2, 2, "full")
    U = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    trained = search(
        policy, start(policy), PolicyGradient(MahalanobisReward.full(U), number(lam)), data
    )
    assert trained.converged, trained.reason
    law = policy(trained.value, data.x)
    P = lam / 2 * torch.linalg.inv(U)
    torch.testing.assert_close(law.covariance[0], P, rtol=1e-7, atol=0)
    torch.testing.assert_close(law.mean, least_squares(data)[0], rtol=1e-5, atol=1e-5 * lam**0.5)


@pytest.mark.gate
@searches
@factors
def test_a_multiple_of_the_objective_has_the_same_solution(search: Any, c: float) -> None:
    """`cU` and `cλ`: the same policy."""
    data, policy = rows(), GaussianPolicy(2, 2, "full")
    U = c * torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    trained = search(
        policy, start(policy), PolicyGradient(MahalanobisReward.full(U), number(c)), data
    )
    assert trained.converged, trained.reason
    law = policy(trained.value, data.x)
    torch.testing.assert_close(law.covariance[0], c / 2 * torch.linalg.inv(U), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(law.mean, least_squares(data)[0], rtol=1e-6, atol=1e-7)


def excess(policy: GaussianPolicy, params: dict[str, Tensor], data: Dataset) -> float:
    """Return the nats above the best likelihood of a diagonal covariance."""
    variances = least_squares(data)[1].diagonal()
    best = 0.5 * (variances.log().sum() + 2 + 2 * math.log(2 * math.pi))
    return float(NLL()(policy(params, data.x), data) - best)


@pytest.mark.gate
@searches
@pytest.mark.parametrize(("inputs", "outcomes"), UNITS)
def test_data_in_any_units(search: Any, inputs: float, outcomes: float) -> None:
    data, policy = rows(inputs, outcomes), GaussianPolicy(2, 2, "diagonal")
    found = search(policy, start(policy, inputs, outcomes), NLL(), data, max_iterations=400)
    # L-BFGS sees a condition number of 1e12 there, and may need more than that
    assert found.converged or (search is inner.gradient and "budget" in found.reason), found.reason
    assert found.converged == (excess(policy, found.value, data) < 1e-9)
    found = search(policy, start(policy), MSE(), data)
    assert found.converged, found.reason
    means = policy(found.value, data.x).mean
    torch.testing.assert_close(
        means / outcomes, least_squares(data)[0] / outcomes, rtol=1e-6, atol=1e-7
    )


@pytest.mark.gate
@searches
@pytest.mark.parametrize(("inputs", "outcomes"), UNITS)
def test_a_start_far_off_is_followed_or_given_up(
    search: Any, inputs: float, outcomes: float
) -> None:
    """From a start of size 1, six orders away: never called the solution where it is not."""
    data, policy = rows(inputs, outcomes), GaussianPolicy(2, 2, "diagonal")
    found = search(policy, start(policy), NLL(), data, max_iterations=150)
    assert found.converged == (excess(policy, found.value, data) < 1e-9), found.reason


@pytest.mark.gate
@pytest.mark.parametrize("lam", [0.5, 1e-9, 1e9])
def test_the_plug_in_algorithm_on_linnerud(lam: float) -> None:
    data, policy = regression.load("linnerud").data, GaussianPolicy(3, 3)
    _, Sigma = least_squares(data)
    best = 0.5 * (torch.logdet(Sigma) + 3 + 3 * math.log(2 * math.pi))
    found = likelihood.plug_in(policy, start(policy), torch.tensor(lam, dtype=F64), data).trained
    excess = float(NLL()(policy(found.value, data.x), data) - best)
    assert found.converged, found.reason
    assert excess < 1e-9, f"{excess} nats off: {found.reason}"


def labelled() -> LabelledData:
    x = normal(3, 30, 2)
    return LabelledData.soft(x, (x @ normal(4, 2, 3)).softmax(-1))


@pytest.mark.gate
@weights
def test_classes_with_any_entropy_weight(lam: float) -> None:
    """Rewards `λr` have the solution of `r` with weight 1, whatever `λ`."""
    data, policy = labelled(), CategoricalPolicy(2, 3)
    table = normal(5, 1, 3, 3)

    def solved(lam: float) -> Any:
        reward = ClassReward(lam * table)
        weight = torch.tensor(lam, dtype=F64)
        return inner.fit(policy, data, PolicyGradient(reward, weight), weight_decay=0.1)

    plain, found = solved(1.0), solved(lam)
    assert found.converged, found.reason
    for name, value in found.value.items():
        torch.testing.assert_close(value, plain.value[name], rtol=1e-7, atol=1e-9)


@pytest.mark.gate
@units
def test_logistic_regression_in_any_units(unit: float) -> None:
    """Inputs times a number: the likelihood without decay is the same function of the law."""
    data, policy = labelled(), CategoricalPolicy(2, 3)
    scaled = LabelledData.soft(unit * data.x, data.pi)
    laws = []
    for one in (data, scaled):
        found = inner.fit(policy, one, weight_decay=0.0)
        assert found.converged, found.reason
        laws.append(policy(found.value, one.x).p)
    torch.testing.assert_close(laws[0], laws[1], rtol=1e-6, atol=1e-8)


@pytest.mark.gate
@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("share", [1e-9, 1e-3, 0.5, 0.99])
def test_the_bounded_reward(unit: float, share: float) -> None:
    omega, variance = torch.tensor(2.0, dtype=F64), torch.tensor(0.7, dtype=F64)
    lam = share * bounded.critical_lam(omega, variance, 2)

    def solved(unit: float) -> Any:
        reward = bounded.BoundedReward(omega * unit**2)
        mu = torch.zeros(2, dtype=F64)
        with pytest.warns(bounded.NoGlobalMaximumWarning):
            return bounded.inner_solution(reward, lam, mu, variance * unit**2)

    found = solved(unit)
    assert found.converged, found.distance
    s = float(found.value.scale[0] / unit) ** 2
    # λ = 2s ω/(ω + 2s + 2β²)² at n = 2
    assert 2 * s * 2 / (2 + 2 * s + 1.4) ** 2 == pytest.approx(float(lam), rel=1e-9)


def concave(seed: int, n: int) -> tuple[Tensor, Tensor]:
    A = torch.as_tensor(spd(np.random.default_rng(seed), n))
    return A, normal(seed, n) + 2


@pytest.mark.gate
@factors
@one_in(5)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 5))
def test_the_differentiable_solution(c: float, seed: int, n: int) -> None:
    A, b = concave(seed, n)
    phi = b.clone().requires_grad_()

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return c * (-theta @ A @ theta / 2 + theta @ phi - 0.1 * theta.cosh().log().sum())

    found = inner_solution(J, torch.zeros(n, dtype=F64), phi)
    left = A @ found.detach() + 0.1 * found.detach().tanh() - b
    assert float(left.norm()) < 1e-10 * float(b.norm())
    (slope,) = torch.autograd.grad(found.sum(), phi)
    H = A + 0.1 * torch.diag(1 / found.detach().cosh() ** 2)
    torch.testing.assert_close(slope, torch.linalg.solve(H, torch.ones(n, dtype=F64)))


@pytest.mark.gate
@pytest.mark.parametrize("dtype", [F64, F32])
@one_in(2)
@given(
    seed=st.integers(0, 2**16), n=st.integers(1, 6),
    power=st.floats(-12, 12), shift=st.floats(0, 2),
)  # fmt: skip
def test_the_distance_is_the_true_one(
    dtype: torch.dtype, seed: int, n: int, power: float, shift: float
) -> None:
    """On a quadratic, in the norm of the Hessian, over the larger of `‖θ‖` and the way."""
    A, solution = concave(seed, n)
    here = (solution * (1 + 10**-shift * 0.3)).to(dtype)
    A, solution = A.to(dtype), solution.to(dtype)
    c = 10.0**power

    def loss(p: Params) -> Tensor:
        off = p["t"] - solution
        return c * (off @ A @ off) / 2 + c

    found = inner.minimum({"t": here}, loss, tolerance=10.0)
    assert found.converged

    def size(v: Tensor) -> float:
        return math.sqrt(float(v.double() @ A.double() @ v.double()))

    want = size(here.double() - solution.double()) / size(here)
    assert found.distance == pytest.approx(want, rel=1e-8 if dtype == F64 else 1e-2)


def network(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return (x @ p["w"] + p["c"]).tanh() @ p["v"] + p["b"]


def saddle(hidden: int) -> tuple[dict[str, Tensor], Any]:
    """Return a tanh network with all weights 0, on centred outcomes: its gradient is 0."""
    x = normal(8, 40, 2)
    y = torch.tensor([1.0, -1.0], dtype=F64).repeat(20)[:, None]
    p = {"w": (2, hidden), "c": (hidden,), "v": (hidden, 1), "b": (1,)}
    at = {name: torch.zeros(*shape, dtype=F64) for name, shape in p.items()}
    return at, lambda p: (network(p, x) - y).square().mean()


UNBOUNDED: dict[str, Any] = {
    "linear": lambda p: -p["t"].sum(),
    "convex": lambda p: -(p["t"] ** 2).sum(),
    "cubic": lambda p: -(p["t"] ** 3).sum(),
    "logarithmic": lambda p: -(1 + p["t"] ** 2).log().sum(),
    "hyperbolic": lambda p: p["t"][0] * p["t"][1],
}
POINT = {"t": torch.tensor([1.0, 2.0], dtype=F64)}


@pytest.mark.gate
@pytest.mark.parametrize("hidden", [3, 100])
def test_a_saddle_is_no_solution(hidden: int) -> None:
    at, loss = saddle(hidden)
    found = inner.minimum(at, loss)
    assert found.stationarity == 0
    assert not found.converged
    assert found.distance == math.inf
    assert "saddle" in found.reason


@pytest.mark.gate
@pytest.mark.parametrize("name", UNBOUNDED)
def test_no_minimum_is_no_solution(name: str) -> None:
    found = inner.minimum(POINT, UNBOUNDED[name], max_iterations=400)
    assert not found.converged, found
    assert found.reason
    with pytest.raises((InnerSolutionError, InputError)):
        inner_solution(
            lambda t, p: p - UNBOUNDED[name]({"t": t}), POINT["t"], torch.ones((), dtype=F64)
        )


@pytest.mark.gate
@searches
def test_a_spent_budget_is_named(search: Any) -> None:
    policy = GaussianPolicy(2, 2, mean=MLP((8,)))
    found = search(policy, start(policy), NLL(), rows(), max_iterations=6)
    assert not found.converged
    assert "budget of 6" in found.reason
    assert found.distance == math.inf or found.distance > 1e-8


@pytest.mark.gate
@pytest.mark.parametrize("tolerance", [0.0, 1e-300, 1e-20])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_more_than_the_precision_holds_is_not_reached(tolerance: float, dtype: torch.dtype) -> None:
    """Unless the gradient is 0 to the last bit."""
    for seed in range(5):
        A, b = (t.to(dtype) for t in concave(seed, 4))

        def loss(p: Params, A: Tensor = A, b: Tensor = b) -> Tensor:
            t = p["t"]
            return t @ A @ t / 2 - b @ t + t.cosh().log().sum()

        found = inner.minimum({"t": torch.zeros(4, dtype=dtype)}, loss, tolerance=tolerance)
        true = found.stationarity == 0 or found.distance <= tolerance
        assert found.converged == true, found
        assert found.reason


def test_single_precision_cannot_do_what_double_can() -> None:
    A, b = concave(1, 4)

    def solved(dtype: torch.dtype) -> Any:
        def loss(p: Params) -> Tensor:
            t = p["t"]
            return t @ A.to(dtype) @ t / 2 - b.to(dtype) @ t + t.cosh().log().sum()

        return inner.minimum({"t": torch.zeros(4, dtype=dtype)}, loss, tolerance=1e-12)

    double, single = solved(F64), solved(F32)
    assert double.converged, double.reason
    assert single.converged == (single.distance <= 1e-12 or single.stationarity == 0), single


# the outer loop


def outer_problem(f: float = 1.0, c: float = 1.0, shift: float = 0.0) -> bilevel.Bilevel:
    """`θ* = φ + sin φ/4`, F is largest where that is `target`."""
    target = torch.tensor([1.0, -0.5, 2.0], dtype=F64)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        moved = theta - phi - phi.sin() / 4
        return -c * (moved.cosh() + moved**2 / 2).sum()

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return f * (shift - (theta - target).square().sum() - 0.1 * phi.square().sum())

    return bilevel.Bilevel(J, F)


def climbed(problem: bilevel.Bilevel, **options: Any) -> bilevel.Result:
    """Ascend along the direction of the hypergradient in units of the first one."""
    zero = torch.zeros(3, dtype=F64)
    return bilevel.solve(problem, zero, zero, **options)


def lbfgs(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(tensors, line_search_fn="strong_wolfe", tolerance_grad=0.0)


def adam(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(tensors, lr=0.3, eps=1e-300)


@pytest.mark.gate
@pytest.mark.parametrize("f", [1e-12, 1e-5, 1e6, 1e12])
def test_the_outer_loop_stops_at_the_same_step_in_any_units(f: float) -> None:
    plain, scaled = (
        climbed(outer_problem(k), optimiser=adam, steps=20, tolerance=0.1) for k in (1.0, f)
    )
    assert plain.converged
    assert scaled.converged
    assert len(plain.history) == len(scaled.history)
    torch.testing.assert_close(plain.phi, scaled.phi, rtol=1e-6, atol=1e-7)


@pytest.mark.gate
@factors
def test_the_outer_loop_in_any_units_of_the_inner_problem(c: float) -> None:
    found = climbed(outer_problem(c=c), optimiser=lbfgs, steps=20)
    plain = climbed(outer_problem(), optimiser=lbfgs, steps=20)
    assert found.converged, found.reason
    torch.testing.assert_close(found.phi, plain.phi, rtol=1e-5, atol=1e-6)
    assert all(row.inner_converged for row in found.history)


@pytest.mark.gate
def test_a_constant_added_to_the_outer_objective_changes_little() -> None:
    found = climbed(outer_problem(shift=1e3), optimiser=lbfgs, steps=20)
    plain = climbed(outer_problem(), optimiser=lbfgs, steps=20)
    assert plain.converged, plain.reason
    assert found.converged, found.reason
    # F resolves 1e-13 of 1e3 only, which is a distance of 1e-5 around its maximum
    torch.testing.assert_close(found.phi, plain.phi, rtol=0, atol=3e-5)


def test_the_result_says_why_it_stopped() -> None:
    found = climbed(outer_problem(), optimiser=adam, steps=2)
    assert not found.converged
    assert "all 2 steps are taken" in found.reason
    assert "of the largest met, not 1e-06" in found.reason
    found = climbed(outer_problem(), optimiser=lbfgs, steps=20)
    assert found.converged
    assert "the hypergradient is" in found.reason
    short = climbed(outer_problem(), optimiser=adam, steps=2, inner=bilevel.Exact(tolerance=1e-300))
    assert "inner solves are less accurate than was asked" in short.reason
    nothing = bilevel.Bilevel(outer_problem().J, lambda t, p: 0 * p.sum())
    found = climbed(nothing, optimiser=adam, steps=2)
    assert (found.converged, found.reason) == (True, "the hypergradient is 0")


def test_a_loop_of_no_steps_where_nothing_has_a_slope() -> None:
    from solvers.bilevel.single_loop import single_loop

    zero = torch.zeros(3, dtype=F64)
    problem = bilevel.Bilevel(outer_problem().J, lambda t, p: -t.square().sum())
    found = single_loop(
        problem, zero, zero, steps=0, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
    )
    assert not found.converged
    assert "all 0 steps are taken" in found.reason


def test_networks_are_no_concave_problems_and_say_so() -> None:
    """A network that has not reached a minimum is not called converged."""
    policy = GaussianPolicy(2, 2, "diagonal", mean=MLP((6,)))
    data = rows()
    found = inner.gradient(policy, start(policy), MSE(), data, max_iterations=40)
    loss = float(MSE()(policy(found.value, data.x), data))
    more = inner.minimum(
        found.value,
        lambda p: MSE()(policy(p, data.x), data),
        [minimise.lbfgs],
        max_iterations=4000,
    )
    gained = loss - float(MSE()(policy(more.value, data.x), data))
    assert found.converged == (gained < 1e-12), (found.reason, gained)


def test_default_tolerances_follow_the_precision() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (F64, F32):
            A, b = (t.to(dtype) for t in concave(3, 5))
            found = inner.minimum(
                {"t": torch.zeros(5, dtype=dtype)},
                lambda p, A=A, b=b: p["t"] @ A @ p["t"] / 2 - b @ p["t"],
            )
            assert found.converged, found.reason
            assert found.distance <= digits(1e-8, dtype)


CONTINUOUS = rows()
LABELS = LabelledData.of(CONTINUOUS.x, torch.arange(25) % 3, 3)
LINE = GaussianPolicy(2, 2, "diagonal", MLP(), MLP())
PROBLEMS: dict[str, Any] = {
    "constant": lambda lam: so.maximum_likelihood(
        GaussianPolicy(2, 2), so.ConstantReward(2), CONTINUOUS, lam=lam
    ),
    "of the input": lambda lam: so.maximum_likelihood(
        LINE, so.InputReward(2, 2, so.MLP()), CONTINUOUS, lam=lam, weight_decay=0.1
    ),
    "free": lambda lam: so.maximum_likelihood(
        CategoricalPolicy(2, 3), so.FreeReward(2, 3), LABELS, lam=lam, weight_decay=0.1
    ),
}


@pytest.mark.parametrize("lam", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("name", PROBLEMS)
def test_maximum_likelihood_with_any_entropy_weight(name: str, lam: float) -> None:
    """The likelihood that a reward reaches is the same, and so is what is called converged."""
    plain, found = (so.solve(PROBLEMS[name](k), steps=30) for k in (0.5, lam))
    likelihoods = [one.result.history[-1].F for one in (plain, found)]
    assert likelihoods[1] == pytest.approx(likelihoods[0], abs=1e-6)
    if name != "free":  # whose first step is along the gradient, in units of nothing
        assert plain.converged == found.converged
        assert plain.iterations == found.iterations


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_maximum_likelihood_of_outcomes_in_any_unit(unit: float) -> None:
    policy = GaussianPolicy(2, 2)

    def solved(c: float) -> Any:
        data = Dataset.of(CONTINUOUS.x, c * CONTINUOUS.y)
        return so.solve(so.maximum_likelihood(policy, so.ConstantReward(2), data, lam=0.5))

    plain, found = solved(1.0), solved(unit)
    assert plain.converged
    assert found.converged, found.reason
    gain = plain.result.history[-1].F - found.result.history[-1].F
    assert gain == pytest.approx(2 * math.log(unit), abs=1e-9)
    torch.testing.assert_close(found.reward.U * unit**2, plain.reward.U, rtol=1e-5, atol=0)


def quadratic(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).square().sum()


FAR = torch.full((2,), 1e5, dtype=F64)
HERE = torch.zeros(2, dtype=F64)
HIDDEN: dict[str, tuple[Any, Tensor, float]] = {
    "a far start": (lambda t, p: -((t - 3) ** 4).sum() / 4, FAR, 3.0),
    "a large constant": (lambda t, p: 1e9 - (t - 1).square().sum(), HERE, 1.0),
    "a maximum at 0": (lambda t, p: -t.square().sum() - t.pow(4).sum(), FAR, 0.0),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_no_start_and_no_constant_hides_that_there_is_more_to_gain(name: str) -> None:
    F, start, right = HIDDEN[name]
    found = bilevel.solve(
        bilevel.Bilevel(quadratic, F), start, start, optimiser=bilevel.lbfgs, steps=200
    )
    assert found.converged, found.reason
    # a maximum along the line may be half of a thousandth of φ, or a millionth of the way, off;
    # of a fourth power the slope says no more
    torch.testing.assert_close(found.phi, torch.full((2,), right, dtype=F64), rtol=0.02, atol=0.1)
    few = bilevel.solve(
        bilevel.Bilevel(quadratic, F), start, start, optimiser=adam, steps=0, tolerance=1.0
    )
    assert not few.converged
    assert "F gains" in few.reason


@pytest.mark.parametrize("C", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("K", [1e4, 1e6, 1e8, 1e10])
def test_a_steep_direction_does_not_hide_what_another_has_to_gain(K: float, C: float) -> None:
    """The hypergradient of the flat one is `1/K` of the largest met from the first step on."""

    def F(t: Tensor, p: Tensor) -> Tensor:
        return -(K * t[0].square() + (t[1] - 1).square()) - C

    found = bilevel.solve(
        bilevel.Bilevel(quadratic, F), HERE, torch.tensor([1.0, 0.0], dtype=F64),
        optimiser=bilevel.lbfgs, steps=50,
    )  # fmt: skip
    assert found.converged, found.reason
    assert pytest.approx(-C, rel=1e-5, abs=1e-5) == found.history[-1].F
    start = torch.tensor([1.0, 0.0], dtype=F64)
    slow = bilevel.solve(
        bilevel.Bilevel(quadratic, F), HERE, start,
        optimiser=lambda tensors: torch.optim.SGD(tensors, lr=0.5 / K), steps=20,
    )  # fmt: skip
    assert not slow.converged, slow.reason


def test_a_step_beyond_the_domain_ends_the_loop_where_it_was() -> None:
    """Nothing that was found is lost to an optimiser that goes too far."""

    def J(t: Tensor, p: Tensor) -> Tensor:
        return -(t - p.exp()).square().sum()

    def F(t: Tensor, p: Tensor) -> Tensor:
        return t.sum()

    zero = torch.zeros(1, dtype=F64)
    found = bilevel.solve(
        bilevel.Bilevel(J, F), zero, zero, steps=50,
        optimiser=lambda tensors: torch.optim.SGD(tensors, lr=1.0),
    )  # fmt: skip
    assert not found.converged
    assert 0 < found.iterations < 50
    assert re.search(r"leaves the domain: .*phi\[0\] = ", found.reason)
    assert torch.isfinite(found.phi).all()
    torch.testing.assert_close(found.theta, found.phi.exp())


def test_the_single_loop_is_held_to_the_same() -> None:
    from solvers.bilevel.single_loop import single_loop

    F, start, _ = HIDDEN["a large constant"]
    found = single_loop(
        bilevel.Bilevel(quadratic, F), start, start, steps=500, tolerance=1e-6,
        inner_rate=lambda k: 0.2, outer_rate=lambda k: 0.2,
    )  # fmt: skip
    assert found.converged, found.reason
    torch.testing.assert_close(found.phi, torch.ones(2, dtype=F64), rtol=0, atol=2e-3)


@pytest.mark.gate
@pytest.mark.parametrize("unit", [1e-150, 1e-30, 1e30, 1e150])
def test_outcomes_in_any_units(unit: float) -> None:
    def found(c: float) -> Any:
        data = Dataset.of(CONTINUOUS.x[:4, :1], c * CONTINUOUS.y[:4, :, :1])
        return so.solve(
            so.maximum_likelihood(GaussianPolicy(1, 1), so.ConstantReward(1), data, lam=0.5)
        )

    plain, scaled = found(1.0), found(unit)
    assert scaled.converged, scaled.reason
    torch.testing.assert_close(
        scaled.reward.cholesky * unit, plain.reward.cholesky, rtol=1e-6, atol=0
    )
