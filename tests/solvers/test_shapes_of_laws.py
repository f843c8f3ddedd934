"""Shapes that would broadcast to other numbers: `torch.distributions`' value, or a typed error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from solvers.data import Dataset, LabelledData, TwoMoments
from solvers.errors import InputError, ShapeError
from solvers.families.baselines import advantage
from solvers.families.categorical import Categorical
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.metrics import accuracy, calibration_error
from solvers.rewards.between_classes import (
    ClassReward,
    exact_diagonal,
    exact_scale,
    gibbs,
    heuristic_scale,
)
from solvers.rewards.bounded import BoundedReward
from solvers.rewards.learnable import ConstantReward
from solvers.rewards.mahalanobis import (
    MahalanobisReward,
    isotropic_weight,
    optimal_reward,
    optimal_scale,
)
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64, normal
from tests.labelled import labelled_by

pytestmark = pytest.mark.usefixtures("as_users_run")


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=F64)


def factors(seed: int, *shape: int) -> Tensor:
    return normal(seed, *shape).tril(-1) + torch.diag_embed(
        0.3 + normal(seed + 1, *shape[:-1]) ** 2
    )


sizes = st.integers(1, 3)
batches = st.lists(sizes, max_size=3).map(tuple)


@pytest.mark.gate
@pytest.mark.parametrize("full", [False, True])
@given(n=sizes, m=batches, s=batches, y=batches, seed=st.integers(0, 2**20))
def test_any_batch_shapes(
    full: bool, n: int, m: tuple[int, ...], s: tuple[int, ...], y: tuple[int, ...], seed: int
) -> None:
    """`cholesky` and `diagonal` broadcast as torch does, or refuse what torch refuses."""
    mean, point = normal(seed, *m, n), normal(seed + 1, *y, n)
    scale = factors(seed + 2, *s, n, n) if full else 0.3 + normal(seed + 2, *s, n) ** 2
    try:
        torch.broadcast_shapes(m, s, y)
    except RuntimeError:
        with pytest.raises(ShapeError, match="do not broadcast: pass the same"):
            (Gaussian.cholesky if full else Gaussian.diagonal)(mean, scale).log_prob(point)
        return
    law = (Gaussian.cholesky if full else Gaussian.diagonal)(mean, scale)
    want = MultivariateNormal(mean, scale_tril=scale) if full else None
    other = Independent(Normal(mean, scale), 1) if want is None else want
    torch.testing.assert_close(law.log_prob(point), other.log_prob(point))
    torch.testing.assert_close(law.entropy().expand(other.batch_shape), other.entropy())
    assert law.mean.shape[:-1] == other.batch_shape
    zero = zeros(n, n)
    torch.testing.assert_close(law.cross_entropy(TwoMoments(point, zero)), -other.log_prob(point))


@pytest.mark.gate
@pytest.mark.parametrize("full", [False, True])
@given(n=sizes, m=batches, scale=batches, seed=st.integers(0, 2**20))
def test_no_scale_is_misread(
    full: bool, n: int, m: tuple[int, ...], scale: tuple[int, ...], seed: int
) -> None:
    """`Gaussian` takes a scale of any shape for what it is, or refuses it: it never guesses."""
    mean, y = normal(seed, *m, n), normal(seed + 3, *m, n)
    own = (n, n) if full else (n,)
    S = factors(seed + 1, *scale, *own) if full else 0.3 + normal(seed + 1, *scale, *own) ** 2
    try:
        law = Gaussian(mean, S)
    except InputError:
        fits = len(scale) == len(m) and all(a in (1, b) for a, b in zip(scale, m, strict=True))
        assert not fits
        return
    if not full and law.full:
        assert n == 1  # a factor of one entry is a deviation, and there is one law less
        S, full = S.unsqueeze(-1), True
    want = MultivariateNormal(mean, scale_tril=S) if full else Independent(Normal(mean, S), 1)
    torch.testing.assert_close(law.log_prob(y), want.log_prob(y).reshape(m))


@pytest.mark.parametrize("N", [1, 2, 3])
def test_a_factor_that_all_rows_share(N: int) -> None:
    L = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=F64)
    mean, y = zeros(N, 2), torch.ones(N, 2, dtype=F64)
    want = MultivariateNormal(mean, scale_tril=L).log_prob(y)
    torch.testing.assert_close(Gaussian.cholesky(mean, L).log_prob(y), want)
    with pytest.raises(InputError, match=r"Gaussian\.cholesky"):
        Gaussian(mean, L)
    with pytest.raises(InputError, match=r"Gaussian\.diagonal"):
        Gaussian(mean[0], L.T + 1)


def test_a_diagonal_of_as_many_rows_as_outcomes() -> None:
    mean, s = zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)
    want = Independent(Normal(mean, s), 1).log_prob(mean + 1)
    assert torch.equal(Gaussian(mean, s).log_prob(mean + 1), want)


def five(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=F64)


def law(N: int, n: int) -> Gaussian:
    return Gaussian(zeros(N, n), five(N, n))


def labelled(N: int, C: int) -> LabelledData:
    return LabelledData.soft(zeros(N, 1), five(N, C) / C)


SCALAR = MahalanobisReward.scalar(1.0, 1)
BATCH = MahalanobisReward.scalar(torch.tensor([1.0, 2.0], dtype=F64), 1)
MISFITS: dict[str, Callable[[], Any]] = {
    "log_prob of points without a dimension": lambda: law(5, 1).log_prob(five(5)),
    "log_prob of a number": lambda: law(5, 1).log_prob(five()),
    "log_prob of another n": lambda: law(5, 1).log_prob(five(5, 2)),
    "log_prob of other rows": lambda: law(5, 1).log_prob(five(4, 1)),
    "cross_entropy of means (5,)": lambda: law(5, 1).cross_entropy(
        TwoMoments(five(5), five(5, 1, 1))
    ),
    "cross_entropy of variances": lambda: law(5, 2).cross_entropy(
        TwoMoments(five(5, 2), five(5, 2))
    ),
    "cross_entropy of other rows": lambda: law(5, 2).cross_entropy(
        TwoMoments(five(5, 2), five(4, 2, 2))
    ),
    "a scale of one column": lambda: Gaussian(zeros(5, 2), five(5, 1)),
    "a scale without rows": lambda: Gaussian(zeros(5, 2), five(2)),
    "a scale of more rows": lambda: Gaussian(zeros(1, 2), five(5, 2)),
    "a mean that is a number": lambda: Gaussian(zeros(), five()),
    "a factor that is not triangular": lambda: Gaussian.cholesky(zeros(3, 2), five(2, 2)),
    "negative deviations": lambda: Gaussian.diagonal(zeros(3, 2), -five(2)),
    "a reward of (5,) against (5, 1)": lambda: SCALAR(five(5), five(5, 1)),
    "a bounded reward of (5,) against (5, 1)": lambda: BoundedReward(1.0)(five(5), five(5, 1)),
    "a reward of (1,) against (5,)": lambda: MahalanobisReward.scalar(1.0, 5)(five(1), five(5)),
    "a bounded reward of (1,) against (5,)": lambda: BoundedReward(1.0)(five(1), five(5)),
    "a reward of a number": lambda: SCALAR.of(five()),
    "a bounded reward of a number": lambda: BoundedReward(1.0).of(five()),
    "a batch of rewards of one point": lambda: BATCH.of(five(1)),
    "a batch of rewards of other members": lambda: BATCH.of(five(3, 1)),
    "a batch of bounded rewards of other members": lambda: BoundedReward(five(2)).of(five(3, 1)),
    "a batch of bounded rewards of one point": lambda: BoundedReward(five(2)).of(five(1)),
    "expected at means (5,)": lambda: SCALAR.expected(
        law(5, 1), TwoMoments(five(5), five(5, 1, 1))
    ),
    "expected at variances": lambda: SCALAR.expected(law(5, 1), TwoMoments(five(5, 1), five(5, 1))),
    "bounded, at means (5,)": lambda: BoundedReward(1.0).expected(law(5, 1), law(5, 2)),
    "bounded, at moments alone": lambda: BoundedReward(1.0).expected(
        law(5, 2), TwoMoments(five(5, 2), five(5, 2, 2))
    ),
    "a batch of rewards of another law": lambda: BATCH.expected(
        law(3, 1), TwoMoments(five(3, 1), five(3, 1, 1))
    ),
    "outcomes (5,) of inputs": lambda: Dataset.of(five(5, 2), five(5)),
    "outcomes (5, 1) of inputs": lambda: Dataset.of(five(5, 2), five(5, 1)),
    "labels (5, 1)": lambda: LabelledData.of(five(5, 2), torch.zeros(5, 1, dtype=torch.long), 2),
    "labels of one row": lambda: LabelledData.of(five(5, 2), torch.zeros(1, dtype=torch.long), 2),
    "probabilities of one row": lambda: LabelledData.soft(five(5, 2), five(1, 2) / 2),
    "accuracy on other rows": lambda: accuracy(Categorical(zeros(1, 3)), labelled(5, 3)),
    "accuracy on one row": lambda: accuracy(Categorical(zeros(5, 3)), labelled(1, 3)),
    "calibration on other rows": lambda: calibration_error(
        Categorical(zeros(5, 3)), labelled(1, 3)
    ),
    "calibration on other classes": lambda: calibration_error(
        Categorical(zeros(5, 3)), labelled(5, 4)
    ),
    "cross-entropy of other classes": lambda: Categorical(zeros(5, 3)).cross_entropy(
        labelled_by(five(5, 1))
    ),
    "cross-entropy of (5,)": lambda: Categorical(zeros(5, 3)).cross_entropy(labelled_by(five(5))),
    "cross-entropy of other rows": lambda: NLL()(Categorical(zeros(5, 3)), labelled(4, 3)),
    "a reward of other inputs": lambda: ClassReward(zeros(4, 3, 1)).by_class(five(5, 3) / 3),
    "a reward of pi without rows": lambda: ClassReward(zeros(1, 3, 1)).by_class(five(3) / 3),
    "a table without inputs": lambda: ClassReward(zeros(3, 3)),
    "a table of other outcomes": lambda: ClassReward(zeros(1, 3, 2)),
    "lam of other members": lambda: gibbs(ClassReward(zeros(2, 1, 3, 1)), five(3), five(4, 3) / 3),
    "exact_scale of pi without rows": lambda: exact_scale(torch.tensor([0.6, 0.4]), 1.0),
    "exact_scale, lam of other members": lambda: exact_scale(
        torch.tensor([[[0.6, 0.4]]] * 2), five(3)
    ),
    "exact_diagonal, lam of other members": lambda: exact_diagonal(
        torch.tensor([[0.6, 0.4]] * 2), five(3)
    ),
    "heuristic_scale, lam of other members": lambda: heuristic_scale(
        torch.tensor([[0.6, 0.4]] * 2), five(3)
    ),
    "optimal_reward, lam of other members": lambda: optimal_reward(
        torch.eye(2).expand(2, 2, 2), five(3)
    ),
    "optimal_scale, M of other members": lambda: optimal_scale(
        torch.eye(2).expand(3, 2, 2), torch.eye(2).expand(2, 2, 2), 1.0
    ),
    "isotropic_weight of other members": lambda: isotropic_weight(five(2), 2, five(3)),
    "advantages of nothing": lambda: advantage(five(3, 0), "mean"),
    "advantages of a number": lambda: advantage(five(), "none"),
    "a factor that is not square": lambda: MahalanobisReward(five(2, 3)),
    "a diagonal that is a number": lambda: MahalanobisReward.diagonal(five()),
    "a diagonal between classes without inputs": lambda: ClassReward.diagonal(five(3)),
    "a start of another n": lambda: ConstantReward(2).start(torch.eye(3)),
    "a start of a batch": lambda: ConstantReward(2).start(torch.eye(2).expand(2, 2, 2)),
    "inputs that are a row": lambda: GaussianPolicy(2, 1)(
        GaussianPolicy(2, 1).init([torch.Generator()]), torch.zeros(2)
    ),
    "inputs of one column": lambda: GaussianPolicy(2, 1)(
        GaussianPolicy(2, 1).init([torch.Generator()]), torch.zeros(5, 1)
    ),
    "an objective of other rows": lambda: NLL()(law(4, 1), Dataset.of(five(5, 1), five(5, 1, 1))),
    "a policy gradient of other rows": lambda: PolicyGradient(SCALAR, 1.0)(
        law(4, 1), Dataset.of(five(5, 1), five(5, 1, 1))
    ),
    "a class objective of other rows": lambda: PolicyGradient(ClassReward.scalar(1.0, 3), 1.0)(
        Categorical(zeros(5, 3)), labelled(4, 3)
    ),
}


@pytest.mark.parametrize("call", MISFITS.values(), ids=list(MISFITS))
def test_misfits_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match=r"pass|build|evaluate"):
        call()


@given(n=sizes, members=sizes, N=sizes, seed=st.integers(0, 2**20))
def test_rewards_of_pairs(n: int, members: int, N: int, seed: int) -> None:
    """Every entry of a batch of rewards, of generations and outcomes, is that of the pair."""
    L = factors(seed, members, n, n)
    a, b = normal(seed + 2, members, N, 4, n), normal(seed + 3, N, 1, n)
    got = MahalanobisReward(L)(a, b)
    e = a - b
    quadratic = torch.einsum("mNki,mij,mNkj->mNk", e, L @ L.mT, e)
    torch.testing.assert_close(got, -quadratic)
    omega = 0.5 + normal(seed + 4, members) ** 2
    want = (-e.square().sum(-1) / omega[:, None, None]).exp()
    torch.testing.assert_close(BoundedReward(omega)(a, b), want)
