"""Whatever is passed to a public function of the solvers: a typed error, or a documented result."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import solvers as so
from solvers.errors import InputError
from solvers.families.sequences import Autoregressive
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


def attempts(key: str) -> list[tuple[spoiling.Place, spoiling.Spoiler]]:
    _, arguments = CALLS[key]
    if key == "Result.table":  # a result is read, not written
        return []
    return [
        (place, spoiler)
        for place, value in spoiling.paths(arguments)
        if place not in LEFT_ALONE
        for spoiler in spoiling.spoilers(value)
    ]


SPOILT = {key: found for key in CALLS if (found := attempts(key))}


@pytest.mark.parametrize("key", SPOILT)
def test_one_spoilt_argument(key: str) -> None:
    function, arguments = CALLS[key]
    with warnings.catch_warnings():  # what solvers doubt of these points is not the question
        warnings.simplefilter("ignore")
        function(**spoiling.own(arguments))

    @settings(max_examples=ATTEMPTS)
    @given(st.sampled_from(SPOILT[key]))
    def ends_well(attempt: tuple[spoiling.Place, spoiling.Spoiler]) -> None:
        place, spoiler = attempt
        oracle.tried(key, function, arguments, place, spoiler)

    ends_well()


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
    "two sizes of one letter": (lambda: so.Dataset.of(X, X[:2, None]), "and N"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_kinds_that_were_found(kind: str) -> None:
    call, word = FOUND[kind]
    with pytest.raises(InputError) as caught:
        call()
    assert word in str(caught.value)
