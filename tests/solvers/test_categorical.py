"""Categorical laws, labelled data, policies that return such laws, accuracy and calibration."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from solvers.data import LabelledData
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.networks import MLP
from solvers.metrics import accuracy, calibration_error
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.streams import MemberNoise
from tests.draws import F64, normal
from tests.labelled import labelled_by

N, INPUTS = 4, 7
batches = pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
bodies = pytest.mark.parametrize("network", [MLP(), MLP((5,)), MLP((5, 6), "tanh")])
classes = st.integers(2, 10)


def simplex(seed: int, *shape: int) -> Tensor:
    return normal(seed, *shape).softmax(-1)


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + k) for k in range(count)]


def laid_out(logits: Tensor) -> Tensor:
    """The same logits, stored with classes ahead of inputs."""
    return logits.mT.contiguous().mT


@batches
@given(C=classes, seed=st.integers(0, 2**20))
def test_the_law_is_that_of_torch(batch: tuple[int, ...], C: int, seed: int) -> None:
    z, pi = 3 * normal(seed, *batch, N, C), simplex(seed + 1, N, C)
    want = torch.distributions.Categorical(logits=z)
    for law in (Categorical(z), Categorical(laid_out(z))):
        assert law.classes == C
        torch.testing.assert_close(law.p, want.probs)
        torch.testing.assert_close(law.entropy(), want.entropy())
        for c in range(C):
            label = torch.full((*batch, N), c)
            torch.testing.assert_close(law.log_p[..., c], want.log_prob(label))
            one_hot = torch.eye(C, dtype=F64)[label]
            torch.testing.assert_close(
                law.cross_entropy(labelled_by(one_hot)), -want.log_prob(label)
            )
        terms = torch.stack(
            [pi[:, c] * want.log_prob(torch.full((*batch, N), c)) for c in range(C)]
        )
        for given_pi in (pi, pi.expand(*batch, N, C)):
            assert law.cross_entropy(labelled_by(given_pi)).shape == (*batch, N)
            torch.testing.assert_close(law.cross_entropy(labelled_by(given_pi)), -terms.sum(0))


@given(C=classes, seed=st.integers(0, 2**20))
def test_the_moments_of_one_hot_outcomes(C: int, seed: int) -> None:
    """By enumeration: `Σ_c p_c (e_c - p)(e_c - p)ᵀ`, and the trace of it with a matrix."""
    law, U = Categorical(normal(seed, 3, N, C)), normal(seed + 1, C, C)
    gap = torch.eye(C, dtype=F64) - law.p.unsqueeze(-2)
    P = torch.einsum("bnc,bnci,bncj->bnij", law.p, gap, gap)
    torch.testing.assert_close(law.covariance, P)
    torch.testing.assert_close(law.trace(U), torch.einsum("ij,bnji->bn", U, P))


@given(C=classes, seed=st.integers(0, 2**20), shift=st.floats(-100, 100))
def test_a_constant_added_to_the_logits_changes_nothing(C: int, seed: int, shift: float) -> None:
    z, pi = normal(seed, 3, N, C), simplex(seed + 1, N, C)
    law, moved = Categorical(z), Categorical(z + shift * normal(seed + 2, 3, N, 1))
    torch.testing.assert_close(moved.p, law.p)
    torch.testing.assert_close(moved.entropy(), law.entropy())
    q = labelled_by(pi)
    torch.testing.assert_close(moved.cross_entropy(q), law.cross_entropy(q))


def test_extreme_logits_stay_finite() -> None:
    rows = [[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]]
    z = torch.tensor(rows, dtype=F64, requires_grad=True)
    law, half = Categorical(z), math.log(2)
    want = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], dtype=F64)
    torch.testing.assert_close(law.p, want)
    entropy = law.entropy()
    torch.testing.assert_close(entropy, torch.tensor([0, half, math.log(3)], dtype=F64))
    cost = law.cross_entropy(labelled_by(torch.tensor([[0, 1.0, 0]], dtype=F64).expand(3, 3)))
    torch.testing.assert_close(cost, torch.tensor([2e4, half, math.log(3)], dtype=F64))
    slopes = torch.autograd.grad(entropy.sum() + cost.sum(), z)[0]
    assert bool(torch.isfinite(slopes).all())


@batches
@given(C=classes, seed=st.integers(0, 2**20))
def test_labels_are_stored_one_hot(batch: tuple[int, ...], C: int, seed: int) -> None:
    x = normal(seed, *batch, N, INPUTS).float()
    labels = torch.randint(C, (*batch, N), generator=torch.Generator().manual_seed(seed))
    for data in (LabelledData.of(x, labels, C), LabelledData.of(x, labels.to(torch.int32), C)):
        assert data.classes == C
        assert data.pi.dtype == torch.float32
        assert torch.equal(data.x, x)
        for index in np.ndindex(*batch, N):
            want = [float(c == int(labels[index])) for c in range(C)]
            assert data.pi[index].tolist() == want


def test_rows_of_data() -> None:
    x, pi = normal(0, 9, INPUTS), simplex(1, 9, 3)
    data = LabelledData.soft(x, pi)
    some = data.rows(torch.tensor([4, 0, 4]))
    assert torch.equal(some.x, torch.stack([x[4], x[0], x[4]]))
    assert torch.equal(some.pi, torch.stack([pi[4], pi[0], pi[4]]))
    members = data.rows(torch.tensor([[1, 2], [3, 4], [5, 6]]))
    assert members.x.shape == (3, 2, INPUTS)
    assert torch.equal(members.pi[2, 1], pi[6])
    with pytest.raises(ShapeError, match=r"\(3, 2, 7\): rows are taken from x \(N, d\)"):
        members.rows(torch.tensor([0]))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint8])
def test_places_are_numbers_of_any_size(dtype: torch.dtype) -> None:
    """By itself torch takes bytes for a mask, and small integers for no index at all."""
    data = LabelledData.soft(normal(0, 3, INPUTS), simplex(1, 3, 3))
    reward = ClassReward(normal(2, 2, 3, 3, 3))
    for places in ([2, 0, 1], [1, 1, 0]):
        index, same = torch.tensor(places, dtype=dtype), torch.tensor(places)
        assert torch.equal(data.rows(index).x, data.x[same])
        assert torch.equal(reward.rows(index).table, reward.table[:, same])
        members = torch.stack([index, index.flip(0)])
        assert torch.equal(reward.rows(members).table[1], reward.table[1, same.flip(0)])


def test_places_from_the_last() -> None:
    reward = ClassReward(normal(2, 2, 3, 3, 3))
    assert torch.equal(reward.rows(torch.tensor([-1])).table, reward.table[:, [2]])
    members = reward.rows(torch.tensor([[-1], [-3]])).table
    assert torch.equal(members, torch.stack([reward.table[0, [2]], reward.table[1, [0]]]))


def test_one_law_for_rewards_of_many_inputs_and_members() -> None:
    """The law is each of theirs: every input of every member draws its own generations."""
    law, pi = Categorical(normal(0, 1, 3)), simplex(1, 6, 3)
    data = LabelledData.soft(normal(2, 6, INPUTS), pi)
    reward = ClassReward(normal(3, 2, 6, 3, 3))
    whole = Categorical(law.logits.expand(2, 6, 3))
    for baseline in ("mean", "optimal"):
        found, want = (
            each.reinforce(data, reward, 4, baseline, MemberNoise(generators(2), (2,)))
            for each in (law, whole)
        )
        assert found.shape == (2, 6)
        assert torch.equal(found, want)


@pytest.fixture
def as_users_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shape checks of `conftest.py`, which would speak up before the solvers do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("as_users_run")
def test_what_labels_are_refused() -> None:
    x = normal(0, N, 2)
    with pytest.raises(InputError, match=r"labels\[2\] is 3, outside 0 \.\. 2: pass C = 4"):
        LabelledData.of(x, torch.tensor([0, 1, 3, 2]), 3)
    with pytest.raises(InputError, match=r"labels\[1, 0\] is -1, outside 0 \.\. 1.*from 0"):
        LabelledData.of(normal(0, 2, 2, 5), torch.tensor([[0, 1], [-1, 0]]), 2)
    with pytest.raises(InputError, match="C is 1: pass at least 2"):
        LabelledData.of(x, torch.zeros(N, dtype=torch.long), 1)
    for labels in (torch.zeros(3, dtype=torch.long), torch.zeros(N, 1, dtype=torch.long)):
        with pytest.raises(ShapeError, match=r"x is \(4, 2\), labels \((3,|4, 1)\): pass"):
            LabelledData.of(x, labels, 3)
    with pytest.raises(NonFiniteError, match=r"x\[1, 0\] is nan"):
        LabelledData.of(x.index_fill(0, torch.tensor(1), math.nan), torch.tensor([0, 1, 0, 1]), 2)


@pytest.mark.usefixtures("as_users_run")
def test_what_probabilities_are_refused() -> None:
    x, pi = normal(0, N, 2), simplex(1, N, 3)
    for other in (simplex(1, 3, 3), simplex(1, 2, N, 3)):
        with pytest.raises(ShapeError, match=r"x is \(4, 2\), pi \(.*\): pass x \(\*b, N, d\)"):
            LabelledData.soft(x, other)
    with pytest.raises(ShapeError, match=r"x is \(4,\), pi \(3,\)"):
        LabelledData.soft(normal(0, N), simplex(1, 3))
    for shape in [(0, 2), (N, 0)]:
        with pytest.raises(ShapeError, match="data are empty: x has shape"):
            LabelledData.soft(normal(0, *shape), simplex(1, shape[0], 3))
    with pytest.raises(ShapeError, match=r"torch.float64 and pi is torch.float32: convert"):
        LabelledData.soft(x, pi.float())
    with pytest.raises(
        InputError, match=r"pi has shape \(4, 1\): pass \(\*b, C\), at least 2 classes"
    ):
        LabelledData.soft(x, torch.ones(N, 1, dtype=F64))
    for value in (math.nan, math.inf):
        with pytest.raises(NonFiniteError, match=rf"pi\[0, 1\] is {value}"):
            LabelledData.soft(x, pi.index_fill(1, torch.tensor(1), value))
    with pytest.raises(InputError, match=r"pi has an entry -0\.25: pass probabilities >= 0"):
        LabelledData.soft(x, torch.tensor([[-0.25, 0.75, 0.5]], dtype=F64).expand(N, 3))
    with pytest.raises(InputError, match=r"pi sums to 1 ± 0\.5: divide it by its sum"):
        LabelledData.soft(x, 1.5 * pi)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rounding_of_probabilities_is_forgiven(dtype: torch.dtype) -> None:
    x, eps = torch.ones(1, 1, dtype=dtype), torch.finfo(dtype).eps
    pi = torch.tensor([[0.25, 0.75]], dtype=dtype)
    assert LabelledData.soft(x, pi * (1 + 100 * eps)).classes == 2
    with pytest.raises(InputError, match="sums to 1"):
        LabelledData.soft(x, pi * (1 + 3000 * eps))


@bodies
@batches
@pytest.mark.parametrize("C", [2, 5])
def test_logits_are_those_of_the_network(network: MLP, batch: tuple[int, ...], C: int) -> None:
    """Of every member by itself, whether the members share their inputs or not."""
    policy = CategoricalPolicy(INPUTS, C, network)
    params = policy.init(generators(math.prod(batch)), batch, F64)
    shared, own = normal(0, N, INPUTS), normal(1, *batch, N, INPUTS)
    activation = {"relu": torch.relu, "tanh": torch.tanh}[network.activation]
    for x in (shared, own, shared.expand(*batch, N, INPUTS)):
        law = policy(params, x)
        assert law.logits.shape == (*batch, N, C)
        for index in np.ndindex(*batch):
            h = x[index] if x.ndim > 2 else x
            for layer in range(len(network.hidden) + 1):
                weight = params[f"weight{layer}"][index]
                h = h @ weight + params[f"bias{layer}"][index]
                h = activation(h) if layer < len(network.hidden) else h
            torch.testing.assert_close(law.logits[index], h)


def test_a_member_that_diverges_is_nan_alone() -> None:
    """Its law is built all the same, and those of the others are what they were."""
    policy = CategoricalPolicy(INPUTS, 3)
    params, x = policy.init(generators(2), (2,), F64), normal(0, N, INPUTS)
    before = policy(params, x).log_p
    law = policy(
        {name: p.index_fill(0, torch.tensor(1), math.nan) for name, p in params.items()}, x
    )
    assert torch.equal(law.log_p[0], before[0])
    assert law.log_p[1].isnan().all()


@bodies
def test_sharing_inputs_changes_no_gradient(network: MLP) -> None:
    policy = CategoricalPolicy(INPUTS, 3, network)
    params = policy.init(generators(6), (2, 3), F64)
    x, weights = normal(0, N, INPUTS), normal(1, 2, 3, N, 3)
    leaves = list(params.values())
    shared, own = (
        torch.autograd.grad((policy(params, each).log_p * weights).sum(), leaves)
        for each in (x, x.expand(2, 3, N, INPUTS))
    )
    for got, want in zip(shared, own, strict=True):
        torch.testing.assert_close(got, want)


@bodies
def test_initialisation_of_a_member_does_not_depend_on_its_batch(network: MLP) -> None:
    policy = CategoricalPolicy(INPUTS, 3, network)
    batched = policy.init(generators(6), (2, 3))
    for member in range(6):
        alone = policy.init(generators(1, member))
        for name, p in batched.items():
            assert p.dtype == torch.float32
            assert p.requires_grad
            assert torch.equal(p.flatten(0, 1)[member], alone[name]), name
    other = policy.init(generators(1, 1))
    assert not torch.equal(other["weight0"], policy.init(generators(1, 0))["weight0"])


@bodies
def test_zeros_are_the_uniform_law(network: MLP) -> None:
    policy = CategoricalPolicy(INPUTS, 5, network)
    zeros, drawn = policy.zeros(), policy.init(generators(1))
    assert {name: p.shape for name, p in zeros.items()} == {n: p.shape for n, p in drawn.items()}
    assert bool((policy(zeros, normal(0, N, INPUTS)).p == 0.2).all())
    assert policy.zeros(torch.float32)["weight0"].dtype == torch.float32


def test_what_a_policy_refuses() -> None:
    policy = CategoricalPolicy(INPUTS, 3)
    with pytest.raises(InputError, match="inputs is 0: pass at least 1"):
        CategoricalPolicy(0, 3)
    with pytest.raises(InputError, match="classes is 1: pass at least 2"):
        CategoricalPolicy(INPUTS, 1)
    with pytest.raises(ShapeError, match=r"x has shape \(4, 6\), and the policy takes 7 columns"):
        policy(policy.zeros(), normal(0, N, 6))
    with pytest.raises(ShapeError, match=r"2 generators for the batch shape \(3,\)"):
        policy.init(generators(2), (3,))


def slow_scores(p: np.ndarray, pi: np.ndarray, bins: int) -> tuple[float, float]:
    """Accuracy and calibration error of one member, as they are defined."""
    mode, rows = [max(range(len(q)), key=q.__getitem__) for q in p.tolist()], len(p)
    right = [pi[n, mode[n]] for n in range(rows)]
    sure = [p[n, mode[n]] for n in range(rows)]
    error = 0.0
    for k in range(bins):
        inside = [n for n in range(rows) if k / bins < sure[n] <= (k + 1) / bins]
        if inside:
            gap = np.mean([right[n] for n in inside]) - np.mean([sure[n] for n in inside])
            error += len(inside) / rows * float(abs(gap))
    return float(np.mean(right)), error


@batches
@given(C=classes, seed=st.integers(0, 2**20), bins=st.integers(1, 20), labels=st.booleans())
def test_scores_are_their_definitions(
    batch: tuple[int, ...], C: int, seed: int, bins: int, labels: bool
) -> None:
    law, x, rows = Categorical(2 * normal(seed, *batch, 12, C)), normal(0, 12, 1), 12
    drawn = torch.randint(C, (rows,), generator=torch.Generator().manual_seed(seed))
    data = LabelledData.of(x, drawn, C) if labels else LabelledData.soft(x, simplex(seed, 12, C))
    found = accuracy(law, data), calibration_error(law, data, bins)
    for index in np.ndindex(*batch):
        want = slow_scores(law.p[index].numpy(), data.pi.numpy(), bins)
        assert [float(score[index]) for score in found] == pytest.approx(want, abs=1e-12)


def test_a_confidence_at_an_edge_belongs_to_the_bin_below() -> None:
    """Else its gap would cancel against that of the bin above."""
    rows = torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.2, 0.2]], dtype=F64)
    law = Categorical(rows.log())
    edge, above = law.p.amax(-1).tolist()
    assert edge == 0.5 < above
    data = LabelledData.of(normal(0, 2, 1), torch.tensor([0, 1]), 3)
    want = (abs(1 - edge) + abs(0 - above)) / 2
    assert float(calibration_error(law, data, 2)) == pytest.approx(want)
    sure = Categorical(torch.tensor([[1e4, 0.0]], dtype=F64))
    wrong = LabelledData.of(normal(0, 1, 1), torch.tensor([1]), 2)
    assert float(calibration_error(sure, wrong)) == 1.0


def test_perfect_calibration() -> None:
    law, x = Categorical(normal(0, 9, 4)), normal(1, 9, 1)
    assert float(calibration_error(law, LabelledData(x, law.p))) == 0
    counted = Categorical(torch.tensor([0.6, 0.4], dtype=F64).log().expand(5, 2))
    data = LabelledData.of(normal(0, 5, 1), torch.tensor([0, 1, 0, 0, 1]), 2)
    assert float(accuracy(counted, data)) == pytest.approx(0.6)
    assert float(calibration_error(counted, data)) == pytest.approx(0, abs=1e-15)


def test_members_are_estimated_with_a_reward_each_as_alone() -> None:
    """Of one-hot outcomes compared by a matrix, and with the same draws."""
    A, logits = normal(0, 2, 3, 3), normal(1, 2, N, 3)
    U = A @ A.mT + torch.eye(3, dtype=F64)
    data = LabelledData.soft(normal(2, N, 2), simplex(3, N, 3))
    both = Categorical(logits).reinforce(
        data, MahalanobisReward.full(U), 50, "optimal", MemberNoise(generators(2), (2,))
    )
    assert both.shape == (2, N)
    for k in range(2):
        alone = Categorical(logits[k : k + 1]).reinforce(
            data,
            MahalanobisReward.full(U[k : k + 1]),
            50,
            "optimal",
            MemberNoise(generators(1, k), (1,)),
        )
        torch.testing.assert_close(both[k], alone[0])
