"""Whatever is passed to a public function of the theory: a typed error, or a documented result."""

from functools import partial
from typing import Any

import pytest
import sympy
from hypothesis import settings

import analysis
from analysis import gaussian, samples
from tests.fuzz import oracle, public, spoiling

DERIVATION = gaussian.outer.hypergradient("full", n=1)
MATRIX = gaussian.inner.solution("full", n=2)

y_hat, y = analysis.outcome(1)
u, a = sympy.symbols("u a", positive=True)
QUADRATIC = analysis.derive(-u * (y_hat - y) ** 2, analysis.Gaussian(1))
SKEWED = analysis.derive(-a * (y_hat - y) ** 4 - u * (y_hat - y) ** 2, analysis.Gaussian(1))
PARAMETERS = {"u": 2.0, "mu": 0.3, "Sigma": 0.7, "lam": 0.5}
BITS = analysis.derive(-u * (y_hat - y) ** 2, analysis.Bits(1))
TABLE = sympy.Matrix([[u, 0], [0, a]])
MORE = {**PARAMETERS, "a": 1.0, "mu_3": 0.2, "mu_4": 2.0}


def quantity_at(quantity: Any, **values: Any) -> Any:
    """Call `Derived.at`, whose first argument goes by its place alone."""
    return QUADRATIC.at(quantity, **values)


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "explain": (analysis.explain, {"name": "gaussian.mean_field.cost"}),
    "listing": (analysis.listing, {"words": "mean field"}),
    "show": (analysis.show, {"name": "gaussian.mean_field.cost", "n": 1}),
    "outcome": (analysis.outcome, {"n": 1}),
    "catalogue": (analysis.catalogue, {}),
    "Gaussian": (analysis.Gaussian, {"n": 2, "structure": "diagonal"}),
    "Classes": (analysis.Classes, {"n": 2}),
    "Bits": (analysis.Bits, {"n": 2}),
    "Entropy": (analysis.Entropy, {"lam": 0.5}),
    "KL": (
        analysis.KL,
        {"lam": 0.5, "mean": [0.1], "covariance": [[2.0]], "probabilities": [0.4, 0.6]},
    ),
    "Moments": (
        analysis.Moments,
        {"mean": [0.1], "covariance": [[2.0]], "symmetric": True},
    ),
    "Normal": (analysis.Normal, {"mean": [0.1], "covariance": [[2.0]]}),
    "Result.__call__": (gaussian.outer.hypergradient, {"structure": "full", "n": 1}),
    "Derivation.at": (
        DERIVATION.at,
        {"side": "stated", "U": 2.0, "lam": 0.5, "Sigma": 0.3},
    ),
    "derive": (
        analysis.derive,
        {
            "reward": -u * (y_hat - y) ** 2,
            "family": analysis.Gaussian(1),
            "regulariser": analysis.Entropy(),
            "data": analysis.Moments(symmetric=True),
            "local": False,
        },
    ),
    "derive beside a reference": (
        analysis.derive,
        {
            "reward": -u * (y_hat - y) ** 2,
            "family": analysis.Gaussian(1, "diagonal"),
            "regulariser": analysis.KL(a, [0.1], [[2.0]]),
            "data": analysis.Normal([0.2], [[3.0]]),
        },
    ),
    "derive of a table": (
        analysis.derive,
        {
            "reward": TABLE,
            "family": analysis.Classes(2),
            "regulariser": analysis.KL(probabilities=[0.4, 0.6]),
        },
    ),
    "derive of bits": (
        analysis.derive,
        {
            "reward": -u * (y_hat - y) ** 2,
            "family": analysis.Bits(1),
            "data": analysis.Moments([0.3]),
        },
    ),
    "Derived.at": (
        quantity_at,
        {"quantity": "hypergradient", "u": 2.0, "Sigma": 0.7, "lam": 0.5},
    ),
    "Derived.best": (QUADRATIC.best, {"mu": 0.3, "Sigma": 0.7, "lam": 0.5}),
    "Derived.best of bits": (BITS.best, {"rho": 0.3, "lam": 0.5}),
    "Derived.solve": (QUADRATIC.solve, PARAMETERS),
    "Derived.slopes": (SKEWED.slopes, MORE),
    "Derivation.at of matrices": (MATRIX.at, {"U": [[2.0, 0.0], [0.0, 4.0]], "lam": 1.0}),
    "Derivation.at above a number": (samples.excess.expected("full", 2).at, {"freedom": 5.0}),
    "Derivation.at above another argument": (
        samples.linear.in_sample(2).at,
        {"features": 3, "rows": 9},
    ),
    "Derivation.at above what a matrix says": (
        partial(samples.choice.total("isotropic", 2).at, Sigma=[[2.0, 0.0], [0.0, 4.0]]),
        {"freedom": 5.0},
    ),
}
ATTEMPTS = 15 if settings().derandomize else settings().max_examples


def test_every_public_function_has_a_valid_call() -> None:
    assert public.of_analysis() <= CALLS.keys()


PLACES = {
    key: list(spoiling.paths(arguments)) for key, (_, arguments) in CALLS.items() if arguments
}
TWO = {key: two for key in PLACES if not (two := spoiling.double_changes(PLACES[key])).is_empty}


@pytest.mark.parametrize("key", PLACES)
def test_every_spoilt_argument(key: str) -> None:
    function, arguments = CALLS[key]
    function(**arguments)
    oracle.all_end_well(key, function, arguments, spoiling.single_changes(PLACES[key]))


@pytest.mark.parametrize("key", TWO)
def test_two_spoilt_arguments(key: str) -> None:
    function, arguments = CALLS[key]
    oracle.drawn_end_well(key, function, arguments, TWO[key], ATTEMPTS)
