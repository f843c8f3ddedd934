"""The propositions: what each says, and the entries of the catalogue that make it up.

Those about categorical policies are in `categorical_statements`.

An entry goes by its name without the size, such as `outer.hypergradient/full`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proposition:
    """A result, and the entries of the catalogue that make it up."""

    name: str
    statement: str
    source: str
    covers: tuple[str, ...]


STRUCTURES = ("/full", "/diagonal", "/isotropic")
CONTINUOUS = (
    Proposition(
        "objective",
        "J = -(m-μ)ᵀU(m-μ) - Tr(UP) - Tr(UΣ) + (λ/2) log det P + const, from two moments of y",
        "paper; new for data that are not Gaussian",
        ("gaussian.objective", "gaussian.mean_gradient", "gaussian.covariance_gradient"),
    ),
    Proposition(
        "inner_solution.full",
        "m* = μ, P* = (λ/2) U⁻¹: the only maximum of J",
        "paper",
        ("gaussian.inner_solution/full",),
    ),
    Proposition(
        "inner_solution.isotropic",
        "m* = μ, P* = λn/(2 Tr U) I for an isotropic policy",
        "paper",
        ("gaussian.inner_solution/isotropic",),
    ),
    Proposition(
        "inner_solution.diagonal",
        "m* = μ, P*_ii = λ/(2 U_ii) for a diagonal policy",
        "new",
        ("gaussian.inner_solution/diagonal",),
    ),
    Proposition(
        "gibbs_gap",
        "J(p*) - J(p) = λ KL(p ‖ N(μ, (λ/2)U⁻¹)) for any density p: no loss in being Gaussian",
        "new",
        ("gaussian.gibbs_gap",),
    ),
    Proposition(
        "outer_objective",
        "F(U) = ½ log det U - Tr(UΣ)/λ - (n/2) log πλ, and its restricted forms",
        "paper; diagonal new",
        tuple(f"outer.objective{s}" for s in STRUCTURES),
    ),
    Proposition(
        "hypergradient",
        "∇_U F = ½ U⁻¹ - Σ/λ, and its restricted forms",
        "paper; diagonal new",
        ("log_det.log_det_gradient", *(f"outer.hypergradient{s}" for s in STRUCTURES)),
    ),
    Proposition(
        "implicit_differentiation",
        "∇_U F = -(∂²_Uθ J)(∂²_θθ J)⁻¹ ∂_θ F at the inner solution",
        "paper",
        tuple(f"outer.implicit_hypergradient{s}" for s in STRUCTURES),
    ),
    Proposition(
        "optimal_reward.full",
        "U* = (λ/2) Σ⁻¹ is the only maximum of F, which is strictly concave",
        "paper",
        ("outer.optimal_reward/full", "outer.concavity"),
    ),
    Proposition(
        "optimal_reward.isotropic",
        "for an isotropic policy U* = λn/(2 Tr Σ) I, and every U with Tr U = λn²/(2 Tr Σ)",
        "paper; the whole set new",
        ("outer.optimal_reward/isotropic",),
    ),
    Proposition(
        "optimal_reward.diagonal",
        "for a diagonal policy U is optimal iff U_ii = λ/(2 Σ_ii)",
        "new",
        ("outer.optimal_reward/diagonal",),
    ),
    Proposition(
        "bilevel_solution",
        "the bilevel solution is the maximum-likelihood Gaussian: P*(U*) = Σ",
        "paper",
        ("outer.bilevel_solution",),
    ),
    Proposition(
        "reverse_kl",
        "J(m,P;U*) = -λ KL(N(m,P) ‖ N(μ,Σ)) + const: policy gradient minimises the reverse KL",
        "paper",
        ("divergences.kl", "divergences.reverse_kl"),
    ),
    Proposition(
        "forward_kl",
        "maximum likelihood minimises the forward KL(N(μ,Σ) ‖ N(m,P))",
        "paper",
        ("divergences.gaussian_cost",),
    ),
    Proposition(
        "ray",
        "on a ray U = cM: c* = λn/(2 Tr(MΣ)), loss ½[n log(Tr(MΣ)/n) - log det(MΣ)]",
        "new; M = I paper",
        ("outer.optimal_scale", "outer.ray_loss"),
    ),
    Proposition(
        "rescaling_regret",
        "missing the best scale (or λ) by a factor k costs (n/2)(k - 1 - log k) nats",
        "new",
        ("outer.rescaling_regret",),
    ),
    Proposition(
        "flow",
        "U̇ = U (∇F) U gives P(t) = Σ + exp(-t/2)(P₀ - Σ), whatever the conditioning",
        "new",
        ("outer.flow",),
    ),
    Proposition(
        "mean_field",
        "a diagonal policy on the full U* shrinks to 1/(Σ⁻¹)_ii, and what that costs",
        "new",
        ("outer.mean_field_shrinkage", "outer.mean_field_cost"),
    ),
    Proposition(
        "wrong_covariance",
        "U = (λ/2) S⁻¹ with a wrong S costs ½[log det(SΣ̄⁻¹) + Tr(S⁻¹Σ̄) - n] nats",
        "new",
        ("misspecification.cost_of_covariance", "misspecification.total_covariance"),
    ),
    Proposition(
        "effective_covariance",
        "one constant U sees Σ̄ + E e eᵀ, the residual covariance plus mean errors",
        "new",
        ("misspecification.effective_covariance",),
    ),
    Proposition(
        "conditional_gain",
        "U*(x) = (λ/2) Σ(x)⁻¹ gains ½[log det Σ̄ - E log det Σ(x)] nats over a constant",
        "new",
        ("misspecification.conditional_gain",),
    ),
    Proposition(
        "restricted_mean",
        "∇_U F = ½ U⁻¹ - (Σ̄ + E e_U e_Uᵀ)/λ when the mean is restricted",
        "new",
        ("misspecification.restricted_mean_hypergradient",),
    ),
    Proposition(
        "two_maxima",
        "with diagonal P and one shared mean F is not concave: two maxima at μ = (3,-3), Σ = I",
        "new",
        ("misspecification.two_maxima",),
    ),
    Proposition(
        "estimators.score_function",
        "REINFORCE is unbiased for any constant baseline; best baselines and least variances",
        "new",
        tuple(
            f"estimators.{name}"
            for name in (
                "score_gradient/averaged",
                "score_gradient/sampled",
                *(
                    f"{kind}/{data}"
                    for kind in ("optimal_baseline", "minimal_variance")
                    for data in ("averaged", "sampled", "conditional")
                ),
                "matrix_baseline/mean",
                "matrix_baseline/scale",
            )
        ),
    ),
    Proposition(
        "estimators.pathwise",
        "the pathwise estimator has variances 4u²s², u²(4δ²s² + 8s⁴), more if y is sampled",
        "new",
        ("estimators.pathwise_variance/averaged", "estimators.pathwise_variance/sampled"),
    ),
    Proposition(
        "estimators.leave_one_out",
        "the variances of the leave-one-out estimator, M generations",
        "new",
        ("estimators.leave_one_out_variance/averaged",),
    ),
    Proposition(
        "estimators.group_baseline",
        "group mean and minimum as baseline are biased: v∞ M/(M-1), v∞/(1 - E[max χ²_n]/(nM))",
        "new",
        (
            "estimators.group_mean",
            "estimators.group_minimum",
            *(f"estimators.group_minimum_planar/M={M}" for M in (2, 3, 5)),
        ),
    ),
    Proposition(
        "bounded_reward.expected",
        "the expectation of exp(-zᵀWz), and of exp(-‖ŷ - y‖²/ω), under Gaussian laws",
        "new",
        ("bounded_reward.log_expected_kernel", "bounded_reward.expected_reward"),
    ),
    Proposition(
        "bounded_reward.maximum",
        "with a bounded reward J has a local maximum iff λ < λ_c, and never a global one",
        "new",
        tuple(
            f"bounded_reward.{name}"
            for name in (
                "slope",
                "peak_variance",
                "critical_weight",
                "reachable_weight",
                "growth",
                "inner_variance",
            )
        ),
    ),
    Proposition(
        "unrolled",
        "K steps of gradient ascent give ∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K), ρ = 1 - ηκ",
        "new",
        ("unrolled.hypergradient", "unrolled.bias"),
    ),
    Proposition(
        "truncated",
        "only the last K₁ of K₀ + K₁ steps differentiated: d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁)",
        "new",
        ("unrolled.truncated",),
    ),
    Proposition(
        "one_step",
        "one step: d + ηνγ(τ - θ₁); from θ* the indirect part is ηκ times the exact one",
        "new",
        ("unrolled.one_step",),
    ),
    Proposition(
        "unrolled_gaussian",
        "K steps in (m, log s) from the inner optimum: ∇_U F (1 - (1 - 2ηλ)^K), λn if isotropic",
        "new",
        ("unrolled.gaussian/diagonal", "unrolled.gaussian/isotropic"),
    ),
    Proposition(
        "penalty",
        "a penalty of weight ς gives d + ςνγ(τ - θ*)/(ν + ςκ): a bias of order 1/ς",
        "new; the method Kwon et al. (2023)",
        ("penalty.hypergradient", "penalty.bias", "penalty.bias_limit"),
    ),
    Proposition(
        "functional_adjoint",
        "in outputs (m, P): a = -½ U⁻¹P⁻¹e, A = (Σ + eeᵀ - P)/λ within the structure, e = m - μ",
        "new; the method Petrulionyte, Mairal, Arbel (2024)",
        ("functional.mean_adjoint", *(f"functional.covariance_adjoint{s}" for s in STRUCTURES)),
    ),
    Proposition(
        "functional_hypergradient",
        "½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ, which is ∇_U F at the inner solution",
        "new; the method Petrulionyte, Mairal, Arbel (2024)",
        tuple(
            f"functional.{name}{s}" for name in ("hypergradient", "at_solution") for s in STRUCTURES
        ),
    ),
    Proposition(
        "functional_gap",
        "a mean restricted to miss μ(x) by e(x): functional - parametric ∇_U F = (2/λ) E eeᵀ",
        "new",
        ("functional.restricted_mean_gap",),
    ),
)
