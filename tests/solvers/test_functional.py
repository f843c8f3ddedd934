"""The functional hypergradient: against the implicit one, the truth, and wrong arguments."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis import hypergradients
from analysis.errors import StructureError
from solvers.data import Dataset, TwoMoments
from solvers.errors import InputError, NonFiniteError, NotPositiveDefiniteError, ShapeError
from solvers.families.gaussian import Gaussian, GaussianPolicy, Structure
from solvers.families.networks import MLP
from solvers.hypergradients.functional import functional
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient

LAM = torch.tensor(0.5, dtype=torch.float64)
U = torch.tensor([[1.0, 0.3], [0.3, 0.7]], dtype=torch.float64)


def reward_of(phi: Tensor) -> MahalanobisReward:
    return MahalanobisReward(torch.linalg.cholesky(phi))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(x: Tensor, seed: int = 0) -> Dataset:
    """Five outcomes for each input, of a mean that depends on it."""
    noise = torch.randn(len(x), 5, 2, generator=seeded(seed), dtype=torch.float64)
    mean = torch.stack([x.sum(1).sin(), x.square().sum(1)], 1)
    return Dataset.of(x, mean[:, None] + 0.5 * noise)


def saturated(structure: Structure) -> tuple[GaussianPolicy, dict[str, Tensor], Dataset]:
    """A policy linear in indicators of the inputs: its class holds every inner solution."""
    policy = GaussianPolicy(3, 2, structure, mean=MLP(), scale=MLP())
    x = torch.eye(3, dtype=torch.float64)
    params = policy.init([seeded(1)], dtype=torch.float64)
    return policy, params, sample(x)


def factors(phi: Tensor) -> Tensor:
    """Lower triangular factors with a positive diagonal, for phi of shape (*b, 2, 2)."""
    return phi.tril(-1) + torch.diag_embed(phi.diagonal(dim1=-2, dim2=-1).exp())


def objectives(policy, data, held_out, reward):
    def J(theta, phi):
        return -PolicyGradient(reward(phi), LAM)(policy(theta, data.x), data)

    def F(theta, phi):
        return -NLL()(policy(theta, held_out.x), held_out)

    return J, F


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_it_is_the_implicit_one_where_the_class_holds_the_solution(structure, batch, held_out):
    """One U, or one for each input. Without biases, which indicators make redundant."""
    policy, params, data = saturated(structure)
    zero = {k: torch.zeros_like(v).detach() for k, v in params.items() if "bias" in k}
    params = {k: v for k, v in params.items() if "weight" in k}

    class Unbiased(GaussianPolicy):
        def __call__(self, params, x):
            return super().__call__({**zero, **params}, x)

    policy = Unbiased(3, 2, structure, mean=MLP(), scale=MLP())
    phi = 0.4 * torch.randn(*batch, 2, 2, generator=seeded(2), dtype=torch.float64)

    def reward(phi: Tensor) -> MahalanobisReward:
        return MahalanobisReward(factors(phi))

    found = inner.second_order(
        policy, params, PolicyGradient(reward(phi), LAM), data, tolerance=1e-11
    )
    assert found.stationarity < 1e-10
    outer_data = sample(data.x, seed=5) if held_out else data
    J, F = objectives(policy, data, outer_data, reward)
    want = implicit(J, F, found.value, phi, method="dense")
    got = functional(policy, found.value, reward, phi, LAM, data, outer_data)
    assert torch.allclose(got.value, want.value, rtol=1e-9, atol=1e-9)
    assert got.residual is None
    assert got.iterations == 0
    assert got.stationarity < 1e-8


def network(width: int = 8) -> tuple[GaussianPolicy, dict[str, Tensor], Dataset]:
    """A tanh network with room to spare for six inputs."""
    policy = GaussianPolicy(1, 2, "full", mean=MLP((width,), "tanh"))
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    return policy, policy.init([seeded(1)], dtype=torch.float64), sample(x)


def train(policy, params, data, U: Tensor):
    """L-BFGS, then the trust region, on an objective whose Hessian is singular."""
    objective = PolicyGradient(reward_of(U), LAM)
    near = inner.gradient(policy, params, objective, data, tolerance=1e-7, max_iterations=20000)
    return inner.second_order(policy, near.value, objective, data, tolerance=1e-9)


def reach(policy, found, data) -> float:
    """How far from μ an interpolating mean can be: ∂_θJ = -(2/N) Dᵀ U(m - μ), D = ∂m/∂θ."""

    def mean(theta: dict[str, Tensor]) -> Tensor:
        return policy(theta, data.x).mean.flatten()

    D = torch.cat(
        [slope.flatten(1) for slope in torch.func.jacrev(mean)(found.value).values()], dim=1
    )
    least = torch.linalg.svdvals(D)[-1] * 2 * torch.linalg.eigvalsh(U)[0] / len(data.x)
    slope = found.stationarity * D.shape[1] ** 0.5  # the largest entry bounds the norm
    assert float(slope / least) < 1e-7
    return float(slope / least)


def test_a_network_that_interpolates():
    """Functional is exact; implicit has no curvature without damping, and is biased with it."""
    policy, params, data = network()
    found = train(policy, params, data, U)
    exact = torch.linalg.inv(U) / 2 - data.covariance.mean(0) / LAM
    assert float((policy(found.value, data.x).mean - data.mean).norm()) < reach(policy, found, data)
    got = functional(policy, found.value, reward_of, U, LAM, data)
    assert torch.allclose(got.value, exact, atol=1e-9)
    J, F = objectives(policy, data, data, reward_of)
    with pytest.warns(HypergradientWarning, match="curvature"):
        implicit(J, F, found.value, U, method="dense")
    errors = {}
    for damping in (1e-2, 1e-1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            damped = implicit(J, F, found.value, U, method="dense", damping=damping)
        errors[damping] = float((damped.value - exact).abs().max())
    assert 5 < errors[1e-1] / errors[1e-2] < 15  # first order in the damping
    assert errors[1e-2] > 1e-4

    def trained_likelihood(weights: Tensor) -> float:
        again = train(policy, found.value, data, weights)
        return -float(NLL()(policy(again.value, data.x), data))

    H, step = torch.tensor([[0.3, -0.2], [-0.2, 0.5]], dtype=torch.float64), 1e-4
    measured = trained_likelihood(U + step * H) - trained_likelihood(U - step * H)
    assert measured / (2 * step) == pytest.approx(float((got.value * H).sum()), rel=1e-5)


def test_a_mean_that_misses_is_warned_of():
    """A linear mean of curved data: the truth is the parametric one, the gap (2/λ) E eeᵀ."""
    policy = GaussianPolicy(1, 2, "full")
    _, _, data = network()
    params = policy.init([seeded(1)], dtype=torch.float64)
    found = inner.second_order(policy, params, PolicyGradient(reward_of(U), LAM), data)
    with pytest.warns(HypergradientWarning, match="the inner gradient is"):
        got = functional(policy, found.value, reward_of, U, LAM, data)
    J, F = objectives(policy, data, data, reward_of)
    truth = implicit(J, F, found.value, U, method="dense").value
    e = policy(found.value, data.x).mean - data.mean
    assert torch.allclose(got.value - truth, 2 / LAM * e.mT @ e / len(e), atol=1e-7)
    with pytest.raises(HypergradientError, match="the inner gradient is"):
        functional(policy, found.value, reward_of, U, LAM, data, strict=True)


def test_held_out_outcomes_at_some_of_the_inputs_in_any_order():
    """Against autograd through the closed form, input by input; repeated rows count twice."""
    policy, params, data = saturated("full")
    held_out = sample(data.x, seed=5)
    order = torch.tensor([2, 0, 2])
    part = Dataset.of(held_out.x[order], held_out.y[order])
    phi = 0.4 * torch.randn(3, 2, 2, generator=seeded(2), dtype=torch.float64)
    target = MahalanobisReward(factors(phi))
    law = inner.closed_form(target, LAM.expand(3), data.mean).value
    S = law.scale
    rows, columns = torch.tril_indices(2, 2).unbind()
    raw = (S.tril(-1) + torch.diag_embed(S.diagonal(dim1=-2, dim2=-1).log()))[:, rows, columns]
    exact = {"mean.weight0": law.mean, "scale.weight0": raw}
    exact |= {k: torch.zeros_like(v) for k, v in params.items() if "bias" in k}

    def reward(phi: Tensor) -> MahalanobisReward:
        return MahalanobisReward(factors(phi))

    got = functional(policy, exact, reward, phi, LAM, data, part)
    variable = phi.clone().requires_grad_()
    best = inner.closed_form(reward(variable), LAM.expand(3), data.mean).value
    losses = [
        Gaussian(best.mean[i], best.scale[i]).cross_entropy(
            TwoMoments(held_out.mean[i], held_out.covariance[i])
        )
        for i in order.tolist()
    ]
    (want,) = torch.autograd.grad(-torch.stack(losses).mean(), variable)
    assert torch.allclose(got.value, want, rtol=1e-9, atol=1e-9)
    assert not got.value[1].any()  # no outer data at this input


def test_rows_that_repeat_an_input_share_its_outputs():
    policy, params, data = saturated("diagonal")
    twice = Dataset.of(data.x.repeat(2, 1), data.y.repeat(2, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        once = functional(policy, params, reward_of, U, LAM, data)
        again = functional(policy, params, reward_of, U, LAM, twice)
    assert torch.allclose(once.value, again.value, rtol=1e-12)
    assert once.stationarity == pytest.approx(again.stationarity)
    assert once.curvature == pytest.approx(again.curvature)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_diagnostics_are_those_of_the_outputs(structure):
    """P = diag(1, 4) at every input: λ/(2·16) is less than 2 λ_min(U)."""
    policy = GaussianPolicy(3, 2, structure)
    _, _, data = saturated("full")
    raw = {"full": [0.0, 0.0, math.log(2)], "diagonal": [0.0, math.log(2)]}[structure]
    params = {
        "mean.weight0": torch.zeros(3, 2, dtype=torch.float64),
        "mean.bias0": torch.zeros(2, dtype=torch.float64),
        "scale.raw": torch.tensor(raw, dtype=torch.float64),
    }
    got = functional(policy, params, reward_of, U, LAM, data, distance=math.inf)
    assert got.curvature == pytest.approx(0.25 / 4.0**2)
    P = torch.tensor([1.0, 4.0], dtype=torch.float64)
    in_mean = 2 * data.mean @ U  # ∂_mJ = -2U(m-μ)
    full = -U + LAM / 2 * torch.diag(1 / P)
    in_spread = full if structure == "full" else full.diagonal()
    want = (in_mean.square().sum(1).mean() + in_spread.square().sum()).sqrt()
    assert got.stationarity == pytest.approx(float(want))


def test_networks_as_outer_variables_and_float32():
    """U(x) from a network: its parameters are phi."""
    policy, params, data = saturated("full")
    x = data.x

    def reward(phi: dict[str, Tensor]) -> MahalanobisReward:
        return MahalanobisReward(factors((x.to(phi["W"]) @ phi["W"]).reshape(3, 2, 2)))

    phi = {"W": 0.2 * torch.ones(3, 4, dtype=torch.float64)}
    got = functional(policy, params, reward, phi, LAM, data, distance=math.inf)
    assert got.value["W"].shape == (3, 4)
    single = Dataset.of(data.x.float(), data.y.float())
    low = functional(
        policy,
        {k: v.float() for k, v in params.items()},
        reward,
        {"W": phi["W"].float()},
        0.5,
        single,
        distance=math.inf,
    )
    assert low.value["W"].dtype == torch.float32
    assert torch.allclose(low.value["W"].double(), got.value["W"], rtol=1e-3, atol=1e-4)


def test_wrong_arguments_are_named():
    policy, params, data = saturated("full")

    def run(**change):
        given: dict[str, Any] = {
            "params": params,
            "reward_of": reward_of,
            "phi": U,
            "lam": LAM,
            "data": data,
        }
        return functional(policy, **{**given, **change}, distance=math.inf)

    other = sample(data.x + torch.eye(3, dtype=torch.float64)[:, [0]])
    nan = {**params, "mean.bias0": torch.full((2,), math.nan, dtype=torch.float64)}
    for change, error, words in (
        ({"lam": 0.0}, InputError, "lam must be positive"),
        ({"lam": math.nan}, NonFiniteError, "lam"),
        ({"lam": torch.ones(2)}, ShapeError, "one number"),
        ({"outer_data": other}, InputError, r"outer_data.x\[0\] is no input of data \(1 of 3"),
        ({"outer_data": sample(data.x[:, :2])}, ShapeError, "2 columns"),
        ({"phi": U * math.nan}, NonFiniteError, "phi"),
        ({"params": nan}, NonFiniteError, "params"),
        ({"reward_of": lambda phi: reward_of(U)}, InputError, "does not depend on phi"),
        (
            {"reward_of": lambda phi: MahalanobisReward(phi.expand(2, 2, 2), check=False)},
            ShapeError,
            "factor of the reward",
        ),
        (
            {"reward_of": lambda phi: MahalanobisReward(0 * phi, check=False)},
            NotPositiveDefiniteError,
            r"U at phi\[0, 0\] = 1 is not positive definite",
        ),
        ({"data": replace(data, mean=data.mean * math.nan)}, NonFiniteError, "data.mean"),
        ({"data": Dataset.of(data.x[None], data.y[None])}, ShapeError, "one member"),
    ):
        with pytest.raises(error, match=words):
            run(**change)


def test_an_unknown_structure_is_refused():
    with pytest.raises(StructureError, match="unknown structure"):
        hypergradients.functional.hypergradient("banded", 2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("off", [1e-9, 1e-3])
def test_whether_outputs_are_near_does_not_change_with_the_unit_of_outcomes(structure, unit, off):
    """One input, whose mean is `off` standard deviations from the inner solution."""
    policy = GaussianPolicy(1, 2, structure, mean=MLP(), scale="constant")
    x = torch.zeros(1, 1, dtype=torch.float64)
    data = Dataset.of(x, unit * torch.tensor([[[1.0, 0.0], [3.0, 2.0]]], dtype=torch.float64))
    lam, phi = 0.5, torch.eye(2, dtype=torch.float64) / unit**2
    s = unit * math.sqrt(lam / 2)  # P = (λ/2) U⁻¹
    params = {name: torch.zeros_like(p) for name, p in policy.init([seeded()]).items()}
    params["mean.bias0"] = data.mean[0] + off * s
    params = {name: p.double() for name, p in params.items()}
    law = policy(params, x)
    raw = params["scale.raw"]
    moved = torch.full_like(raw, math.log(s)) if structure != "full" else raw
    if structure == "full":  # the diagonal alone
        moved = torch.tensor([math.log(s), 0.0, math.log(s)], dtype=torch.float64)
    params["scale.raw"] = moved.reshape(raw.shape)
    assert torch.allclose(policy(params, x).covariance, s**2 * torch.eye(2, dtype=law.mean.dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        found = functional(policy, params, reward_of, phi, lam, data)
    assert found.converged == (off < 1e-6), found.doubts
