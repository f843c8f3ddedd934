"""Whatever is passed to a public function of the solvers: a typed error, or a documented result."""

import warnings
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import settings
from torch import Tensor

import solvers as so
from solvers.errors import InputError
from solvers.families.sequences import Autoregressive
from solvers.hypergradients.functional import functional
from solvers.numerics.optimisers import Moments
from solvers.rewards import windows, with_reference
from tests.fuzz import calls, oracle, public, spoiling

CALLS = calls.all_calls()
ATTEMPTS = 8 if settings().derandomize else settings().max_examples
LEFT_ALONE = {("self",), ("method",)}  # what a method is called on; its parts are spoilt


pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own: a word is a good path, and something is written there."""
    monkeypatch.chdir(tmp_path)


def test_the_shape_checks_of_the_other_tests_are_off() -> None:
    anything: Any = "text"
    assert so.Solution(anything, anything, 0.0, 1, 0.0, "").converged == "text"


def test_every_public_callable_has_a_valid_call() -> None:
    assert CALLS.keys() == public.of_solvers().keys()


PLACES = {
    key: [at for at in spoiling.paths(arguments) if at[0] not in LEFT_ALONE]
    for key, (_, arguments) in CALLS.items()
    if key != "Result.table"  # a result is read, not written
}
ONE = [key for key, places in PLACES.items() if places]
TENSORS = {
    key: [name for name, value in CALLS[key][1].items() if spoiling.has_tensors(value)]
    for key in ONE
}
WHOLE = {key: names for key, names in TENSORS.items() if len(names) > 1}
TWO = {key: two for key in ONE if not (two := spoiling.double_changes(PLACES[key])).is_empty}


@pytest.mark.parametrize("key", ONE)
def test_every_spoilt_argument(key: str) -> None:
    function, arguments = CALLS[key]
    with warnings.catch_warnings():  # what solvers doubt of these points is not the question
        warnings.simplefilter("ignore")
        function(**spoiling.own(arguments))
    oracle.all_end_well(key, function, arguments, spoiling.single_changes(PLACES[key]))


@pytest.mark.parametrize("key", WHOLE)
def test_arguments_of_other_members_or_another_precision(key: str) -> None:
    function, arguments = CALLS[key]
    changes = ([((name,), spoiler) for spoiler in spoiling.WHOLE] for name in WHOLE[key])
    pairs = (pair for one, two in combinations(changes, 2) for pair in product(one, two))
    oracle.all_end_well(key, function, arguments, pairs)


@pytest.mark.parametrize("key", TWO)
def test_two_spoilt_arguments(key: str) -> None:
    function, arguments = CALLS[key]
    oracle.drawn_end_well(key, function, arguments, TWO[key], ATTEMPTS)


# One example of each kind that the fuzz has found, and the word that its error must hold.
POLICY = so.GaussianPolicy(2, 2)
PARAMS = calls.start(POLICY)
X = torch.ones(3, 2, dtype=torch.float64)
FOUND: dict[str, tuple[Any, str]] = {
    "None for a tensor": (lambda: so.Gaussian(cast(Any, None), X), "mean is None"),
    "parameters that lack one": (lambda: POLICY({}, X), "no parameter 'mean.weight0'"),
    "parameters of another shape": (
        lambda: POLICY({**PARAMS, "scale.raw": X}, X),
        "scale.raw has shape",
    ),
    "parameters of another dtype": (lambda: POLICY(PARAMS, X.float()), "use one dtype"),
    "a reward that is no function": (
        lambda: so.Gaussian(X, X).reinforce(
            so.Dataset.pairs(X, X), 3, 2, "mean", so.MemberNoise([so.generator(0)])
        ),
        "reward is 3",
    ),
    "data of another family": (
        lambda: so.NLL()(so.Categorical(X), so.Dataset.pairs(X, X)),
        "without classes",
    ),
    "deviations that are negative": (lambda: so.Gaussian(X, -X), "scale must be positive"),
    "an index beyond the data": (
        lambda: so.Dataset.pairs(X, X).rows(torch.tensor([7])),
        "index is out of range",
    ),
    "a size beyond any memory": (lambda: so.GaussianPolicy(10**19, 2), "inputs is 1000"),
    "a sparse tensor": (lambda: so.BoundedReward(torch.ones(2).to_sparse()), "to_dense"),
    "symbols that are none": (
        lambda: so.WindowReward(torch.ones(2, 4), 2).of(7 * torch.ones(1, 3, 3)),
        "symbols are 0 .. 1",
    ),
    "sequences of another length": (
        lambda: so.WindowMatch(1.0, 2, 1).expected(
            calls.SEQUENCES(calls.start(calls.SEQUENCES), calls.WORDS.x),
            replace(calls.WORDS, y=calls.WORDS.y.mT),
        ),
        "the policy T =",
    ),
    "symbols of another alphabet": (
        lambda: so.WindowMatch(1.0, 3, 1).expected(
            calls.SEQUENCES(calls.start(calls.SEQUENCES), calls.WORDS.x), calls.WORDS
        ),
        "use one alphabet",
    ),
    "logits of another alphabet": (
        lambda: Autoregressive(lambda y: torch.zeros(*y.shape[:-1], 1, 4), 50, 1).entropy(),
        "V = 50",
    ),
    "a number of inputs that is none": (
        lambda: Autoregressive(lambda y: torch.zeros(*y.shape[:-1], 1, 4), 4, 1, -3),
        "N is -3",
    ),
    "an integer beyond floating point": (
        lambda: so.Adam(0.1, eps=10**400),
        "eps is an integer beyond float64",
    ),
    "a count that is none": (lambda: Moments(X[0], X[0], -1), "count is -1"),
    "slopes of another dtype": (
        lambda: so.Adam(0.1).step(X[0], X[0].float(), Moments(X[0], X[0])),
        "slope torch.float32",
    ),
    "no noise for bits": (
        lambda: so.Bernoulli(X).reinforce(
            so.Dataset.pairs(X, X), calls.REWARD, 3, "mean", cast(Any, None)
        ),
        "noise is a NoneType",
    ),
    "sparse labels": (
        lambda: so.LabelledData.of(X, torch.tensor([0, 1, 1]).to_sparse(), 2),
        "labels is torch.sparse_coo",
    ),
    "rows beyond a reward's": (
        lambda: so.ClassReward(torch.zeros(2, 3, 3, dtype=torch.float64)).rows(torch.tensor([2])),
        "index is out of range for 2 inputs",
    ),
    "a weight that is no reward": (
        lambda: so.OneHotReward(cast(Any, lambda phi, x: None))({}, X),
        "without U",
    ),
    "an estimator that returns nothing": (
        lambda: so.PolicyGradient(
            calls.REWARD, 0.5, cast(Any, lambda law, data, reward, noise: None)
        )(calls.LAW, calls.DATA),
        "the estimator returned None",
    ),
    "an objective that returns nothing": (
        lambda: so.fit(
            POLICY, calls.DATA, cast(Any, lambda law, data, noise=None: None), weight_decay=0.1
        ),
        "the objective returned None",
    ),
    "a temperature without inputs": (
        lambda: so.PolicyGradient(calls.REWARD, 0.5, temperature=torch.tensor(2.0)),
        "temperature is a single number",
    ),
    "a complex temperature": (
        lambda: so.PolicyGradient(calls.REWARD, 0.5, temperature=torch.ones(3) * 1j),
        "pass real numbers",
    ),
    "bits as symbols": (
        lambda: so.WindowMatch(1.0, 2, 1)(torch.ones(1, 1, 3) > 0, torch.ones(1, 1, 3) > 0),
        "y is torch.bool",
    ),
    "symbols that a policy has not": (
        lambda: so.WindowMatch(1.0, 3, 1).expected(
            replace(calls.SEQUENCES(calls.start(calls.SEQUENCES), calls.WORDS.x), V=3),
            calls.WORDS,
        ),
        "the policy has V = 2",
    ),
    "inputs of another number": (
        lambda: replace(
            calls.SEQUENCES(calls.start(calls.SEQUENCES), calls.WORDS.x.expand(2, 1)), N=1
        ).entropy(),
        "x has 2 inputs, the law N = 1",
    ),
    "a law of two dtypes": (lambda: so.Gaussian(X, X.float()), "use one dtype"),
    "a reference of another dtype": (
        lambda: so.projected_reward(
            calls.SIGMA, 0.5, X[0], so.Gaussian(X[0].float(), X[0].float())
        ),
        "the reference is torch.float32",
    ),
    "a reference too narrow for its dtype": (
        lambda: so.projected_reward(calls.SIGMA, 0.5, X[0], so.Gaussian(X[0], X[0] * 1e-300)),
        "the precision of the reference",
    ),
    "outcomes that are not the policy's": (
        lambda: so.fit(POLICY, so.Dataset.pairs(X, X[:, :1])),
        "the policy has n = 2, the data n = 1",
    ),
    "data of many members": (
        lambda: replace(calls.LIKELIHOOD, data=so.Dataset.pairs(X[None], X[None])),
        "data.x has shape (1, 3, 2)",
    ),
    "a policy that returns no law": (
        lambda: so.solve(
            replace(calls.LIKELIHOOD, policy=cast(Any, lambda params, x: None)), theta=PARAMS
        ),
        "without check_data",
    ),
    "other members than the data's": (
        lambda: so.Gaussian(X.expand(2, 3, 2), X.expand(2, 3, 2)).pathwise(
            so.Dataset.pairs(X.expand(4, 3, 2), X.expand(4, 3, 2)),
            calls.REWARD,
            2,
            so.MemberNoise([so.generator(0)]),
        ),
        "the policy has batch shape (2, 3)",
    ),
    "weights of other members": (
        lambda: windows.soft_values(so.WindowReward(X.new_zeros(3, 2, 4), 2), X[:2, 0]),
        "lam has batch shape (2,), the reward (3,)",
    ),
    "a number without entries": (lambda: so.BoundedReward(X[:0, 0]), "omega is empty"),
    "an alphabet that is none": (
        lambda: windows.cost(calls.WORDS, -(10**19), 1),
        "V is -10000000000000000000",
    ),
    "parameters of several members": (
        lambda: functional(
            POLICY,
            {name: p.expand(2, *p.shape) for name, p in PARAMS.items()},
            lambda U: so.MahalanobisReward(torch.linalg.cholesky(cast(Tensor, U))),
            calls.SIGMA,
            0.5,
            calls.DATA,
        ),
        "the params of one member",
    ),
    "a precision beyond the dtype": (
        lambda: with_reference.inner_solution(
            so.MahalanobisReward(1e200 * torch.eye(2, dtype=torch.float64)),
            0.5,
            X[0],
            so.Gaussian(X[0], X[0]),
        ),
        "the precision of the policy is beyond",
    ),
    "two sizes of one letter": (lambda: so.Dataset.of(X, X[:2, None]), "and N"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_kinds_that_were_found(kind: str) -> None:
    call, word = FOUND[kind]
    with pytest.raises(InputError) as caught:
        call()
    assert word in str(caught.value)
