"""Policies: shapes, initialisation, forward pass."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from solvers.errors import InputError, ShapeError
from solvers.families.gaussian import GaussianPolicy
from solvers.families.networks import MLP

STRUCTURES = ["isotropic", "diagonal", "full"]
BODIES = [MLP(), MLP((5,)), MLP((5, 7), "tanh")]
SCALES = ["shared", "constant", MLP(), MLP((6,))]


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + k) for k in range(count)]


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=dtype)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("mean", BODIES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("n", [1, 4])
def test_shapes(structure, mean, scale, batch: tuple[int, ...], n: int) -> None:
    policy = GaussianPolicy(2, n, structure, mean, scale)
    params = policy.init(generators(math.prod(batch)), batch, torch.float64)
    assert all(p.shape[: len(batch)] == batch and p.requires_grad for p in params.values())
    law = policy(params, inputs(*batch, 8, 2))
    rows = 1 if scale == "constant" else 8
    assert law.mean.shape == (*batch, 8, n)
    assert law.scale.shape == (*batch, rows, *([n, n] if structure == "full" else [n]))
    assert law.log_prob(inputs(*batch, 8, n)).shape == (*batch, 8)


@pytest.mark.parametrize("scale", SCALES)
def test_isotropic_has_one_standard_deviation(scale) -> None:
    policy = GaussianPolicy(2, 3, "isotropic", MLP((5,)), scale)
    deviations = policy(policy.init(generators(1)), inputs(8, 2, dtype=torch.float32)).scale
    assert torch.equal(deviations, deviations[..., :1].expand_as(deviations))


@pytest.mark.parametrize("scale", SCALES)
@given(n=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_full_scale_is_a_cholesky_factor(scale, n: int, seed: int) -> None:
    policy = GaussianPolicy(2, n, "full", MLP((5,)), scale)
    params = policy.init(generators(1, seed), dtype=torch.float64)
    with torch.no_grad():
        for p in params.values():
            p.mul_(2)
    law = policy(params, inputs(8, 2))
    assert bool((law.scale.triu(1) == 0).all())
    assert bool((law.scale.diagonal(dim1=-2, dim2=-1) > 0).all())
    factor = torch.linalg.cholesky(law.covariance)
    torch.testing.assert_close(factor, law.scale, rtol=1e-4, atol=1e-6)


def test_every_entry_of_the_scale_has_its_own_parameter() -> None:
    policy = GaussianPolicy(1, 3, "full")
    params = policy.init(generators(1), dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(
        lambda raw: policy({**params, "scale.raw": raw}, inputs(4, 1)).scale[0],
        params["scale.raw"].detach(),
    )
    assert isinstance(slopes, Tensor)
    assert torch.equal(slopes.sum(-1), torch.ones(3, 3, dtype=torch.float64).tril())
    assert bool((slopes.sum((0, 1)) == 1).all())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_forward_equals_torch_modules(activation) -> None:
    body = MLP((5, 7), activation)
    params = body.init(torch.Generator().manual_seed(0), 2, 3)
    layers: list[nn.Module] = []
    for layer, (fan_in, fan_out) in enumerate([(2, 5), (5, 7), (7, 3)]):
        linear = nn.Linear(fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(params[f"weight{layer}"].T)
            linear.bias.copy_(params[f"bias{layer}"])
        layers += [linear, nn.ReLU() if activation == "relu" else nn.Tanh()]
    x = inputs(11, 2)
    torch.testing.assert_close(body(params, "", x), nn.Sequential(*layers[:-1])(x))


def test_initialisation_is_that_of_linear_layers() -> None:
    params = MLP((400,)).init(torch.Generator().manual_seed(0), 25, 3)
    reference = nn.Linear(25, 400)
    for name, fan_in in [("weight0", 25), ("bias0", 25), ("weight1", 400)]:
        bound = 1 / math.sqrt(fan_in)
        assert float(params[name].abs().max()) <= bound
        assert float(params[name].std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert float(params["weight0"].mean()) == pytest.approx(0, abs=0.01)
    assert float(reference.weight.detach().abs().max()) == pytest.approx(
        float(params["weight0"].abs().max()), rel=0.01
    )


def test_same_generator_same_parameters() -> None:
    policy = GaussianPolicy(2, 2, mean=MLP((5,)), scale="shared")
    first, second, other = (policy.init(generators(1, seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["mean.weight0"], other["mean.weight0"])


@pytest.mark.parametrize("scale", SCALES)
def test_batched_initialisation_is_that_of_every_member(scale) -> None:
    policy = GaussianPolicy(2, 3, "full", MLP((5,)), scale)
    batched = policy.init(generators(6), (2, 3))
    for member in range(6):
        alone = policy.init(generators(1, member))
        for name, p in batched.items():
            assert torch.equal(p.flatten(0, 1)[member], alone[name]), name


def test_dtype_changes_the_precision_not_the_draws() -> None:
    policy = GaussianPolicy(2, 2)
    low, high = policy.init(generators(1)), policy.init(generators(1), dtype=torch.float64)
    assert all(torch.equal(low[name], high[name].float()) for name in low)


def test_constant_scale_starts_at_one() -> None:
    policy = GaussianPolicy(1, 2, "full")
    law = policy(policy.init(generators(1)), torch.zeros(3, 1))
    assert torch.equal(law.scale, torch.eye(2)[None])


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("scale", SCALES)
def test_softplus_makes_the_diagonal_and_nothing_else(structure, scale) -> None:
    """Both maps read the same outputs: `softplus(a)` where the other has `exp(a)`."""
    exp, soft = (
        GaussianPolicy(2, 3, structure, MLP((5,)), scale, positive)
        for positive in ("exp", "softplus")
    )
    params = exp.init(generators(1), dtype=torch.float64)
    if scale == "constant":  # starts at 0
        params["scale.raw"] = inputs(*params["scale.raw"].shape)
    x = inputs(8, 2)
    exponential, got = exp(params, x), soft(params, x)
    assert torch.equal(got.mean, exponential.mean)
    if structure == "full":
        assert torch.equal(got.scale.tril(-1), exponential.scale.tril(-1))
        assert bool((got.scale.tril(-1) != 0).any())
    diagonals = [
        law.scale.diagonal(dim1=-2, dim2=-1) if law.full else law.scale
        for law in (got, exponential)
    ]
    torch.testing.assert_close(diagonals[0], (1 + diagonals[1]).log())


def test_wrong_positive_is_named() -> None:
    policy = GaussianPolicy(2, 2)
    object.__setattr__(policy, "positive", "relu")  # past the type checks of the test suite
    with pytest.raises(
        InputError, match=r"positive is 'relu' \(str\): pass one of 'exp', 'softplus'"
    ):
        policy.__post_init__()


def test_wrong_inputs_are_named() -> None:
    policy = GaussianPolicy(2, 2)
    with pytest.raises(ShapeError, match=r"x has shape \(\d+, 3\), and the policy takes 2 columns"):
        policy(policy.init(generators(1)), torch.zeros(4, 3))
    with pytest.raises(ShapeError, match=r"2 generators for the batch shape \(3,\)"):
        policy.init(generators(2), (3,))
    with pytest.raises(InputError, match="inputs is 0: pass at least 1"):
        GaussianPolicy(0, 2)
    with pytest.raises(InputError, match="n is 0: pass at least 1"):
        GaussianPolicy(2, 0)
