"""Sequences: enumeration, rewards of windows, policies of one's own, and what is refused."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.data import Dataset
from solvers.errors import InputError, ShapeError
from solvers.families.sequences import Autoregressive, counts, sequences
from solvers.numerics.trees import Leaves
from solvers.rewards import windows
from solvers.tasks import text
from solvers.training.ensemble import train
from tests.draws import F64
from tests.solvers.test_numbers import Elsewhere

V, T = 3, 4
X = torch.ones(1, 1, dtype=F64)
WORDS = torch.tensor(list(product(range(V), repeat=T)), dtype=F64)


def drawn(seed: int = 0, S: int = 300) -> Dataset:
    """Sequences whose second symbol repeats the first."""
    y = torch.randint(V, (1, S, T), generator=torch.Generator().manual_seed(seed))
    y[..., 1] = y[..., 0]
    return Dataset.of(X, y.to(F64))


def table(k: int, *batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(k)
    return torch.randn(*batch, T - k, V ** (k + 1), generator=generator, dtype=F64)


class Model(torch.nn.Module):
    """A table of logits for each pair of position and symbol before."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(T, V + 1, V, generator=generator, dtype=F64)
        self.logits = torch.nn.Parameter(start)

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return self.logits[torch.arange(before.shape[1]), before] + 0 * x.sum()


def test_sequences_are_numbers_in_base_v() -> None:
    assert torch.equal(sequences(V, T).to(F64), WORDS)
    assert sequences(2, 0).shape == (1, 0)


@pytest.mark.parametrize("k", range(T))
def test_soft_value_iteration_is_the_gibbs_law(k: int) -> None:
    """For every order, and for batches of rewards and of λ."""
    lam = torch.tensor([0.3, 2.0], dtype=F64)
    reward = windows.WindowReward(table(k, 2), V)
    found = windows.inner_solution(reward, lam)
    r = torch.stack([windows.WindowReward(g, V).of(WORDS.unsqueeze(1))[:, 0] for g in reward.table])
    torch.testing.assert_close(reward.of_all(), r)
    torch.testing.assert_close(found.log_p[:, 0], (r / lam[:, None]).log_softmax(-1))


@pytest.mark.parametrize("k", range(T))
def test_rewards_of_members_for_generations_that_all_share(k: int) -> None:
    reward, y_hat = windows.WindowReward(table(k, 2), V), WORDS.unsqueeze(1)
    outcomes = y_hat[:1].expand(4, *y_hat.shape)
    each = [windows.WindowReward(g, V)(y_hat, outcomes[0]) for g in reward.table]
    assert torch.equal(reward(y_hat, y_hat[:1]), torch.stack(each))
    with pytest.raises(ShapeError, match=r"the reward has batch shape \(2,\), y_hat \(4,\)"):
        reward(outcomes, y_hat)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_soft_value_iteration_returns_logarithms_of_probabilities(k: int) -> None:
    found = windows.soft_values(windows.WindowReward(table(k, 3), V), 0.3)
    for log_p in found:
        assert torch.allclose(log_p.exp().sum(-1), torch.ones(log_p.shape[:-1], dtype=log_p.dtype))


def test_soft_value_iteration_takes_more_sequences_than_can_be_enumerated() -> None:
    reward = windows.WindowReward(torch.zeros(199, 4, dtype=F64), V=2)
    law = windows.inner_solution(reward, 1.0)
    y = law.draw(3, so.MemberNoise([so.generator(0)]))
    torch.testing.assert_close(law.log_prob(y), torch.full((3, 1), -200 * math.log(2), dtype=F64))
    assert law.entropy().item() == pytest.approx(200 * math.log(2))
    with pytest.raises(InputError, match=r"V = 2 symbols at T = 200 positions make 2\^200 seq"):
        law.log_p  # noqa: B018


@pytest.mark.parametrize("k", range(T))
def test_matching_is_a_reward_of_windows(k: int) -> None:
    data, match = drawn(), windows.WindowMatch(0.7, V, k)
    pairs = match(WORDS[:, None], data.y[0])
    torch.testing.assert_close(match.against(data).of_all(), pairs.mean(-1))
    if k == 0:
        same = (WORDS[:, None] == data.y[0]).sum(-1)
        torch.testing.assert_close(pairs, 0.7 * same.to(F64))
    if k == T - 1:
        assert torch.equal(pairs > 0, (WORDS[:, None] == data.y[0]).all(-1))


def test_the_best_reward_has_the_windows_of_the_data() -> None:
    y = torch.randint(V, (1, 400, 3), generator=torch.Generator().manual_seed(0))
    data = Dataset.of(X, y.to(F64))
    for k in range(3):
        law = windows.inner_solution(windows.optimal_windows(data, 0.5, V, k), 0.5)
        p = law.log_p[0].exp()
        words = sequences(V, 3)
        for t, share in enumerate(counts(data, V, k)[0]):
            number = (words[:, t : t + k + 1] * V ** torch.arange(k, -1, -1)).sum(-1)
            found = torch.zeros_like(share).scatter_add(0, number, p)
            torch.testing.assert_close(found, share)
        lost = law.cross_entropy(data) - torch.special.entr(counts(data, V, 2)).sum((-2, -1))
        torch.testing.assert_close(lost, windows.cost(data, V, k), atol=1e-12, rtol=1e-9)


def test_members_are_independent() -> None:
    """Trained together or alone, by samples or exactly, a member is the same."""
    policy, data = so.RecurrentPolicy(1, V, T, width=4), drawn()
    seeds = (1, 2)
    for estimator in (so.Analytic(), so.ScoreFunction(8)):
        objective = so.PolicyGradient(so.WindowMatch(2.0, V), 0.5, estimator)

        def trained(chosen: tuple[int, ...], batch: tuple[int, ...]) -> dict[str, Tensor]:
            start = policy.init([so.generator(s) for s in chosen], batch, dtype=F64)
            noise = so.MemberNoise([so.generator(s, "noise") for s in chosen], batch)
            return train(
                policy, start, objective, data,  # noqa: B023
                epochs=3, learning_rate=0.1, batch_ndim=len(batch), noise=noise,
            )  # fmt: skip

        together = trained(seeds, (2,))
        for i, seed in enumerate(seeds):
            alone = trained((seed,), ())
            for name, p in alone.items():
                torch.testing.assert_close(together[name][i], p, rtol=1e-9, atol=1e-12)


def test_the_recurrent_policy_is_a_gru() -> None:
    """The state after each symbol is that of torch's cell, which takes the biases elsewhere."""
    policy, x = (
        so.RecurrentPolicy(2, V, T, width=4),
        torch.randn(5, 2, generator=so.generator(1)).double(),
    )
    theta = policy.init([so.generator(0)], dtype=F64)
    cell = torch.nn.GRUCell(V, 4, dtype=F64)
    with torch.no_grad():
        cell.weight_ih.copy_(theta["symbols"].mT)
        cell.weight_hh.copy_(theta["state"].mT)
        cell.bias_ih.zero_()
        cell.bias_hh.copy_(theta["state_bias"])
        h = torch.tanh(x @ theta["start"] + theta["start_bias"])
        y = torch.randint(V, (5, T), generator=so.generator(2))
        log_p = torch.zeros(5, dtype=F64)
        for symbol in y.mT:
            logits = h @ theta["out"] + theta["out_bias"]
            log_p += logits.log_softmax(-1).gather(-1, symbol.unsqueeze(-1))[:, 0]
            h = cell(torch.nn.functional.one_hot(symbol, V).double(), h)
        found = policy(theta, x).log_prob(y.double().unsqueeze(0))[0]
    torch.testing.assert_close(found, log_p)


@pytest.mark.parametrize("k", [0, 1, T - 1])
def test_training_ends_at_the_inner_solution(k: int) -> None:
    policy, data = so.causal_policy(Model(), 1, V, T), drawn()
    reward = so.WindowMatch(1.0 if k < 2 else 40.0, V, k)
    best = windows.inner_solution(reward.against(data), 0.5)
    objective = so.PolicyGradient(reward, 0.5)
    trained = train(
        policy, policy.start(), objective, data, epochs=300, learning_rate=0.05, batch_ndim=0
    )
    law = policy(trained, X)
    kl = (law.log_p.exp() * (law.log_p - best.log_p)).sum()
    # A table of pairs holds Markov laws of order 1, not those of exact match.
    assert (kl < 1e-3) == (k < 2)


def test_likelihood_of_a_module_of_ones_own() -> None:
    """Conditional frequencies of pairs are the likeliest, and `load` writes them back."""
    model = Model()
    policy, data = so.causal_policy(model, 1, V, T), drawn()
    found = so.fit(policy, data, params=policy.start(), weight_decay=1e-9, tolerance=1e-5)
    nll = policy(found.value, X).cross_entropy(data)
    torch.testing.assert_close(nll - windows.cost(data, V, 1), _entropy(data), atol=1e-5, rtol=0)
    policy.load(found.value)
    assert torch.equal(model.logits, found.value["logits"])


class Shifted(Model):
    """The table of logits, frozen, with one vector added to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.logits.requires_grad_(False)
        self.shift = torch.nn.Parameter(torch.zeros(V, dtype=F64))

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return super().forward(before, x) + self.shift


def test_frozen_parameters_of_a_module_of_ones_own_stay() -> None:
    model, data = Shifted(), drawn()
    policy = so.causal_policy(model, 1, V, T)
    found = so.fit(policy, data, params=policy.start(), weight_decay=1e-3)
    assert torch.equal(found.value["logits"], model.logits)
    assert bool((found.value["shift"] != 0).all())
    model.shift.requires_grad_(False)
    with pytest.raises(so.InputError, match=r"every leaf of params is frozen"):
        so.fit(policy, data, params=policy.start(), weight_decay=1e-3)


def _entropy(data: Dataset) -> Tensor:
    return torch.special.entr(counts(data, V, T - 1)).sum((-2, -1))


def test_inputs_have_laws_of_their_own() -> None:
    policy = so.RecurrentPolicy(2, V, T, width=4)
    theta = policy.init([so.generator(0)], dtype=F64)
    x = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=F64)
    law = policy(theta, x)
    for i in range(2):
        alone = policy(theta, x[i : i + 1])
        torch.testing.assert_close(alone.log_p[0], law.log_p[i])
        torch.testing.assert_close(alone.entropy()[0], law.entropy()[i])
    y = law.draw(5, so.MemberNoise([so.generator(1)]))
    assert y.shape == (5, 2, T)
    assert law.log_prob(y).shape == (5, 2)
    assert (law.log_p[0] - law.log_p[1]).abs().max() > 1e-3


def test_what_was_asked_without_gradients_has_them_later() -> None:
    policy = so.RecurrentPolicy(1, V, T, width=4)
    theta = policy.init([so.generator(0)], dtype=F64)
    law = policy(theta, X)
    with torch.no_grad():
        assert not law.entropy().requires_grad
    slope = torch.autograd.grad(law.entropy().sum(), Leaves.of("theta", dict(theta)).tensors)
    assert max(float(g.abs().max()) for g in slope) > 0


class Peeks(Model):
    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return super().forward(before, x) + before.sum(-1)[:, None, None]


class TooShort(Model):
    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return super().forward(before, x)[:, :-1]


class Normalised(Model):
    """It normalises over the sequences of a batch, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(V, dtype=F64)

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        logits = super().forward(before, x) * (1 + x[..., None])
        return self.norm(logits.mT).mT


def test_a_law_of_one_sequence_does_not_depend_on_those_beside_it() -> None:
    model = Normalised()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for length in (1, T):
        with pytest.raises(InputError, match=r"with the sequences beside them.* module\.eval\(\)"):
            so.causal_policy(model, 1, V, length)
    policy = so.causal_policy(model.eval(), 1, V, T)
    law = policy(policy.start(), X)
    drawn = law.draw(4, so.MemberNoise([so.generator(0)]))
    torch.testing.assert_close(law.log_prob(drawn)[:1], law.log_prob(drawn[:1]))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_logits_have_a_row_for_every_sequence() -> None:
    law = Autoregressive(lambda y: torch.zeros(y.shape[-1] + 1, V, dtype=F64), V, 2)
    with pytest.raises(ShapeError, match=r"shape \(2, 3\) after 1 symbols: return \(\*b, 3, 1, 2"):
        law.entropy()


def law_of(**sizes: int) -> Any:
    policy = so.RecurrentPolicy(1, sizes.get("V", V), sizes.get("T", T), width=2)
    return policy(policy.init([so.generator(0)], dtype=F64), X)


def sequence(*symbols: float) -> Dataset:
    return Dataset.of(X, torch.tensor([[symbols]], dtype=F64))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: law_of().cross_entropy(sequence(0, 1, 3, 0)), r"y holds 3: symbols are 0 \.\. 2"),
        (lambda: law_of().cross_entropy(sequence(0, 0.5, 1, 0)), "y holds 0.5"),
        (
            lambda: law_of().cross_entropy(sequence(0, 1)),
            "sequences of 2 symbols, the policy T = 4",
        ),
        (lambda: law_of(T=9).entropy(), r"make 3\^9 sequences"),
        (lambda: so.causal_policy(Peeks(), 1, V, T), "without the symbols that come after"),
        (lambda: so.causal_policy(TooShort(), 1, V, T), r"return logits \(3, 4, 3\)"),
        (lambda: windows.WindowReward(table(1), 2), r"table has shape \(3, 9\) for V = 2"),
        (lambda: so.WindowMatch(1.0, V, 4).against(drawn()), "k is 4, the sequences have T = 4"),
        (lambda: so.WindowMatch(-1.0, V), "u must be positive, got -1"),
        (
            lambda: windows.WindowReward(table(1), V).expected(law_of(T=3), sequence(0, 1, 2)),
            "the reward has T = 4 positions, the sequences 3",
        ),
        (lambda: windows.optimal_windows(drawn(), 0.5, V, 1), "its best reward is -inf"),
        (
            lambda: windows.inner_solution(windows.WindowReward(table(0), V), -1.0),
            "lam must be positive, got -1",
        ),
        (lambda: text.windows("abc", 4), "the text has 3 characters"),
        (lambda: text.windows("", 1), "the text has 0 characters"),
        (lambda: text.symbols("abc", ("ab", "BC")), r"groups\[0\] and groups\[1\] both hold 'b'"),
    ],
)
def test_bad_values_are_named(call: Any, words: str) -> None:
    with pytest.raises((InputError, ShapeError), match=words):
        call()


def test_the_poem(capsys: pytest.CaptureFixture[str]) -> None:
    poem = text.zen()
    assert poem.startswith("The Zen of Python, by Tim Peters")
    assert poem.rstrip().endswith("let's do more of those!")
    assert capsys.readouterr().out == ""
    assert text.symbols("A z!").tolist() == [0, 2, 1, 2]
    assert text.symbols("Ab", ("A", "B")).tolist() == [0, 1]
    assert text.symbols("").dtype == torch.int64
    data = text.windows(poem, 5)
    assert data.y.shape == (1, len(poem) - 4, 5)
    assert data.y[0, 7].tolist() == text.symbols(poem[7:12]).tolist()


def test_symbols_are_made_on_the_device_of_the_inputs() -> None:
    """A tensor made anywhere else lands on `meta`, which has no values and mixes with nothing."""
    policy = so.RecurrentPolicy(1, V, T, 3)
    theta = policy.init([so.generator(0)], dtype=F64)
    reward = so.WindowReward(table(1), V)

    def numbers() -> list[Tensor]:
        law = policy(theta, X)
        module = so.causal_policy(Model(), 1, V, T)
        chain = windows.inner_solution(reward, 0.5)
        noise = so.MemberNoise([so.generator(1)])
        laws = (law, module(module.start(), X), chain)
        return [part for each in laws for part in (each.draw(3, noise), each.log_p)]

    want = numbers()
    with Elsewhere():
        got = numbers()
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
