"""Hypergradients through K steps of gradient ascent: exact, with their bias.

For the scalar quadratics of `quadratic`, and for the Gaussian setting from the inner optimum.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from . import definitions, quadratic
from . import gaussian as setting
from . import stated_unrolled as stated
from .derivation import Condition, Derivation, Step, positive, zero
from .errors import StructureError
from .gaussian import MOMENTS, SYMMETRIC, label
from .matrix_calculus import (
    diagonal_part,
    differential,
    gradient,
    identity,
    lowest_terms,
    replace,
    slope,
)
from .normal_form import normal
from .quadratic import THETA, implicit, inner, outer, solution, total
from .stationary import solve_linear
from .symbols import (
    Structure,
    check_structure,
    is_large,
    symbol,
    symbols,
)

ASCENT = (*quadratic.DOMAIN, "θ_{k+1} = θ_k + η ∂_θJ(θ_k), ρ = 1 - ηκ")
_EXPLICIT = (1, 2, 3, 5)  # numbers of steps that are also taken one by one
_RATIO = sp.Symbol("x", positive=True)  # parametrises step sizes below the limit of stability


def _ascend(theta: Any) -> Any:
    """One step θ + η ∂_θJ(θ)."""
    return theta + symbol("eta") * sp.diff(inner(THETA), THETA).xreplace({THETA: theta})


def _after(steps: Any, start: Any, rate: Any, shift: Any) -> Any:
    """x_K of x_{k+1} = rate x_k + shift, x_0 = start, as SymPy solves the recursion."""
    x, K = sp.Function("x"), sp.Symbol("K", integer=True)
    r, c = sp.symbols("r c")
    solved = sp.rsolve(x(K + 1) - r * x(K) - c, x(K), {x(0): sp.Symbol("x_0")})
    values = {sp.Symbol("x_0"): start, r: rate, c: shift, K: steps}
    return solved.xreplace(values)


@cache
def _path(steps: Any, start: Any) -> Any:
    """θ_K from the recursion that the definition of the step gives."""
    step = sp.expand(_ascend(THETA))
    rate = sp.diff(step, THETA)
    return _after(steps, start, rate, step.xreplace({THETA: sp.S.Zero}))


def _contracts() -> Condition:
    """ρ² < 1 for every step size 0 < η < 2/κ: with ηκ = 2/(1 + x), x > 0."""
    kappa, eta = symbols("kappa eta")
    rho = sp.diff(_ascend(THETA), THETA)
    square = (rho**2).xreplace({kappa: 2 / (eta * (1 + _RATIO))})
    return positive("1 - ρ² > 0 where ηκ < 2", lowest_terms(1 - square))


@cache
def hypergradient() -> Derivation:
    """∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K), θ_K = θ* + ρ^K(θ₀ - θ*), after K steps from θ₀.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta, steps (K >= 1).
        Conditions: the path solves its recursion (induction over K), and K = 1, 2, 3, 5 steps
        taken one by one and differentiated give the same; ρ^K → 0 where ηκ < 2.
    Source: new.
    """
    arguments = quadratic.arguments("kappa gamma nu phi tau theta_0 d eta steps")
    K, start = symbol("steps"), symbol("theta_0")
    path = _path(K, start)
    derived = total(outer(THETA), path)
    conditions = [
        zero("θ_0 is the start", path.subs(K, 0) - start),
        zero("θ_{K+1} = θ_K + η ∂_θJ(θ_K)", path.subs(K, K + 1) - _ascend(path)),
        _contracts(),
    ]
    for count in _EXPLICIT:
        theta = start
        for _ in range(count):
            theta = sp.expand(_ascend(theta))
        difference = total(outer(THETA), theta) - derived.subs(K, count)
        conditions.append(zero(f"{count} steps taken one by one", difference))
    return Derivation(
        name="unrolled.hypergradient",
        statement="∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K), θ_K = θ* + ρ^K(θ₀ - θ*)",
        symbol="∇F_K",
        arguments=arguments,
        stated=stated.hypergradient(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("θ_K", path), Step("dF(θ_K, φ)/dφ", derived)),
        conditions=tuple(conditions),
    )


@cache
def bias() -> Derivation:
    """∇F_K - ∇F = -(νγ/κ) ρ^K [(τ - θ*) + (θ₀ - θ*)(1 - ρ^K)], of order ρ^K.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, eta, steps. Conditions: from
        θ₀ = θ* each step multiplies it by ρ; from anywhere it is a sum of ρ^K and ρ^{2K}.
    Source: new.
    """
    arguments = quadratic.arguments("kappa gamma nu phi tau theta_0 eta steps")
    K, exact = symbol("steps"), implicit()
    derived = hypergradient().derived - exact
    rho = sp.diff(_ascend(THETA), THETA)
    ahead = [derived.subs(K, K + i) for i in range(3)]
    settled = [value.xreplace({symbol("theta_0"): solution()}) for value in ahead]
    return Derivation(
        name="unrolled.bias",
        statement="∇F_K - ∇F = -(νγ/κ) ρ^K [(τ - θ*) + (θ₀ - θ*)(1 - ρ^K)]",
        symbol="∇F_K - ∇F",
        arguments=arguments,
        stated=stated.bias(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("∇F, by the implicit function theorem", exact),),
        conditions=(
            zero(
                "∇F = d + (νγ/κ)(τ - θ*)",
                exact - stated.implicit(*symbols("kappa gamma nu phi tau d")),
            ),
            zero("from θ* it shrinks by ρ at each step", settled[1] - rho * settled[0]),
            zero(
                "from anywhere it is αρ^K + βρ^{2K}",
                ahead[2] - (rho + rho**2) * ahead[1] + rho**3 * ahead[0],
            ),
            _contracts(),
        ),
    )


@cache
def truncated() -> Derivation:
    """∇F = d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁): K₀ steps, then K₁ differentiated.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta, earlier (K₀), last (K₁).
        Conditions: from θ* the indirect part is that of the implicit hypergradient times
        1 - ρ^K₁; without earlier steps it is the unrolled hypergradient.
    Source: new.
    """
    arguments = quadratic.arguments("kappa gamma nu phi tau theta_0 d eta earlier last")
    j, k, start = symbol("earlier"), symbol("last"), symbol("theta_0")
    detached = sp.Dummy("theta_j", real=True)  # does not vary with φ
    cut = total(outer(THETA), _path(k, detached))
    derived = cut.xreplace({detached: _path(j, start)})
    indirect = implicit() - symbol("d")
    rho = sp.diff(_ascend(THETA), THETA)
    settled = derived.xreplace({start: solution()}) - symbol("d")
    return Derivation(
        name="unrolled.truncated",
        statement="∇F_T = d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁)",
        symbol="∇F_T",
        arguments=arguments,
        stated=stated.truncated(*arguments.values()),
        derived=derived,
        assumptions=(*ASCENT, "K₀ steps without derivative, then K₁ with it"),
        steps=(Step("through k steps from a fixed point", cut),),
        conditions=(
            zero("from θ*: (1 - ρ^K₁) times the exact one", settled - (1 - rho**k) * indirect),
            zero(
                "K₀ = 0 is the unrolled one",
                derived.subs(j, 0) - hypergradient().derived.subs(symbol("steps"), k),
            ),
            _contracts(),
        ),
    )


@cache
def one_step() -> Derivation:
    """∇F_1 = d + ηνγ(τ - θ₁): from θ* the indirect part is ηκ times the exact one.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta. Conditions: the factor
        ηκ from θ*, and η = 1/κ (a Newton step) is exact from any start.
    Source: new.
    """
    arguments = quadratic.arguments("kappa gamma nu phi tau theta_0 d eta")
    kappa, eta, start = symbol("kappa"), symbol("eta"), symbol("theta_0")
    theta = _ascend(start)
    derived = total(outer(THETA), theta)
    indirect = implicit() - symbol("d")
    settled = derived.xreplace({start: solution()}) - symbol("d")
    return Derivation(
        name="unrolled.one_step",
        statement="∇F_1 = d + ηνγ(τ - θ₁), θ₁ = θ₀ + η(γφ - κθ₀)",
        symbol="∇F_1",
        arguments=arguments,
        stated=stated.one_step(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("θ₁", theta),),
        conditions=(
            zero("from θ*: ηκ times the exact one", settled - eta * kappa * indirect),
            zero("η = 1/κ is exact", derived.xreplace({eta: 1 / kappa}) - implicit()),
        ),
    )


@cache
def gaussian(structure: Structure, n: int | None) -> Derivation:
    """∇_U F (1 - ρ^K), ρ = 1 - 2ηλ (diagonal) or 1 - 2ηλn (isotropic): K steps from the optimum.

    Coordinates (m, log s_i) with P_ii = s_i². At the optimum the step has the Jacobian ρ in every
    log s, and the path stays, so that D_k = ∂ log s_k/∂U obeys D_{k+1} = ρD_k + η ∂²J.

    Args:
        structure: of the policy covariance, "diagonal" or "isotropic".
        n: dimension, or None for general size.
    Returns:
        Derivation in U, Sigma, lam, eta, steps; shape (n, n), the symmetric G with dF = Tr(G dU).
        Conditions: the optimum is stationary, log s separates there, the mean does not respond;
        in entries, 1, 2 and 3 steps taken one by one and differentiated give the same; for general
        n, the solution of the recursion obeys it.
    Raises:
        StructureError: for "full", whose Hessian in Cholesky factors is no multiple of one.
    Source: new.
    """
    check_structure(structure, n)
    if structure == "full":
        raise StructureError("no one factor for 'full'; pass 'diagonal' or 'isotropic'")
    if is_large(n):
        return gaussian(structure, None).of_size(n)
    Sigma, U = symbols("Sigma U", n)
    lam, eta, K = symbols("lam eta steps")
    proof = _general_gaussian(structure) if n is None else _explicit_gaussian(structure, n)
    derived, steps, conditions = proof
    return Derivation(
        name=label("unrolled.gaussian", n, structure),
        statement="K steps in log s from the optimum: ∇_U F (1 - (1 - 2ηλ)^K)"
        + (", λn for λ" if structure == "isotropic" else ""),
        symbol="∇_U F_K",
        arguments={"U": U, "Sigma": Sigma, "lam": lam, "eta": eta, "steps": K},
        stated=stated.gaussian(structure, U, Sigma, lam, eta, K),
        derived=derived,
        assumptions=(
            "U, Σ symmetric positive definite, λ > 0",
            MOMENTS,
            f"P {structure}, coordinates (m, log s), from the inner optimum",
            SYMMETRIC,
        ),
        steps=steps,
        conditions=conditions,
    )


def _explicit_gaussian(
    structure: str, n: int
) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The hypergradient of K steps, its steps and conditions, in every log s_i and entry of U."""
    mu, Sigma, U, m = symbols("mu Sigma U m", n)
    lam, eta, K = symbols("lam eta steps")
    count = n if structure == "diagonal" else 1
    s = sp.symbols(f"s_1:{count + 1}", positive=True)
    P = sp.ImmutableMatrix.diag(*(s[min(i, count - 1)] ** 2 for i in range(n)))
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, P, mu, Sigma)
    best = setting.inner_solution(structure, n).derived
    centre = dict(zip(m, mu, strict=True))
    at = centre | {s[i]: sp.sqrt(best[i, i]) for i in range(count)}
    slopes = [sp.expand(x * sp.diff(J, x)) for x in s]
    H = sp.Matrix(count, count, lambda i, j: s[j] * sp.diff(slopes[i], s[j])).xreplace(at)
    rates = [lowest_terms(1 + eta * H[i, i]) for i in range(count)]
    partial = dict.fromkeys(U, sp.S.Zero)
    for u in partial:
        for i in range(count):
            moved = _after(K, sp.S.Zero, rates[i], eta * sp.diff(slopes[i], u).xreplace(at))
            partial[u] += (s[i] * sp.diff(F, s[i])).xreplace(at) * moved
    halves = sp.ImmutableMatrix(n, n, lambda i, j: sp.S.One if i == j else sp.Rational(1, 2))
    derived = U.applyfunc(lambda u: partial[u]).multiply_elementwise(halves)
    mean = sp.Matrix([sp.diff(J, x) for x in m])
    still = [mean, mean.jacobian(sp.Matrix(list(s))), mean.jacobian(sp.Matrix(list(partial)))]
    steps = (Step("∂J/∂log s", sp.Matrix(slopes)), Step("its slopes at the optimum", H))
    return (
        derived,
        steps,
        (
            zero("the optimum is stationary", sp.Matrix(slopes).xreplace(at)),
            zero("log s separates", H - sp.diag(*H.diagonal())),
            *(zero("the mean stays", X.xreplace(at)) for X in still),
            *_one_by_one(s, slopes, F, derived, centre, U),
        ),
    )


def _general_gaussian(
    structure: str,
) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The same for general n, by differentials along log s: dP = 2P dlog s.

    D_K[dU] is a number x_K of the recursion times ∂²J[dU], and dF = ∂F D_K[dU] is linear in dU.
    """
    m, P, mu, Sigma, U, h, H = symbols("m P mu Sigma U h H", None)
    lam, eta, K = symbols("lam eta steps")
    shared = structure == "isotropic"
    z: Any = sp.Symbol("z", real=True) if shared else H  # a direction of log s
    policy = P if shared else diagonal_part(P)

    def log_scale(direction: Any) -> Any:
        return direction * identity(P) if shared else diagonal_part(direction)

    def along(f: Any, direction: Any) -> Any:
        return differential(f, P, 2 * policy * log_scale(direction))

    def rate_of(f: Any) -> Any:
        """The gradient in the direction z, of which f is a linear function."""
        return slope(normal(f), z) if shared else gradient(f, z)

    best = setting.inner_solution(structure, None).derived

    def at(f: Any) -> Any:
        return f.xreplace({policy: best}).xreplace({m: mu})

    J = definitions.objective(m, policy, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, policy, mu, Sigma)
    other: Any = sp.Symbol("y", real=True) if shared else sp.MatrixSymbol("A", *P.shape)
    metric = z * other if shared else sp.Trace(log_scale(z) * log_scale(other))
    bend = normal(at(along(along(J, z), other)))
    one = sp.S.One if shared else identity(P)
    ends = [normal(replace(replace(f, z, one), other, one)) for f in (bend, metric)]
    curvature = ends[0] / ends[1]  # along one direction; a condition says: along all of them
    rho = 1 + eta * curvature
    x = _after(K, sp.S.Zero, rho, eta)
    pull = rate_of(at(along(F, z)))
    cross = at(gradient(along(J, z), U))
    mean = differential(J, m, h)
    still = (mean, along(mean, z), gradient(mean, U))
    derived = replace(cross, z, x * pull)
    return (
        normal(derived),
        (
            Step("∂J along log s", along(J, z)),
            Step("its slope at the optimum", bend),
            Step("x_K of x_{k+1} = ρx_k + η, x_0 = 0", x),
            Step("∂F along log s", pull),
        ),
        (
            zero("the optimum is stationary", normal(at(along(J, z)))),
            zero("log s separates, with one curvature", bend - curvature * metric),
            *(zero("the mean stays", at(f)) for f in still),
            zero("x_0 = 0", x.subs(K, 0)),
            zero("x_{K+1} = ρx_K + η", x.subs(K, K + 1) - rho * x - eta),
        ),
    )


def _one_by_one(
    s: Any, slopes: list[Any], F: Any, derived: Any, centre: dict[Any, Any], U: Any
) -> list[Condition]:
    """1, 2 and 3 steps taken from s, differentiated in U, and only then put at the optimum.

    The optimum is given by s here: the diagonal of U follows from it.
    """
    eta, reached = symbol("eta"), dict(zip(s, s, strict=True))
    at = centre | {U[i, i]: solve_linear([slope], [U[i, i]])[0] for i, slope in enumerate(slopes)}
    conditions: list[Condition] = []
    for count in (1, 2, 3):
        reached = {
            x: reached[x] * sp.exp(eta * slope.xreplace(reached))
            for x, slope in zip(s, slopes, strict=True)
        }
        G = gradient(F.xreplace(reached), U).xreplace(at)
        G = G.replace(sp.exp, lambda x: sp.exp(lowest_terms(x)))  # the optimum does not move
        expected = derived.subs(symbol("steps"), count).xreplace(at)
        conditions.append(zero(f"{count} steps taken one by one", G - expected))
    return conditions
