"""What `derive` claims holds: a closed form is a maximum, an optimum is one, a limit is a limit."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import (
    KL,
    ArgumentError,
    Bits,
    Classes,
    Entropy,
    Gaussian,
    Moments,
    NoMaximumError,
    Normal,
    RewardError,
    SlowDerivationWarning,
    derive,
    outcome,
)
from analysis.calculus.symbols import symbol

a, b, u, w = sp.symbols("a b u w", positive=True)
c = sp.Symbol("c", real=True)
y_hat, y = outcome(1)
p, q = outcome(2)
e = p - q
TENTH = sp.Rational(1, 10)


@pytest.mark.parametrize("weight", [sp.exp(-(y**2) / w), sp.exp(y)])
def test_a_reward_bent_upwards_beside_an_exponential_of_y_has_no_closed_form(weight: Any) -> None:
    found = derive((b * y_hat**2 - a * y_hat**4) * weight, Gaussian(1), data=Normal())
    assert found.solution is None
    values = {"a": 1.0, "b": 2.0, "mu": 0.0, "Sigma": 1.0, "lam": 0.05}
    solved = found.solve(**values, **({"w": 1.0} if weight.has(w) else {}))
    assert solved.policy["m"] != pytest.approx(0.0, abs=0.5)
    assert len(solved.equal) == 1


def test_no_variance_is_negative_beside_an_exponential_of_y() -> None:
    found = derive(b * (y_hat - y) ** 2 * sp.exp(y), Gaussian(1), KL(), Normal(), local=True)
    assert found.solution is None
    wells = -(p[0] ** 4) + p[0] ** 2 * sp.exp(q[0]) - p[1] ** 2
    assert derive(wells, Gaussian(2), data=Normal()).solution is None


def test_a_concave_reward_beside_an_exponential_of_y_keeps_its_closed_form() -> None:
    found = derive(-a * (y_hat - y) ** 2 * sp.exp(y), Gaussian(1), data=Normal())
    assert found.solve(a=0.7, mu=0.1, Sigma=0.6, lam=0.3).closed_form


@pytest.mark.parametrize(
    ("reward", "data"),
    [
        (-((y_hat - y) ** 4) + 20 * (y_hat - y) ** 2, Moments(symmetric=True, covariance=1)),
        (-sp.exp(-((y_hat - y) ** 2) / w), Normal()),
        (c * sp.exp(-((y_hat - y) ** 2) / w), Normal()),
    ],
)
def test_a_limit_is_the_peak_of_a_positive_function(reward: Any, data: Any) -> None:
    assert derive(reward, Gaussian(1), data=data, local=True).limit is None


def test_a_limit_of_an_isotropic_policy_needs_a_bowl_in_every_direction() -> None:
    bump = sp.exp(-(e.T * e)[0] / w)
    data = Normal(covariance=sp.eye(2))
    found = derive(bump, Gaussian(2, "isotropic"), data=data, local=True)
    assert sp.simplify(found.limit - w / (4 * (w + 2))) == 0


def test_decimals_keep_their_last_digits() -> None:
    third = derive(-(1 / 3) * (y_hat - y) ** 2, Gaussian(1))
    assert third.at("solution", lam=1.0, mu=0.0)["P"] == pytest.approx(1.5, rel=3e-16)
    same = derive(-u * (y_hat - y) ** 2, Gaussian(1), data=Moments(covariance=1 / 3))
    assert same.at("optimum", lam=1.0)["u"] == pytest.approx(1.5, rel=3e-16)
    assert derive(-0.1 * (y_hat - y) ** 2, Gaussian(1)).reward == -TENTH * (y_hat - y) ** 2
    few = sp.Float("0.1", 5)
    assert derive(-few * (y_hat - y) ** 2, Gaussian(1)).reward == -TENTH * (y_hat - y) ** 2


@pytest.mark.parametrize("structure", ["full", "diagonal", "isotropic"])
@pytest.mark.parametrize("reward", [-((p[0] * p[1]) ** 2), c * p[0] ** 2 * p[1]])
def test_no_power_of_a_coordinate_alone_is_refused_with_a_reason(
    reward: Any, structure: Any
) -> None:
    with pytest.raises(NoMaximumError, match=r"does not fall along ŷ = t\["):
        derive(reward, Gaussian(2, structure))


@pytest.mark.parametrize("n", [1, 2])
def test_without_a_reward_the_policy_is_the_reference(n: int) -> None:
    found = derive(0, Gaussian(n), KL())
    m0, P0 = (np.full(n, 0.3), np.eye(n) / 2) if n > 1 else (0.3, 0.5)
    at = found.at("solution", m0=m0, P0=P0, lam=0.7)
    assert np.allclose(at["m"], m0)
    assert np.allclose(at["P"], P0)


WELLS = derive(-a * y_hat**4 + b * y**2 * y_hat**2, Gaussian(1), data=Normal())


def test_where_maximum_likelihood_is_no_maximum_of_J_the_closed_form_is_no_optimum() -> None:
    assert WELLS.cost is None
    data = {"mu": 0.8, "Sigma": 0.8, "lam": 0.05}
    found = WELLS.best(**data)
    assert not found.closed_form
    assert found.cost == pytest.approx(0.2938933324510594, abs=1e-8)
    assert found.slope < 1e-6


@pytest.mark.parametrize(
    ("reward", "data", "local", "values"),
    [
        (-a * (y_hat - y) ** 4 + c * (y_hat - y) ** 3, None, False, {"mu_3": 50.0, "mu_4": 3e3}),
        (
            5 * (y_hat - y) ** 4 - b * (y_hat - y) ** 2,
            Moments(symmetric=True),
            True,
            {"mu_4": 3.0},
        ),
    ],
)
def test_no_closed_form_is_best_where_the_likelihood_rises(
    reward: Any, data: Any, local: bool, values: Any
) -> None:
    found = derive(reward, Gaussian(1), data=data, local=local)
    assert found.cost is None
    with pytest.raises(NoMaximumError, match="the likelihood F still rises"):
        found.best(mu=0.0, Sigma=1.0, lam=1.0, **values)


def test_where_maximum_likelihood_is_the_maximum_of_J_the_closed_form_is_the_optimum() -> None:
    found = derive(-a * (y_hat - y) ** 4 + c * (y_hat - y) ** 3, Gaussian(1))
    best = found.best(mu=0.0, Sigma=1.0, mu_3=0.1, mu_4=3.0, lam=1.0)
    assert best.closed_form
    assert best.cost < 1e-12


def test_whoever_has_a_reference_is_not_told_to_take_one() -> None:
    for local in (False, True):
        with pytest.raises(
            NoMaximumError, match="pass a reference of smaller covariance"
        ) as caught:
            derive(y_hat**2 / 2, Gaussian(1), KL(1, 0, 1), local=local)
        assert "KL()" not in str(caught.value)


@pytest.mark.parametrize("reward", [-(p[0] ** 4), -sp.exp(-(e[0] ** 2)), -((e[0] + e[1]) ** 4)])
def test_local_is_no_way_out_where_the_reward_is_constant(reward: Any) -> None:
    with pytest.raises(NoMaximumError) as caught:
        derive(reward, Gaussian(2), data=Normal())
    assert "local=True" not in str(caught.value)
    with pytest.raises(NoMaximumError, match="the reward is constant along"):
        derive(reward, Gaussian(2), data=Normal(), local=True)


def test_names_that_no_user_gave_are_explained() -> None:
    with pytest.raises(NoMaximumError, match=r"\(where S = P0⁻¹\)"):
        derive(c * p[0] * p[1] - p[0] ** 2, Gaussian(2), KL())


def test_where_no_local_maximum_is_found_nothing_is_said_of_larger_or_smaller_weights() -> None:
    found = derive(u * y_hat**2, Gaussian(1), KL(), local=True)
    values = {"u": 0.6, "m0": 0.0, "P0": 1.0, "mu": 0.0, "Sigma": 1.0}
    with pytest.raises(NoMaximumError) as caught:
        found.solve(lam=1.0, **values)
    assert "smaller" not in str(caught.value)
    assert found.solve(lam=2.0, **values).stationarity < 1e-8


BITS = np.array(list(product((0.0, 1.0), repeat=3)))


@pytest.mark.parametrize("n", [2, 3])
def test_moments_of_bits_are_taken_and_others_are_not(n: int) -> None:
    first, second = outcome(n)
    found = derive(u * first[0] * sp.prod(second), Bits(n))
    rng, outcomes = np.random.default_rng(0), BITS[: 2**n, -n:]

    def moments(law: Any) -> dict[str, Any]:
        rho = law @ outcomes
        z = outcomes - rho
        third = {"mu_123": law @ z.prod(1)} if n == 3 else {}
        return {"rho": rho, "Sigma": (z * law[:, None]).T @ z, **third}

    for _ in range(20):
        law = rng.dirichlet(np.ones(2**n))
        found.solve(u=1.0, lam=1.0, **moments(law))
        law[0], law[-1] = law[0] + law[-1] + 0.05, -0.05  # a negative probability
        wrong = moments(law)
        if np.all((wrong["rho"] > 0) & (wrong["rho"] < 1)):
            with pytest.raises(ArgumentError, match=r"no bits of these|no three bits|definite"):
                found.solve(u=1.0, lam=1.0, **wrong)


@pytest.mark.parametrize(
    ("rho", "Sigma", "says"),
    [
        ([0.5, 0.5], [[4.0, 3.9], [3.9, 4.0]], r"Sigma\[0\]\[0\] = 4: it is 0.25"),
        ([0.1, 0.5], [[0.09, 0.06], [0.06, 0.25]], r"Sigma\[0\]\[1\] = 0.06: it lies in \[-0.05,"),
    ],
)
def test_a_covariance_that_no_bits_have_is_named(rho: Any, Sigma: Any, says: str) -> None:
    found = derive(u * p[0] * q[0] * q[1], Bits(2))
    with pytest.raises(ArgumentError, match=says):
        found.solve(u=1.0, rho=rho, Sigma=Sigma, lam=1.0)


@pytest.mark.parametrize(
    "narrow", [{"integer": True, "positive": True}, {"prime": True}, {"rational": True}]
)
def test_a_domain_that_no_search_keeps_to_is_refused(narrow: Any) -> None:
    k = sp.Symbol("k", **narrow)
    with pytest.raises(RewardError, match=r"k is declared with .*rational=True"):
        derive(-k * (y_hat - y) ** 2, Gaussian(1))
    with pytest.raises(RewardError, match=r"k of lam is declared with|not known to be positive"):
        Entropy(k)


@pytest.mark.parametrize("declared", ["real", "nonpositive", "negative", "nonnegative", "nonzero"])
def test_every_sign_is_a_domain(declared: str) -> None:
    k = sp.Symbol("k", **{"real": True, declared: True})
    assert derive(k * y - (y_hat - y) ** 2, Gaussian(1)).parameters == {"k": k}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("Sigma", [1.0, 3.0])
def test_a_search_passes_by_a_value_outside_its_domain(Sigma: float) -> None:
    k = sp.Symbol("k", real=True, nonzero=True)
    found = derive(-(k**2) * (y_hat - y) ** 2, Gaussian(1))
    best = found.best(mu=0.0, Sigma=Sigma, lam=1.0)
    assert abs(best.parameters["k"]) == pytest.approx(np.sqrt(0.5 / Sigma), rel=1e-6)
    with pytest.raises(ArgumentError, match=r"k = 0\.0 must be other than 0"):
        found.solve(k=0.0, mu=0.0, Sigma=Sigma, lam=1.0)


def test_a_variance_below_the_least_double_is_beyond_a_double() -> None:
    found = derive(-u * (y_hat - y) ** 2, Gaussian(1))
    with pytest.raises(ArgumentError, match="beyond a double"):
        found.solve(mu=0.0, Sigma=1e-300, u=1e300, lam=1e-300)


@pytest.mark.parametrize("far", [20.0, 100.0, -300.0])
def test_a_search_starts_where_two_exponentials_balance(far: float) -> None:
    solved = derive(-sp.cosh(y_hat - c), Gaussian(1)).solve(c=far, lam=1.0, mu=0.0, Sigma=1.0)
    assert solved.policy["m"] == pytest.approx(far, abs=1e-6)
    assert solved.policy["P"] * np.exp(solved.policy["P"] / 2) == pytest.approx(1.0)


def test_a_search_starts_where_an_exponential_balances_a_line() -> None:
    reward = a * y_hat - sp.exp(y_hat - c) - b * y_hat**4 / 10**12
    found = derive(reward, Gaussian(1))
    solved = found.solve(a=1.0, b=1.0, c=200.0, lam=1.0, mu=0.0, Sigma=1.0)
    assert solved.policy["m"] == pytest.approx(199.5, abs=0.1)


def test_the_header_is_one_line_and_a_weight_is_assumed_positive_where_it_is_a_symbol() -> None:
    reward, tau = -u * (y_hat - y) ** 2, sp.Symbol("tau", positive=True)
    header, *_ = str(derive(reward, Gaussian(1), Entropy(b**2 + 1))).splitlines()
    assert header.endswith("entropy with weight b**2 + 1")
    assert "τ > 0" in derive(reward, Gaussian(1), Entropy(tau)).assumptions
    for family, of in ((Gaussian(1), reward), (Classes(2), u * sp.eye(2))):
        assert not any(
            "> 0" in x.split("π_c > 0")[-1] for x in derive(of, family, KL(2)).assumptions
        )


def test_what_has_no_parameters_has_no_best_ones() -> None:
    text = str(derive(-((y_hat - y) ** 4), Gaussian(1)))
    assert "the reward has no parameters" in text
    assert "best" not in text


def test_parameters_that_are_left_open_are_named() -> None:
    table = sp.diag(a, b, u)
    assert "every u is as good as any other" in derive(table, Classes(3)).notes
    U = symbol("U", 2)
    round_one = derive(-(e.T * U * e), Gaussian(2, "isotropic"))
    assert "every U that solves the same equation is as good" in round_one.notes


def test_latex_names_a_parameter_in_one_way_and_escapes_it() -> None:
    bar, odd = (sp.Symbol(name, positive=True) for name in ("u_bar", "p%$&"))
    assert r"\nabla_{u_{\mathrm{bar}}}" in derive(-bar * (y_hat - y) ** 2, Gaussian(1)).latex()
    text = derive(-odd * (y_hat - y) ** 2, Gaussian(1)).latex()
    assert r"\nabla_{p\%\$\&}" in text
    assert not set("%$&") & set(text.replace(r"\%", "").replace(r"\$", "").replace(r"\&", ""))


@pytest.mark.parametrize(
    ("reward", "family"),
    [
        (-a * (y_hat - y) ** 20, Gaussian(1)),
        (-((e.T * symbol("U", 2) * e)[0] ** 3), Gaussian(2)),
        (
            sp.Matrix(5, 5, lambda i, j: sp.Symbol(f"t{abs(i - j)}", real=True)),
            Classes(5),
        ),
    ],
)
def test_what_may_take_minutes_is_announced(reward: Any, family: Any) -> None:
    """The warning is an error here, which ends the work before it starts."""
    with pytest.raises(SlowDerivationWarning, match=r"may take longer .* Ctrl-C stops it"):
        derive(reward, family)


def test_a_table_of_more_equations_than_parameters_is_looked_at_in_one_point_first() -> None:
    table = sp.Matrix(8, 8, lambda i, j: {0: a, 1: b, 2: u}.get(abs(i - j), 0))
    started = time.perf_counter()
    assert derive(table, Classes(8)).optimum is None
    assert time.perf_counter() - started < 5
