"""A reference policy in place of the entropy: families, estimators, the bilevel problem."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, StudentT

import solvers as so
from solvers.bilevel import likelihood
from solvers.data import TwoMoments
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.rewards import with_reference
from solvers.rewards.learnable import ConstantReward
from solvers.training import ensemble, inner, streams
from solvers.training.reference import Reference
from tests.draws import F64, normal
from tests.shapes import unchecked

X = normal(0, 5, 2)
DATA = so.Dataset.of(X, normal(1, 5, 3, 2))
LABELLED = so.LabelledData.soft(X, normal(2, 5, 3).softmax(-1))
VOTES = so.Dataset.of(X, (DATA.y > 0).double())
U = so.MahalanobisReward.full(torch.tensor([[1.0, 0.3], [0.3, 0.7]], dtype=F64))
TABLE = so.ClassReward.scalar(0.8, 3)
LAM = 0.6


def drawn(policy: Any, seed: int) -> dict[str, Tensor]:
    found = policy.init([streams.generator(seed)], dtype=F64)
    return {name: p.detach() + normal(seed, *p.shape) / 3 for name, p in found.items()}


FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "full": (so.GaussianPolicy(2, 2), DATA, U),
    "diagonal": (so.GaussianPolicy(2, 2, "diagonal"), DATA, U),
    "classes": (so.CategoricalPolicy(2, 3), LABELLED, TABLE),
    "bits": (so.BernoulliPolicy(2, 2), VOTES, U),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_divergence_stands_in_place_of_the_entropy(family: str) -> None:
    policy, data, reward = FAMILIES[family]
    law = policy(drawn(policy, 1), X)
    reference = Reference(policy, drawn(policy, 2))
    with_entropy = so.PolicyGradient(reward, LAM)(law, data)
    found = so.PolicyGradient(reward, LAM, reference=reference)(law, data)
    divergence = law.kl(reference(X))
    assert bool((divergence > 0).all())
    want = with_entropy + LAM * (divergence + law.entropy()).mean()
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(law.kl(law), torch.zeros_like(divergence), atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_fitted_where_the_reward_is_small(family: str) -> None:
    policy, data, reward = FAMILIES[family]
    reference = Reference(policy, drawn(policy, 2))
    objective = so.PolicyGradient(reward, 1e6, reference=reference)
    decay = 1e-9 if family == "classes" else 0.0
    found = so.fit(policy, data, objective, weight_decay=decay)
    assert float(policy(found.value, X).kl(reference(X)).max()) < 1e-6


def test_training_in_batches_of_members_ends_at_the_closed_form() -> None:
    """Two members of other weights λ, sampled pathwise and exact, beside one reference."""
    policy, x = so.GaussianPolicy(1, 2), torch.zeros(4, 1, dtype=F64)
    data = so.Dataset.of(x, DATA.y[:1].expand(4, 3, 2))
    law = so.Gaussian.cholesky(torch.ones(1, 2, dtype=F64), 1.5 * torch.eye(2, dtype=F64))
    lam = torch.tensor([0.5, 2.0], dtype=F64)
    objective = so.PolicyGradient(U, lam, reference=lambda x: law)
    start = policy.init([streams.generator(k) for k in range(2)], (2,), F64)
    found = ensemble.train(
        policy, start, objective, data, epochs=150, learning_rate=0.05, batch_ndim=1,
        batch_size=2, shuffle=streams.MemberNoise([streams.generator(3)]),
    )  # fmt: skip
    trained = policy(found, x)
    base = so.Gaussian(law.mean[0], law.scale[0])
    for k in range(2):
        want = with_reference.inner_solution(U, lam[k], data.mean[0], base)
        torch.testing.assert_close(trained.mean[k, 0], want.mean, rtol=0, atol=2e-3)
        P = trained.covariance[k].expand(4, 2, 2)[0]
        torch.testing.assert_close(P, want.covariance, rtol=0, atol=2e-3)


class Model(torch.nn.Linear):
    def forward(self, input: Tensor) -> Any:
        mean, raw = super().forward(input).unbind(-1)
        return Normal(mean, raw.exp())


class Heavy(Model):
    def forward(self, input: Tensor) -> Any:
        law = super().forward(input)
        return StudentT(4.0, law.loc, law.scale)


@pytest.mark.parametrize("by", [so.Pathwise(20_000), so.ScoreFunction(20_000)])
def test_a_divergence_that_no_formula_knows_is_sampled(by: Any) -> None:
    """Normal beside Student's t: the gradient of KL, by quadrature."""
    torch.manual_seed(0)
    policy, heavy = so.policy(Model(2, 2, dtype=F64)), so.policy(Heavy(2, 2, dtype=F64))
    reference, theta = Reference(heavy, heavy.start()), policy.start()
    one = so.Dataset.of(X, DATA.y[..., :1])
    law, p0 = policy(theta, X), reference(X)
    assert law.kl(p0) is None

    def nothing(generation: Tensor, y: Tensor) -> Tensor:
        return 0 * (generation - y).sum(-1)

    noise = so.MemberNoise([streams.generator(0)])
    loss = so.PolicyGradient(nothing, LAM, by, reference=reference)(law, one, noise)
    nodes, weights = torch.linspace(-8, 8, 4001, dtype=F64)[:, None], 16 / 4000
    density = Normal(0.0, 1.0).log_prob(nodes).exp() * weights
    normal_law: Any = law.distribution
    y = normal_law.loc + normal_law.scale * nodes
    expected = (density * p0.distribution.log_prob(y)).sum(0)
    want = -LAM * (law.entropy() + expected).mean()
    leaves = list(theta.values())
    for got, exact in zip(
        torch.autograd.grad(loss, leaves, retain_graph=True),
        torch.autograd.grad(want, leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, exact, rtol=0, atol=0.02)


def test_a_divergence_torch_knows_is_exact() -> None:
    torch.manual_seed(0)
    policy = so.policy(Model(2, 2, dtype=F64))
    law, other = policy(policy.start(), X), Reference(policy, policy.start())
    torch.testing.assert_close(law.kl(other(X)), torch.zeros(5, dtype=F64))
    objective = so.PolicyGradient(lambda a, b: a, LAM, reference=lambda x: Normal(0.0, 1.0))
    with pytest.raises(InputError, match="reference returned Normal, the policy Wrapped"):
        objective._relative_entropy(law, DATA, None)


def test_sampled_levels_of_the_bilevel_problem_take_the_reference() -> None:
    policy = so.GaussianPolicy(2, 2)
    reference, theta = Reference(policy, drawn(policy, 2)), drawn(policy, 1)
    phi = ConstantReward(2).start(U.U)
    given: dict[str, Any] = {"batch_size": 5, "estimator": so.Pathwise(2)}
    problem = likelihood.problem(policy, ConstantReward(2), LAM, DATA, reference=reference, **given)
    want = -so.PolicyGradient(U, LAM, reference=reference)(policy(theta, X), DATA)
    torch.testing.assert_close(problem.J(theta, phi), want)
    assert problem.batch is not None
    torch.testing.assert_close(problem.batch(streams.generator(0))[0](theta, phi), want)
    assert problem.sampled is not None
    draws = [problem.sampled(theta, phi, streams.generator(k)) for k in range(400)]
    values = torch.stack([torch.as_tensor(d) for d in draws])
    z = (values.mean() - want) / (values.std() / len(draws) ** 0.5)
    assert abs(float(z)) < 5


def test_the_learned_reward_is_the_optimal_one() -> None:
    policy, x = so.GaussianPolicy(1, 2), torch.linspace(-1, 1, 3, dtype=F64)[:, None]
    data = so.Dataset.of(x, DATA.y[:1] + x[:, :, None])
    params = {
        "mean.weight0": torch.ones(1, 2, dtype=F64),
        "mean.bias0": torch.tensor([0.5, -0.2], dtype=F64),
        "scale.raw": torch.tensor([0.6, 0.1, 0.4], dtype=F64),
    }
    reference = Reference(policy, params)
    problem = so.maximum_likelihood(policy, ConstantReward(2), data, lam=LAM, reference=reference)
    found = so.solve(problem, theta=policy.zeros())
    law = reference(x[1:2])
    base = so.Gaussian(law.mean[0], law.scale[0])
    best = with_reference.optimal_reward(data.covariance[1], LAM, data.mean[1], base)
    assert found.converged
    torch.testing.assert_close(found.reward.U, best.U, rtol=1e-4, atol=1e-6)
    want = with_reference.inner_solution(best, LAM, data.mean[1], base)
    torch.testing.assert_close(found.law(x[1:2]).mean[0], want.mean, rtol=1e-4, atol=1e-6)


BASE = so.Gaussian(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64))


def test_where_the_optimal_reward_leaves_the_cone_its_eigenvalue_is_named() -> None:
    Sigma = torch.diag(torch.tensor([0.5, 4.0], dtype=F64))
    with pytest.raises(with_reference.OutsideConeError, match=r"smallest eigenvalue is -0\.375"):
        with_reference.optimal_reward(Sigma, 1.0, torch.zeros(2, dtype=F64), BASE)
    inside = with_reference.optimal_reward(Sigma / 8, 1.0, torch.zeros(2, dtype=F64), BASE)
    torch.testing.assert_close(inside.U, torch.diag(torch.tensor([7.5, 0.5], dtype=F64)))


def test_a_reference_that_does_not_fit_is_refused() -> None:
    law = so.GaussianPolicy(2, 2)(drawn(so.GaussianPolicy(2, 2), 1), X)
    other = so.GaussianPolicy(2, 3)
    wrong: list[tuple[Any, Any, type, str]] = [
        (law, Reference(other, other.zeros()), ShapeError, "n = 3"),
        (law, so.Categorical, InputError, "returned Categorical, the policy Gaussian"),
    ]
    for given, reference, error, said in wrong:
        with pytest.raises(error, match=said):
            so.PolicyGradient(U, LAM, reference=reference)(given, DATA)
    z = torch.zeros(5, 3, dtype=F64)
    excluding = z.clone()
    excluding[:, 1] = -torch.inf
    objective = so.PolicyGradient(TABLE, LAM, reference=lambda x: so.Categorical(excluding))
    with pytest.raises(InputError, match=r"class 1 probability 0, the policy 0\.333333"):
        objective(so.Categorical(z), LABELLED)
    assert torch.isfinite(so.Categorical(excluding).kl(so.Categorical(excluding))).all()
    with pytest.raises(InputError, match=r"gives 1 as bit 1 probability 0, the policy 0\.5: .*inf"):
        so.Bernoulli(z).kl(so.Bernoulli(excluding))
    with pytest.raises(NonFiniteError, match="reference's logits hold 5 NaN of 15"):
        so.Bernoulli(z).kl(so.Bernoulli(excluding + 0 * excluding, check=False))
    tempered = so.PolicyGradient(
        U, LAM, temperature=torch.ones(5, 2), reference=lambda x: so.Gaussian(law.mean, law.scale)
    )
    with pytest.raises(InputError, match="no reference"):
        tempered(law, DATA)


def test_a_law_is_no_function_of_inputs() -> None:
    told = pytest.raises(InputError, match="reference is a Gaussian: pass a function")
    with unchecked(), told:  # as users run it
        so.PolicyGradient(U, LAM, reference=BASE)  # pyright: ignore[reportArgumentType]


def test_a_temperature_weighs_the_divergence() -> None:
    policy = so.GaussianPolicy(2, 2)
    law, reference = policy(drawn(policy, 1), X), Reference(policy, drawn(policy, 2))
    tau = normal(5, 5).exp()
    found = so.PolicyGradient(U, LAM, temperature=tau, reference=reference)(law, DATA)
    want = -(U.expected(law, DATA) - LAM * tau * law.kl(reference(X))).mean()
    torch.testing.assert_close(found, want)


def test_the_reference_has_no_gradient_and_is_trained_toward() -> None:
    policy = so.GaussianPolicy(2, 2)
    params = {name: p.requires_grad_() for name, p in drawn(policy, 2).items()}
    reference = Reference(policy, params)
    assert not reference(X).mean.requires_grad
    objective = so.PolicyGradient(U, LAM, reference=reference)
    assert inner.gradient(policy, policy.zeros(), objective, DATA).converged


# --- the best reward where U* leaves the cone ---


def attained(U: Tensor, Sigma: Tensor, mu: Tensor, reference: so.Gaussian) -> Tensor:
    """`F` of `U` by definition: the policy of the precision `P₀⁻¹ + (2/λ)U`, by torch's density."""
    P0 = reference.covariance
    H = torch.linalg.inv(P0) + 2 / LAM * U
    mean = mu + torch.linalg.solve(H, torch.linalg.solve(P0, reference.mean - mu))
    L = torch.linalg.cholesky(Sigma)
    points = torch.cat([mu + 2**0.5 * L.mT, mu - 2**0.5 * L.mT])  # of these moments, for n = 2
    return torch.distributions.MultivariateNormal(mean, precision_matrix=H).log_prob(points).mean()


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_projection_is_what_a_constrained_search_finds_and_no_nearest_matrix(seed: int) -> None:
    root, m0 = normal(seed, 2, 2), normal(seed + 10, 2)
    Sigma, mu = root @ root.mT + 0.5 * torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)
    L = torch.tensor([[0.6, 0.0], [-0.5, 2.5]], dtype=F64)
    reference = so.Gaussian.cholesky(m0, L)
    found = so.projected_reward(Sigma, LAM, mu, reference)
    star = with_reference.stationary_weight(Sigma, torch.tensor(LAM, dtype=F64), mu, reference)
    x, Q = torch.linalg.eigh(star)
    assert float(x[0]) < 0  # outside the cone
    best = float(attained(found.U, Sigma, mu, reference))
    assert best == pytest.approx(-float(found.law.cross_entropy(TwoMoments(mu, Sigma))), abs=1e-10)
    W = (0.5 * torch.eye(2, dtype=F64) + 0.1 * normal(seed + 20, 2, 2)).requires_grad_()
    search = torch.optim.LBFGS(
        [W], max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = -attained(W @ W.mT, Sigma, mu, reference)
        value.backward()
        return value

    search.step(loss)
    searched = float(attained((W @ W.mT).detach(), Sigma, mu, reference))
    assert searched == pytest.approx(best, abs=1e-8)
    nearest = float(attained((Q * x.clamp_min(0)) @ Q.mT, Sigma, mu, reference))
    assert nearest < best - 1e-4


def test_the_projection_of_batches_and_of_what_needs_none() -> None:
    wide = so.Gaussian(normal(1, 3, 2), torch.full((3, 2), 9.0, dtype=F64))
    Sigma, mu = torch.eye(2, dtype=F64), normal(2, 3, 2)
    inside = with_reference.optimal_reward(Sigma.expand(3, 2, 2), LAM, mu, wide)
    torch.testing.assert_close(so.projected_reward(Sigma, LAM, mu, wide).U, inside.U)
    narrow = so.Gaussian(mu, torch.full((3, 2), 0.5, dtype=F64))
    none = so.projected_reward(Sigma, LAM, mu, narrow)
    assert torch.equal(none.U, torch.zeros(3, 2, 2, dtype=F64))
    torch.testing.assert_close(none.law.covariance, narrow.covariance)
    with pytest.raises(so.NotPositiveDefiniteError, match="Sigma"):
        so.projected_reward(-Sigma, LAM, mu, narrow)
