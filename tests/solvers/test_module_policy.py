"""Any module that returns a distribution is a policy, and trains on any function as a reward."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
)

import solvers as so
from paper_checks.conformance.tolerances import agree_on_average
from solvers.errors import InputError
from solvers.families.module import ModulePolicy, Wrapped, evaluated
from tests.draws import F64, normal


class Net(torch.nn.Module):
    """One number per input, of any law with a location and a scale."""

    def __init__(self, law: Any = Normal) -> None:
        super().__init__()
        self.law = law
        self.line = torch.nn.Linear(2, 1, dtype=F64)
        self.log_scale = torch.nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, x: Tensor) -> Any:
        return self.law(self.line(x)[:, 0], self.log_scale.exp().expand(len(x)))


X = normal(0, 30, 2)
DATA = so.Dataset.of(X, (X.sum(-1, keepdim=True) + 0.1 * normal(1, 30, 1)).unsqueeze(-2))


def distance(y_hat: Tensor, y: Tensor) -> Tensor:
    return -(y_hat - y).square().sum(-1)


@pytest.mark.parametrize("estimator", [so.ScoreFunction(20), so.Pathwise(20)])
def test_it_trains_on_a_function(estimator: Any) -> None:
    """On -(ŷ - y)² with weight λ the variance ends at λ/2; the module itself stays as it was."""
    torch.manual_seed(0)
    net = Net()
    before = {name: p.clone() for name, p in net.named_parameters()}
    policy, lam = so.policy(net), 0.2
    state = torch.get_rng_state()
    theta = so.train(
        policy, policy.start(), so.PolicyGradient(distance, lam, estimator), DATA,
        epochs=400, learning_rate=0.03, batch_ndim=0, noise=so.MemberNoise([so.generator(0)]),
    )  # fmt: skip
    law = policy(theta, X).distribution
    assert float(law.variance.mean()) == pytest.approx(lam / 2, rel=0.1)
    assert float((law.mean - DATA.y[:, 0, 0]).square().mean()) < 0.03
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())
    assert torch.equal(policy.load(theta)(X).mean, law.mean)


def test_it_agrees_with_the_gaussian_policy() -> None:
    """Likelihood, entropy and the gradient of the score function, on the same law."""
    policy = so.policy(Net())
    law = policy(policy.start(), X)
    mean, scale = law.distribution.mean[:, None], law.distribution.stddev[:, None]
    same = so.Gaussian(mean, scale)
    torch.testing.assert_close(law.cross_entropy(DATA), same.cross_entropy(DATA))
    torch.testing.assert_close(law.entropy(), same.entropy())
    means = mean.detach()[:2].expand(3000, 2, 1).clone().requires_grad_()
    data, reward = DATA.rows(torch.arange(2)), so.MahalanobisReward.scalar(1.0, 1)
    exact = torch.autograd.grad(
        reward.expected(so.Gaussian(means[:1], torch.ones_like(means[:1])), data).sum(), means
    )[0][0]
    found = []
    for k in range(300):
        m = mean.detach()[:2].clone().requires_grad_()
        wrapped = Wrapped(Independent(Normal(m, torch.ones_like(m)), 1))
        noise = so.MemberNoise([so.generator(k)])
        surrogate = so.ScoreFunction(10)(wrapped, data, distance, noise)
        found.append(torch.autograd.grad(surrogate.sum(), m)[0])
    agree_on_average("a wrapped score function", torch.stack(found), exact, inputs="300 seeds")


def test_the_same_seed_gives_the_same_generations() -> None:
    law = so.policy(Net())(so.policy(Net()).start(), X)
    first, second, other = (law.draw(5, so.MemberNoise([so.generator(s)])) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (5, 30, 1)


@pytest.mark.parametrize(
    ("distribution", "n"),
    [
        (Laplace(normal(0, 4), torch.ones(4, dtype=F64)), 1),
        (Normal(normal(0, 4, 2), torch.ones(4, 2, dtype=F64)), 2),
        (Independent(Normal(normal(0, 4, 2), torch.ones(4, 2, dtype=F64)), 1), 2),
        (Poisson(normal(0, 4).exp()), 1),
        (
            MixtureSameFamily(
                Categorical(logits=normal(0, 4, 3)),
                Independent(Normal(normal(1, 4, 3, 2), torch.ones(4, 3, 2, dtype=F64)), 1),
            ),
            2,
        ),
    ],
)
def test_shapes_of_any_distribution(distribution: Any, n: int) -> None:
    law = Wrapped(distribution)
    drawn = law.draw(6, so.MemberNoise([so.generator(0)]))
    assert drawn.shape == (6, 4, n)
    assert law.log_prob(drawn).shape == (6, 4)
    data = so.Dataset.of(normal(5, 4, 1), drawn.movedim(0, 1).to(F64))
    torch.testing.assert_close(law.cross_entropy(data), -law.log_prob(drawn).mean(0))


def test_independent_dimensions_are_taken_together() -> None:
    """A law of every entry is the law of the rows that torch makes of it."""
    mean, scale, y = normal(0, 4, 2), normal(1, 4, 2).exp(), normal(2, 4, 2)
    plain, other = Normal(mean, scale), Normal(mean + 1, 2 * scale)
    entries, rows = Wrapped(plain), Wrapped(Independent(plain, 1))
    torch.testing.assert_close(entries.log_prob(y[None]), rows.log_prob(y[None]))
    torch.testing.assert_close(entries.entropy(), rows.entropy())
    found, want = entries.kl(Wrapped(other)), rows.kl(Wrapped(Independent(other, 1)))
    assert found is not None
    assert want is not None
    torch.testing.assert_close(found, want)


def gaussian_of(*shape: int) -> Any:
    """A module whose law has this batch shape, whatever the inputs."""

    class Given(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torch.nn.Parameter(normal(3, *shape))

        def forward(self, x: Tensor) -> Any:
            return Normal(self.mean, torch.ones((), dtype=F64))

    return so.policy(Given())


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("N", [1, 2, 3])
def test_a_law_is_that_of_every_input_and_outcome(N: int, n: int) -> None:
    """`(N,)` for one dimension or `(N, n)`; nothing is made to fit by broadcasting."""
    x, y = normal(0, N, 2), normal(1, N, 4, n)
    data, noise = so.Dataset.of(x, y), so.MemberNoise([so.generator(0)])
    sizes = range(1, 4)
    shapes = [(), *((a,) for a in sizes), *((a, b) for a in sizes for b in sizes), (N, n, 1)]
    for shape in shapes:
        policy = gaussian_of(*shape)
        sampled = [
            so.PolicyGradient(distance, 0.5, e) for e in (so.ScoreFunction(2), so.Pathwise())
        ]
        if shape != (N, n) and (shape != (N,) or n > 1):
            for objective in (so.NLL(), *sampled):
                with pytest.raises(
                    so.ShapeError, match=rf"batch shape \({', '.join(map(str, shape))}"
                ):
                    objective(policy(policy.start(), x), data, noise)
            with pytest.raises(so.ShapeError, match="batch shape"):
                so.Pathwise()(policy(policy.start(), x), data, distance, noise)
            continue
        law = policy(policy.start(), x)
        same = so.Gaussian(policy.start()["mean"].reshape(N, n), torch.ones(N, n, dtype=F64))
        torch.testing.assert_close(law.cross_entropy(data), same.cross_entropy(data))
        assert law.draw(5, noise).shape == (5, N, n)
        assert all(bool(torch.isfinite(loss(law, data, noise))) for loss in sampled)


def test_a_location_against_scales_of_another_shape_is_no_law_of_the_inputs() -> None:
    class Trap(Net):
        def forward(self, x: Tensor) -> Any:
            return Normal(self.line(x)[:, 0], self.log_scale.exp().expand(len(x), 1))

    trap, net = so.policy(Trap()), so.policy(Net())
    with pytest.raises(so.ShapeError, match=r"have n = 1, .* Normal of batch shape \(30, 30\)"):
        so.fit(trap, DATA, params=trap.start())
    with pytest.raises(so.ShapeError, match=r"y has n = 1, .* Normal of batch shape \(30, 30\)"):
        trap(trap.start(), X).log_prob(DATA.y.movedim(-2, -3))
    found = so.fit(net, DATA, params=net.start())
    residual = DATA.y[:, 0, 0] - net(found.value, X).distribution.mean
    want = 0.5 * (2 * torch.pi * torch.e * residual.square().mean()).log()
    torch.testing.assert_close(net(found.value, X).cross_entropy(DATA).mean(), want)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (3, 3), (2,), ()])
def test_a_reference_of_another_shape(shape: tuple[int, ...]) -> None:
    law = Wrapped(Normal(normal(0, 3), torch.ones(3, dtype=F64)))
    with pytest.raises(so.ShapeError, match=r"batch shape \("):
        law.kl(Wrapped(Normal(normal(1, *shape), 1.0)))


VECTORS = MultivariateNormal(normal(0, 3, 2), torch.eye(2, dtype=F64))


@pytest.mark.parametrize(
    ("distribution", "value", "said"),
    [
        (Categorical(logits=normal(0, 3, 4)), 0.7, "y holds 0.7, outside .*upper_bound=3"),
        (Categorical(logits=normal(0, 3, 4), validate_args=False), 2.9, "y holds 2.9"),
        (Categorical(logits=normal(0, 3, 4)), 4.0, "y holds 4"),
        (Categorical(logits=normal(0, 3, 4)), -1.0, "y holds -1"),
        (Poisson(normal(0, 3).exp()), 0.5, "y holds 0.5, outside the support .* of Poisson"),
        (Bernoulli(logits=normal(0, 3)), 2.0, "y holds 2"),
        (Normal(normal(0, 3), 1.0), torch.nan, "y holds nan"),
        (VECTORS, torch.nan, r"y holds \[nan, nan\], outside .* of MultivariateNormal"),
    ],
)
def test_outcomes_that_cannot_be_drawn_are_named(
    distribution: Any, value: float, said: str
) -> None:
    law = Wrapped(distribution)
    with pytest.raises(so.InputError, match=said):
        law.log_prob(torch.full((1, 3, law.n), value, dtype=F64))


def test_the_score_function_of_whole_numbers_has_the_exact_mean() -> None:
    """A law of classes by torch: a reward gets generations as numbers, of the dtype of the law."""
    N, M, runs = 2, 4, 1500
    data = so.Dataset.of(normal(1, N, 1), torch.tensor([[[0.0]], [[2.0]]], dtype=F64))
    z = normal(0, N, 3).requires_grad_()
    seen: list[Tensor] = []

    def reward(y_hat: Tensor, y: Tensor) -> Tensor:
        seen.append(y_hat)
        return -(y_hat - y).square().sum(-1)

    table = -(torch.arange(3, dtype=F64) - data.y[:, 0]).square()
    (exact,) = torch.autograd.grad((z.softmax(-1) * table).sum(), z)
    found: list[Tensor] = []
    for k in range(runs):
        law = Wrapped(Categorical(logits=z))
        surrogate = so.ScoreFunction(M)(law, data, reward, so.MemberNoise([so.generator(k)]))
        found.append(torch.autograd.grad(surrogate.sum(), z)[0])
    agree_on_average("classes by torch", torch.stack(found), exact, inputs=f"{runs} seeds")
    assert all(y_hat.dtype == F64 and y_hat.shape == (M, N, 1) for y_hat in seen)
    single = Wrapped(Categorical(logits=z.detach().float()))
    assert single.draw(2, so.MemberNoise([so.generator(0)])).dtype == torch.float32


class Counts(torch.nn.Module):
    """What it returns depends on how often it was called, by a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=F64), persistent=False)
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class Stateful(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.line = layer, torch.nn.Linear(2, 1, dtype=F64)

    def forward(self, x: Tensor) -> Any:
        return Normal(self.line(self.layer(x))[:, 0], 1.0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: torch.nn.BatchNorm1d(2, dtype=F64),
        lambda: torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(2, 2, dtype=F64)),
        Counts,
    ],
)
def test_buffers_stay_as_they_are(layer: Any, training: bool) -> None:
    """And the law is a function of parameters and inputs, the same whenever it is evaluated."""
    torch.manual_seed(0)
    net = Stateful(layer()).train(training)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {name: t.detach().clone() for name, t in tensors.items()}
    policy = so.policy(net)
    theta = so.train(
        policy, policy.start(), so.NLL(), DATA, epochs=3, learning_rate=0.1, batch_ndim=0
    )
    first, second = (policy(theta, X).cross_entropy(DATA) for _ in range(2))
    assert torch.equal(first, second)
    given = dict(net.named_buffers())
    policy({**theta, **given}, X)
    assert all(torch.equal(before[name], t) for name, t in tensors.items())
    again = policy.load(theta)(X)  # the module itself, from the same buffers
    torch.testing.assert_close(-again.log_prob(DATA.y[:, 0, 0]), first)


def test_what_it_refuses() -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(
        so.InputError, match=r"returned Tensor: return a torch\.distributions object"
    ):
        so.policy(Wrong())({}, X)
    mixture = MixtureSameFamily(
        Categorical(logits=normal(0, 4, 3)), Normal(normal(1, 4, 3), torch.ones(4, 3, dtype=F64))
    )
    with pytest.raises(so.InputError, match="knows no entropy of MixtureSameFamily"):
        Wrapped(mixture).entropy()
    noise = so.MemberNoise([so.generator(0)])
    with pytest.raises(so.InputError, match="do not move with its parameters: pass Score"):
        so.Pathwise(3)(Wrapped(Poisson(normal(0, 30).exp())), DATA, distance, noise)
    with pytest.raises(so.InputError, match="has no closed form: pass estimator=ScoreFunction"):
        so.PolicyGradient(distance, 1.0)(so.policy(Net())(so.policy(Net()).start(), X), DATA)
    with pytest.raises(so.ShapeError, match="return one number for each"):
        so.ScoreFunction(3)(Wrapped(Normal(X[:, 0], 1.0)), DATA, lambda a, b: a - b, noise)


def test_a_parameter_that_is_missing_is_not_the_modules_own() -> None:
    found = so.policy(Net())
    params = dict(found.start())
    gone = next(iter(params))
    del params[gone]
    with pytest.raises(so.InputError, match=f"params lack {gone!r}"):
        found(params, torch.zeros(3, 1, dtype=torch.float64))


class Tied(torch.nn.Module):
    """A part with two names, parts that share a tensor, and a buffer that two parts hold."""

    def __init__(self, how: str) -> None:
        super().__init__()
        one, other = (torch.nn.Linear(2, 2, dtype=F64) for _ in range(2))
        middle = torch.nn.BatchNorm1d(2, dtype=F64)
        if how == "tensors":
            other.weight = one.weight
        parts = [one, middle, one, middle] if how == "parts" else [one, middle, other]
        self.body, self.last = torch.nn.Sequential(*parts), torch.nn.Linear(2, 2, dtype=F64)

    def forward(self, x: Tensor) -> Any:
        mean, raw = self.last(self.body(x)).unbind(-1)
        return Normal(mean, raw.exp())


@pytest.mark.parametrize("how", ["parts", "tensors", "neither"])
@pytest.mark.parametrize("training", [True, False])
def test_a_module_with_shared_parameters_stays_as_it_is(how: str, training: bool) -> None:
    torch.manual_seed(0)
    net, same = Tied(how).train(training), Tied(how).train(training)
    policy = so.policy(net)
    before = {k: t.clone() for k, t in net.state_dict().items()}
    held = [id(t) for t in net.state_dict(keep_vars=True).values()]
    theta = {name: p + 0.1 * normal(1, *p.shape) for name, p in policy.start().items()}
    law = policy(theta, X).distribution
    trained = so.train(policy, theta, so.NLL(), DATA, epochs=2, learning_rate=0.1, batch_ndim=0)
    assert [id(t) for t in net.state_dict(keep_vars=True).values()] == held
    assert all(torch.equal(t, before[k]) for k, t in net.state_dict().items())
    same.load_state_dict(before)
    so.policy(same).load(theta)  # torch's own evaluation, where sharing is as it was
    want = same(X)
    assert torch.equal(law.mean, want.mean)
    assert torch.equal(law.stddev, want.stddev)
    assert all(not torch.equal(trained[name], p) for name, p in theta.items())


def test_a_module_all_of_which_is_frozen_is_not_trained() -> None:
    policy = so.policy(Net().requires_grad_(False))
    with pytest.raises(so.InputError, match=r"every leaf of params is frozen"):
        so.train(policy, policy.start(), so.NLL(), DATA, epochs=1, learning_rate=0.1, batch_ndim=0)


REWARDS: dict[str, Any] = {
    "detached": lambda a, b: distance(a.detach(), b),
    "counted": lambda a, b: ((a - b).abs() < 0.1).double().sum(-1),
    "constant": lambda a, b: torch.zeros(torch.broadcast_shapes(a.shape, b.shape)[:-1], dtype=F64),
}


@pytest.mark.parametrize("name", REWARDS)
def test_pathwise_needs_a_reward_that_moves_with_the_generations(name: str) -> None:
    """Its gradient would be 0, and not that of the expected reward."""
    for policy in (so.policy(Net()), so.GaussianPolicy(2, 1, "diagonal")):
        zeros = policy.start() if isinstance(policy, ModulePolicy) else policy.zeros(F64)

        def run(estimator: Any, policy: Any = policy, zeros: Any = zeros) -> Any:
            objective = so.PolicyGradient(REWARDS[name], 0.2, estimator)
            return so.train(
                policy, zeros, objective, DATA, epochs=1, learning_rate=0.1, batch_ndim=0,
                noise=so.MemberNoise([so.generator(0)]),
            )  # fmt: skip

        with pytest.raises(so.InputError, match=r"the reward does not depend on the generation"):
            run(so.Pathwise(3))
        assert all(bool(p.isfinite().all()) for p in run(so.ScoreFunction(3)).values())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex128])
@pytest.mark.parametrize("baseline", ["none", "leave-one-out", "minimum", "standardised"])
def test_a_reward_of_no_real_numbers_is_named(dtype: torch.dtype, baseline: Any) -> None:
    objective = so.PolicyGradient(
        lambda a, b: distance(a, b).to(dtype), 0.2, so.ScoreFunction(3, baseline)
    )
    policy = so.policy(Net())
    with pytest.raises(so.InputError, match=f"the reward is {dtype}"):
        so.train(
            policy, policy.start(), objective, DATA, epochs=1, learning_rate=0.1, batch_ndim=0,
            noise=so.MemberNoise([so.generator(0)]),
        )  # fmt: skip


class Attention(torch.nn.Module):
    """A transformer's layer; the kernel that torch would take on a CPU has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = torch.nn.Linear(1, 4), torch.nn.Linear(4, 2)
        self.layer = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        mean, raw = self.out(self.layer(self.embed(x[..., None])).mean(1)).unbind(-1)
        return torch.distributions.Normal(mean, raw.exp())


def test_recurrent_layers_bring_no_remark_of_torch() -> None:
    """In a process of its own: pytest sets filters anew for every test."""
    text = (
        "import torch; from solvers.numerics.derivatives import hessian\n"
        "net = torch.nn.LSTM(1, 2, batch_first=True)\n"
        "p = list(net.parameters()); y = net(torch.ones(3, 4, 1))[0].square().sum()\n"
        "g = torch.cat([s.flatten() for s in torch.autograd.grad(y, p, create_graph=True)])\n"
        "assert bool(hessian(g, p).isfinite().all())"
    )
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("training", [True, False])
def test_attention_has_second_derivatives(training: bool) -> None:
    torch.manual_seed(0)
    module = Attention().double().train(training)
    x = torch.randn(3, 2, dtype=torch.float64)
    params = {name: p.detach().clone() for name, p in module.named_parameters()}

    def mean(weight: Tensor) -> Tensor:
        return evaluated(module, {**params, "embed.weight": weight}, x).mean.sum()

    at = params["embed.weight"]
    H: Any = torch.autograd.functional.hessian(mean, at)
    h, steps = 1e-5, torch.eye(4, dtype=torch.float64).reshape(4, 4, 1)
    slope = torch.func.grad(mean)
    numeric = torch.stack(
        [(slope(at + h * e) - slope(at - h * e)).flatten() / (2 * h) for e in steps]
    )
    torch.testing.assert_close(H.reshape(4, 4), numeric, rtol=1e-5, atol=1e-7)


def test_a_law_that_torch_does_not_know_is_named() -> None:
    class Narrow(torch.nn.Module):
        def __init__(self, error: Exception | None = None) -> None:
            super().__init__()
            self.raw, self.error = torch.nn.Parameter(torch.tensor(-1000.0)), error

        def forward(self, x: Tensor) -> torch.distributions.Normal:
            if self.error is not None:
                raise self.error
            return torch.distributions.Normal(x[:, 0], self.raw.exp().expand(len(x)))

    policy = so.policy(Narrow())
    with pytest.raises(InputError, match="no law at these parameters: Expected parameter scale"):
        policy(policy.start(), torch.zeros(2, 1))
    own = so.policy(Narrow(ValueError("the user's own")))  # is no matter of the domain
    with pytest.raises(ValueError, match=r"^the user's own$"):
        own(own.start(), torch.zeros(2, 1))


def test_inputs_in_another_precision_are_named() -> None:
    """And a module that fails for reasons of its own says so itself."""
    policy = so.policy(torch.nn.Linear(2, 3).double())
    wanted = r"inputs in float32 with parameters in float64: .*; pass both in one precision"
    with pytest.raises(InputError, match=wanted):
        policy(policy.start(), torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        policy(policy.start(), torch.zeros(4, 5, dtype=torch.float64))


@pytest.mark.parametrize("together", [False, True])
def test_a_support_that_moves_has_no_score_function(together: bool) -> None:
    """The score of U(-s, s) is that of 1/2s, while a reward at the edge counts, too."""
    centre = torch.zeros(30, 1, dtype=F64)
    scale = torch.ones(30, 1, dtype=F64, requires_grad=True)

    def law(scale: Tensor) -> Wrapped:
        found = Uniform(centre - scale, centre + scale)
        return Wrapped(Independent(found, 1) if together else found)

    noise = so.MemberNoise([so.generator(0)])
    with pytest.raises(InputError, match=r"support of .* moves with its parameters"):
        law(scale).reinforce(DATA, distance, 5, "mean", noise)
    assert torch.isfinite(law(scale.detach()).reinforce(DATA, distance, 5, "mean", noise)).all()
    assert torch.isfinite(law(scale).pathwise(DATA, distance, 5, noise)).all()


@pytest.mark.parametrize("shared", [False, True])
def test_threads_draw_and_evaluate_as_one_after_the_other(shared: bool) -> None:
    """torch draws from one generator for all threads, and exchanges a module's tensors in place."""
    torch.manual_seed(0)
    nets = [Net() for _ in range(3)]
    policies = [so.policy(nets[0 if shared else k]) for k in range(3)]
    objective = so.PolicyGradient(distance, 0.5, so.ScoreFunction(5))

    def trained(k: int) -> dict[str, Tensor]:
        return so.train(
            policies[k], policies[k].start(), objective, DATA, epochs=20, learning_rate=0.05,
            batch_ndim=0, noise=so.MemberNoise([so.generator(k)]),
        )  # fmt: skip

    wanted = [trained(k) for k in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(trained, range(3)))
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
