"""The propositions about categorical policies, by the entries of the catalogue that they cover."""

from __future__ import annotations

from .statements import Proposition


def _covers(*names: str) -> tuple[str, ...]:
    return tuple(f"categorical.{name}" for name in names)


CATEGORICAL = (
    Proposition(
        "categorical.gibbs",
        "p*(c) ∝ exp((2(Uπ)_c - U_cc)/λ), and J(p*) - J(p) = λ KL(p ‖ p*) for any policy p",
        "new",
        _covers("inner_solution", "gibbs_gap", "scalar_solution", "binary_logit"),
    ),
    Proposition(
        "categorical.hypergradient",
        "∇_U F = (δπᵀ + πδᵀ - diag δ)/λ, δ = π - p*; d²F = -Var_{p*} φ_c/λ² <= 0",
        "new; implicit differentiation paper",
        _covers("outer_objective", "hypergradient", "implicit_hypergradient", "concavity"),
    ),
    Proposition(
        "categorical.scalar_reward",
        "dF/du = (2/λ) Σ (π_c - p*_c) π_c for U = uI, which costs KL(π ‖ p*_u) nats",
        "new",
        _covers("scalar_stationarity", "scalar_gap"),
    ),
    Proposition(
        "categorical.binary_optimum",
        "two classes: u* = λ log(π/(1-π)) / (2(2π-1)), which is λ at π = ½ in the limit",
        "new",
        _covers("binary_scalar", "binary_scalar_limit", "binary_gap"),
    ),
    Proposition(
        "categorical.published_scale",
        "for one-hot outcomes the published β* = λC/(2 Tr Σ) is λC/(2(1 - Σ π_c²))",
        "paper; its value here new",
        _covers("heuristic_scale"),
    ),
    Proposition(
        "categorical.heuristic",
        "two classes: u*/β* = π(1-π) log(π/(1-π)) / (2π-1) <= ½, and what β* and 2β* cost",
        "new",
        _covers("heuristic_ratio", "heuristic_gap"),
    ),
    Proposition(
        "categorical.near_uniform",
        "u* -> λC/2 and β*/u* -> C/(C-1) as π -> 1/C",
        "new",
        _covers("near_uniform_scale", "near_uniform_ratio"),
    ),
    Proposition(
        "categorical.diagonal_reward",
        "U = diag(u), u_c = λ(log π_c + k₀)/(2π_c - 1) > 0, gives p* = π; k₀ = log 2 if a π_c = ½",
        "new",
        _covers("diagonal_reward", "diagonal_reward_at_half"),
    ),
    Proposition(
        "categorical.argmax",
        "log p*(a)/p*(b) = 2u(π_a - π_b)/λ for U = uI: accuracy cannot rank scalar rewards",
        "new",
        _covers("argmax_preserved"),
    ),
    Proposition(
        "categorical.estimators",
        "E (r_c - b)(1[c=j] - p_j) = ∂E r/∂z_j; best b_j = (1-p_j) r_j + p_j E[r | c ≠ j]",
        "new",
        _covers("score_gradient", "optimal_baseline", "minimal_variance"),
    ),
)
