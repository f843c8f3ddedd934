"""Gradient modes, frozen parameters, layouts of memory and units of measurement."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from solvers.bilevel import likelihood
from solvers.data import Dataset, LabelledData
from solvers.errors import InputError, ShapeError, check_spd
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP
from solvers.hypergradients.functional import functional
from solvers.metrics import accuracy, calibration_error
from solvers.rewards import bounded
from solvers.rewards.between_classes import ClassReward, exact_diagonal, exact_scale, gibbs
from solvers.rewards.bounded import BoundedReward, NoGlobalMaximumWarning
from solvers.rewards.learnable import ConstantReward
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_reward, optimal_scale
from solvers.training import ensemble, inner, streams
from solvers.training.ensemble import clip_per_member
from solvers.training.estimators import Pathwise, ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import normal

F32, F64 = torch.float32, torch.float64
POLICY, CLASSIFIER = GaussianPolicy(2, 2, mean=MLP((3,))), CategoricalPolicy(2, 3)


def data() -> Dataset:
    return Dataset.of(normal(0, 6, 2), normal(1, 6, 3, 2))


def labelled() -> LabelledData:
    return LabelledData.soft(normal(0, 6, 2), normal(2, 6, 3).softmax(-1))


def noise() -> streams.MemberNoise:
    return streams.MemberNoise([streams.generator(0)])


def start(policy: Any) -> dict[str, Tensor]:
    return policy.init([streams.generator(1)], dtype=F64)


def training() -> dict[str, Tensor]:
    reward = optimal_reward(data().covariance.mean(0), 0.5)
    objective = PolicyGradient(reward, 0.5, ScoreFunction(3))
    return ensemble.train(
        POLICY, start(POLICY), objective, data(), epochs=3, learning_rate=0.1, batch_ndim=0,
        noise=noise(), max_norm=1.0,
    )  # fmt: skip


def classes() -> dict[str, Tensor]:
    reward = ClassReward.scalar(0.5, 3)
    return ensemble.train(
        CLASSIFIER, start(CLASSIFIER), PolicyGradient(reward, 0.5), labelled(),
        epochs=2, batch_size=4, learning_rate=0.1, batch_ndim=0, shuffle=noise(),
    )  # fmt: skip


def outputs() -> dict[str, Tensor]:
    model = ConstantReward(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phi = model.start(torch.eye(2, dtype=F64))
        return functional(POLICY, start(POLICY), lambda p: model(p, data().x), phi, 1, data()).value


def bounded_solution() -> dict[str, Tensor]:
    with pytest.warns(NoGlobalMaximumWarning):
        found = bounded.inner_solution(BoundedReward(2.0), 0.05, normal(0, 2), 0.5)
    assert found.converged
    return {"scale": found.value.scale}


def objectives() -> dict[str, Tensor]:
    problem = likelihood.problem(POLICY, ConstantReward(2), 0.5, data())
    theta, phi = start(POLICY), ConstantReward(2).start(torch.eye(2, dtype=F64))
    with torch.inference_mode(False), torch.enable_grad():
        theta = {name: p.detach().clone().requires_grad_() for name, p in theta.items()}
        phi = {name: p.clone() for name, p in phi.items()}
        slopes = torch.autograd.grad(problem.J(theta, phi), list(theta.values()))
    return dict(zip(theta, slopes, strict=True))


WORK = [training, classes, outputs, bounded_solution, objectives]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("work", WORK)
def test_any_gradient_mode(work: Callable[[], dict[str, Tensor]], mode: Any) -> None:
    """Also where everything, data and rewards too, was made in that mode."""
    want = work()
    with mode():
        got = work()
    for name, value in want.items():
        assert torch.equal(value, got[name]), name
        assert not got[name].is_inference()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_drawn_parameters_require_gradients(mode: Any) -> None:
    with mode():
        drawn = start(POLICY)
    assert all(p.requires_grad and p.is_leaf and not p.is_inference() for p in drawn.values())


FROZEN = {
    "a tensor among trained ones": lambda p: p.detach(),
    "a frozen Parameter": lambda p: torch.nn.Parameter(p.detach(), requires_grad=False),
}


@pytest.mark.parametrize("freeze", FROZEN.values(), ids=list(FROZEN))
def test_frozen_parameters_stay(freeze: Callable[[Tensor], Tensor]) -> None:
    params = start(POLICY)
    params["mean.weight0"] = freeze(params["mean.weight0"])
    found = ensemble.train(
        POLICY, params, NLL(), data(), epochs=3, learning_rate=0.1, batch_ndim=0, max_norm=0.1
    )
    for name, p in params.items():
        assert torch.equal(found[name], p) == (name == "mean.weight0"), name


def test_what_nobody_froze_is_trained() -> None:
    plain = {name: p.detach() for name, p in start(POLICY).items()}
    want = ensemble.train(
        POLICY, start(POLICY), NLL(), data(), epochs=2, learning_rate=0.1, batch_ndim=0
    )
    got = ensemble.train(POLICY, plain, NLL(), data(), epochs=2, learning_rate=0.1, batch_ndim=0)
    assert all(torch.equal(got[name], want[name]) for name in want)
    frozen = {name: torch.nn.Parameter(p, requires_grad=False) for name, p in plain.items()}
    with pytest.raises(InputError, match="every leaf of params is frozen"):
        ensemble.train(POLICY, frozen, NLL(), data(), epochs=2, learning_rate=0.1, batch_ndim=0)


def strided(t: Tensor) -> Tensor:
    """The same numbers with gaps between them."""
    return torch.stack([t, t + 1], -1)[..., 0]


def turned(t: Tensor) -> Tensor:
    """The same numbers, first dimension innermost."""
    return t.movedim(0, -1).contiguous().movedim(-1, 0) if t.ndim else t


def flipped(t: Tensor) -> Tensor:
    return t.flip(0).contiguous().flip(0) if t.ndim else t


def spread(t: Tensor) -> Tensor:
    """Stride 0 where all along the first dimension are equal."""
    return t[:1].expand_as(t) if t.ndim and bool((t == t[:1]).all()) else t


def same_rows(t: Tensor) -> Tensor:
    return t[:1].expand_as(t)


def numbers(lay: Callable[[Tensor], Tensor], rows: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What laws, rewards, data, estimators and objectives make of tensors laid out by `lay`."""
    x, y, mean = (lay(rows(t)) for t in (normal(0, 6, 2), normal(1, 6, 3, 2), normal(2, 6, 2)))
    L = lay(rows((normal(3, 6, 2, 2).tril(-1) + torch.eye(2)).contiguous()))
    Sigma, lam = lay(L[0] @ L[0].mT), lay(torch.tensor([0.5, 0.7], dtype=F64))
    pi, z = lay(rows(normal(4, 6, 3).softmax(-1))), lay(rows(normal(5, 6, 3)))
    u = lay(rows(normal(6, 6, 3).exp()))
    at, soft = Dataset.of(x, y), LabelledData.soft(x, pi)
    hard = LabelledData.of(x, lay(rows(torch.tensor([0, 1, 2, 0, 1, 2]))), 3)
    full, diagonal, law = Gaussian(mean, L), Gaussian(mean, mean.exp()), Categorical(z)
    out = [at.mean, at.covariance, soft.pi, hard.pi]
    for g in (full, diagonal):
        out += [g.log_prob(x), g.entropy(), g.covariance, g.cross_entropy(at)]
        for by in (ScoreFunction(2), Pathwise(2)):
            out.append(PolicyGradient(optimal_reward(Sigma, 0.5), 0.5, by)(g, at, noise()))
        for reward in (MahalanobisReward(L), BoundedReward(lam[0])):
            out += [reward.of(mean), reward(mean, x), reward.expected(g, at)]
        out.append(PolicyGradient(MahalanobisReward.scalar(lam[0], 2), lam)(g, at))
    for class_reward in (ClassReward.diagonal(u), ClassReward(u[..., None])):
        for by in (None, ScoreFunction(2)):
            objective = PolicyGradient(class_reward, lam)
            objective = objective if by is None else replace(objective, estimator=by)
            out.append(objective(law, soft, noise()))
        out.append(gibbs(class_reward, 0.5, pi).p)
    out += [NLL()(law, soft), accuracy(law, soft), calibration_error(law, hard)]
    out += [exact_scale(pi, 0.5), exact_diagonal(pi, 0.5), optimal_scale(Sigma, Sigma, 0.5)]
    theta = {name: lay(p.detach()) for name, p in start(POLICY).items()}
    out += [POLICY(theta, x).log_prob(y[:, 0])]
    found = ensemble.train(POLICY, theta, NLL(), at, epochs=2, learning_rate=0.1, batch_ndim=0)
    out += list(found.values())
    model = ConstantReward(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phi = {name: lay(p) for name, p in model.start(Sigma).items()}
        out += functional(POLICY, theta, lambda p: model(p, x), phi, 0.5, at).value.values()
    fitted = inner.fit(CLASSIFIER, soft, weight_decay=0.1, tolerance=1e-6)
    return out + list(fitted.value.values())


@pytest.mark.gate
@pytest.mark.parametrize("lay", [strided, turned, flipped])
def test_any_layout_of_memory(lay: Callable[[Tensor], Tensor]) -> None:
    pairs = zip(numbers(lay, Tensor.clone), numbers(Tensor.clone, Tensor.clone), strict=True)
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_rows_that_are_one_row_of_memory() -> None:
    """Expanded tensors, of stride 0."""
    pairs = zip(numbers(spread, same_rows), numbers(Tensor.contiguous, same_rows), strict=True)
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_nothing_is_refused() -> None:
    for empty in (torch.zeros(0, 3), torch.zeros(2, 0, 3)):
        with pytest.raises(ShapeError, match="empty"):
            exact_scale(empty, 1.0)
    with pytest.raises(ShapeError, match="pass"):
        Categorical(torch.zeros(3, 0))
    with pytest.raises(InputError, match="at least 2 classes"):
        gibbs(ClassReward(torch.zeros(1, 1, 1)), 1.0, torch.ones(3, 1))
    nobody = Gaussian(torch.zeros(0, 2), torch.ones(0, 2))
    assert nobody.log_prob(torch.zeros(0, 2)).shape == (0,)


UNITS = st.sampled_from([(F64, 1e-150), (F64, 1e-75), (F64, 1e75), (F64, 1e150)])
SINGLE_UNITS = st.sampled_from([(F32, 1e-15), (F32, 1e-10), (F32, 1e10), (F32, 1e15)])


@pytest.mark.gate
@given(unit=st.one_of(UNITS, SINGLE_UNITS), seed=st.integers(0, 2**20))
def test_units_of_outcomes(unit: tuple[torch.dtype, float], seed: int) -> None:
    """In units `c` densities gain `-n log c` per outcome, rewards are `U/c²`, laws the same."""
    dtype, c = unit
    x, y = normal(seed, 5, 2).to(dtype), normal(seed + 1, 5, 4, 2).to(dtype)
    mean = normal(seed + 2, 5, 2).to(dtype)
    deviations = (0.3 + normal(seed + 3, 5, 2).square()).to(dtype)
    one, other = Dataset.of(x, y), Dataset.of(x, c * y)
    tolerance = 1e3 * torch.finfo(dtype).eps

    def near(got: Tensor, want: Tensor) -> None:
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)

    near(other.mean / c, one.mean)
    near(other.covariance / c / c, one.covariance)
    Sigma = one.covariance.mean(0) + 0.1 * torch.eye(2, dtype=dtype)
    check_spd("Sigma", c * (c * Sigma))
    near(c * (c * optimal_reward(c * (c * Sigma), 0.5).U), optimal_reward(Sigma, 0.5).U)
    for S in (deviations, torch.diag_embed(deviations)):
        laws = Gaussian(mean, S), Gaussian(c * mean, c * S)
        shift = 2 * math.log(c)
        near(laws[1].log_prob(c * y[:, 0]) + shift, laws[0].log_prob(y[:, 0]))
        near(laws[1].entropy() - shift, laws[0].entropy())
        near(NLL()(laws[1], other) - shift, NLL()(laws[0], one))
        near(laws[1].standard_deviations() / c, laws[0].standard_deviations())
        rewards = optimal_reward(Sigma, 0.5), optimal_reward(c * (c * Sigma), 0.5)
        near(rewards[1].expected(laws[1], other), rewards[0].expected(laws[0], one))
        near(rewards[1](c * mean, c * x), rewards[0](mean, x))
        widths = BoundedReward(2.0), BoundedReward(torch.tensor(2 * c, dtype=F64) * c)
        near(widths[1].expected(laws[1], other), widths[0].expected(laws[0], one))


@pytest.mark.parametrize(("dtype", "c"), [(F32, 1e-30), (F32, 1e30), (F64, 1e-170), (F64, 1e170)])
def test_units_whose_squares_do_not_exist(dtype: torch.dtype, c: float) -> None:
    x, y = torch.zeros(2, 1, dtype=dtype), torch.tensor([[[1.0], [2.0]], [[3.0], [5.0]]])
    with pytest.raises(InputError, match=r"y deviates .* cannot hold: pass y in other units"):
        Dataset.of(x, c * y.to(dtype))
    for constant in (1.0, 0.1, 0.1 * c):  # the mean of equal numbers may round
        assert Dataset.of(x, torch.full((2, 3, 1), constant, dtype=dtype)).y.numel() == 6


@pytest.mark.gate
@pytest.mark.parametrize(
    ("dtype", "c"), [(F32, 1e-30), (F32, 1e-10), (F32, 1e30), (F64, 1e-200), (F64, 1e200)]
)
def test_gradients_of_any_size_are_clipped(dtype: torch.dtype, c: float) -> None:
    """Clipping to `c m` what is multiplied by `c` is clipping to `m`; zeros stay zeros."""
    gradients = [normal(0, 3, 4).to(dtype), normal(1, 3, 2, 2).to(dtype)]
    for g in gradients:
        g[2] = 0
    scaled = [c * g for g in gradients]
    clip_per_member(gradients, 0.7, 1)
    clip_per_member(scaled, 0.7 * c, 1)
    norm = torch.cat([g.flatten(1) for g in gradients], 1).norm(dim=1)
    torch.testing.assert_close(norm, torch.tensor([0.7, 0.7, 0.0], dtype=dtype))
    for one, other in zip(gradients, scaled, strict=True):
        torch.testing.assert_close(other / c, one, rtol=1e-5, atol=0)


@pytest.mark.parametrize("c", [1e-12, 1e-6, 1e6, 1e12])
def test_the_bounded_solution_in_other_units(c: float) -> None:
    def solve(omega: float, lam: float, variance: float) -> Any:
        with pytest.warns(NoGlobalMaximumWarning):
            return bounded.inner_solution(BoundedReward(omega), lam, normal(0, 2), variance)

    one, other = solve(2.0, 0.05, 0.5), solve(2 * c, 0.05, 0.5 * c)
    assert one.converged
    assert other.converged
    torch.testing.assert_close(other.value.scale / math.sqrt(c), one.value.scale)
    assert solve(2.0, 1e-9, 0.5).converged


@pytest.mark.parametrize("c", [1e-30, 1e-8, 1e8, 1e30])
def test_rewards_of_any_size_between_classes(c: float) -> None:
    """`λ` and rewards in other units: the same laws, and `u` in those units."""
    pi = normal(0, 4, 3).softmax(-1)
    want = gibbs(ClassReward.scalar(0.8, 3), 0.5, pi).p
    torch.testing.assert_close(gibbs(ClassReward.scalar(0.8 * c, 3), 0.5 * c, pi).p, want)
    torch.testing.assert_close(exact_scale(pi, 0.5 * c) / c, exact_scale(pi, 0.5))
    torch.testing.assert_close(exact_diagonal(pi, 0.5 * c) / c, exact_diagonal(pi, 0.5))


def test_single_precision_stays_single() -> None:
    pi = normal(0, 40, 5).softmax(-1)
    soft = LabelledData.soft(normal(1, 40, 2).float(), pi.float())
    u = exact_scale(soft.pi, 0.5)
    assert u.dtype == F32
    torch.testing.assert_close(u.double(), exact_scale(pi, 0.5), rtol=1e-4, atol=0)
    w = exact_diagonal(soft.pi, 0.5)
    assert w.dtype == F32
    torch.testing.assert_close(gibbs(ClassReward.diagonal(w), 0.5, soft.pi).p, soft.pi)
