"""`cross_entropy(q)`: data are a law too, and a law is one as data are."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence as kl

import solvers as so
from solvers.data import TwoMoments
from tests.draws import F64, normal

L = torch.linalg.cholesky(torch.eye(2, dtype=F64) + 0.3)
PAIRS = {
    "deviations": [
        (so.Gaussian(m := normal(k, 5, 2), s := m.exp()), Independent(Normal(m, s), 1))
        for k in (0, 1)
    ],
    "factors": [
        (so.Gaussian.cholesky(m := normal(k, 5, 2), L), MultivariateNormal(m, scale_tril=L))
        for k in (0, 1)
    ],
    "classes": [(so.Categorical(z := normal(k, 5, 3)), Categorical(logits=z)) for k in (0, 1)],
    "bits": [
        (so.Bernoulli(z := normal(k, 5, 3)), Independent(Bernoulli(logits=z), 1)) for k in (0, 1)
    ],
}


@pytest.mark.parametrize("family", PAIRS)
def test_a_law_stands_where_data_do(family: str) -> None:
    (p, torch_p), (q, torch_q) = PAIRS[family]
    torch.testing.assert_close(p.cross_entropy(q), kl(torch_q, torch_p) + torch_q.entropy())
    same = p.cross_entropy(p)
    torch.testing.assert_close(same, p.entropy().expand_as(same))


def test_data_are_a_law_of_their_moments() -> None:
    law = PAIRS["factors"][0][0]
    data = so.Dataset.of(normal(2, 5, 1), normal(3, 5, 4, 2))
    moments = TwoMoments(data.mean, data.covariance)
    assert torch.equal(law.cross_entropy(data), law.cross_entropy(moments))


def test_outcomes_of_another_kind_are_refused() -> None:
    (gaussian, _), (classes, _), (bits, _) = (
        PAIRS[family][0] for family in ("factors", "classes", "bits")
    )
    with pytest.raises(so.InputError, match="without n"):
        gaussian.cross_entropy(so.LabelledData.soft(normal(0, 5, 1), classes.mean))
    with pytest.raises(so.InputError, match="Gaussian, without"):
        classes.cross_entropy(gaussian)
    with pytest.raises(so.InputError, match="Gaussian, without x"):
        bits.cross_entropy(so.Gaussian(normal(0, 5, 3), normal(0, 5, 3).exp()))
