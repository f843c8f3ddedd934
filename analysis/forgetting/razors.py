"""Two razors: each path minimises (1-ζ) KL to the base + ζ KL to the data, in its own direction.

So at equal KL(q ‖ p) likelihood has the least KL(p₀ ‖ p), and at equal KL(p ‖ q) policy gradient
the least KL(p ‖ p₀).
"""

from __future__ import annotations

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS
from ..calculus.conditions import zero
from ..calculus.matrices import gradient, inverse, replace
from ..calculus.normal_form import reduced
from ..calculus.symbols import check_classes, named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, CLASSES, SAME, result
from . import stated
from .paths import DOMAIN, METHODS, Method


@result(
    ANY,
    METHODS,
    statements={
        "NLL": "argmin_P (1-ζ) KL(p₀‖p) + ζ KL(q‖p) is the P of the path of likelihood",
        "PG": "argmin_P (1-ζ) KL(p‖p₀) + ζ KL(p‖q) has the P⁻¹ of the path of policy gradient",
    },
)
def covariance(method: Method, n: int | None) -> Derivation:
    """The covariance (PG: precision) that minimises (1-ζ) KL to base + ζ KL to data.

    Args:
        method: "NLL" or "PG", whose directions of KL are meant.
        n: dimension, or None for general size.
    Returns:
        Derivation in P0, Sigma, zeta, for likelihood also in m0, mu; shape (n, n). Condition: the
        mean is that of the path.
    Raises:
        ArgumentError: unknown method.
    Source: new.
    """
    m, P = symbols("m P", n)
    names = named("m0 P0 mu Sigma zeta", n)
    m0, P0, mu, Sigma, zeta = names.values()
    if method == "PG":
        base, data = (definitions.log_likelihood(*law, m, P) for law in ((m0, P0), (mu, Sigma)))
        rest = (1 - zeta) * base + zeta * data  # without the entropy: the KL is -H(p) - this
        slope = gradient(definitions.entropy(P), P) + gradient(rest, P)
        derived = inverse(P) - 2 * slope  # the slope is ½P⁻¹ + a matrix without P
        pull = (1 - zeta) * inverse(P0) * m0 + zeta * inverse(Sigma) * mu
        precision = (1 - zeta) * inverse(P0) + zeta * inverse(Sigma)
        gap = gradient(rest, m) - pull + precision * m
        at_mean = zero("∇_m = 0 where P⁻¹m is that of the path", gap)
        names = named("P0 Sigma zeta", n)
        claim = stated.mixed_precision(**names)
    else:
        K = symbol("M", n)  # P⁻¹
        laws = ((m0, P0), (mu, Sigma))
        base, data = (definitions.log_likelihood(m, inverse(K), *law) for law in laws)
        rest = (1 - zeta) * base + zeta * data
        at = (1 - zeta) * m0 + zeta * mu
        slope = replace(gradient(rest, K), m, at)
        derived = inverse(K) - 2 * slope  # the slope is ½K⁻¹ and a matrix without K
        at_mean = zero("∇_m = 0 at the mean of the path", replace(gradient(rest, m), m, at))
        claim = stated.mixed_covariance(**names)
    return Derivation(
        symbol="argmin P⁻¹" if method == "PG" else "argmin P",
        arguments=names,
        stated=claim,
        derived=reduced(derived),
        assumptions=(DOMAIN, MOMENTS, "P full"),
        steps=(Step("its slope in P (likelihood: in P⁻¹), turned round", slope),),
        conditions=(at_mean,),
    )


@result(
    CLASSES,
    METHODS,
    check=check_classes,
    quick=(150, SAME),
    statements={
        "NLL": "argmin_p (1-ζ) KL(p₀‖p) + ζ KL(π‖p) is (1-ζ)p₀ + ζπ",
        "PG": "argmin_p (1-ζ) KL(p‖p₀) + ζ KL(p‖π) is ∝ p₀^{1-ζ} π^ζ",
    },
)
def classes(method: Method, n: int) -> Derivation:
    """The same for n classes: p itself (NLL), or log p_c/p_n (PG), is on a straight line.

    Args:
        method: "NLL" or "PG".
        n: number of classes.
    Returns:
        Derivation in p0, pi, zeta; shape (n,) or (n - 1,).
    Raises:
        ArgumentError: unknown method.
        StructureError: n < 2.
    Source: new.
    """
    p, p0, pi, zeta = *symbols("p p0 pi", n), symbol("zeta")
    weights = (1 - zeta) * p0 + zeta * pi
    if method == "PG":
        logs = {sp.log(x): sp.Dummy(f"log p_{c}") for c, x in enumerate(p)}
        mixed = (1 - zeta) * p0.applyfunc(sp.log) + zeta * pi.applyfunc(sp.log)
        f = p.dot(p.applyfunc(sp.log) - mixed)
        slopes = [sp.diff(f, x).xreplace(logs) for x in p]
        found = [log - slope for log, slope in zip(logs.values(), slopes, strict=True)]
        derived = sp.ImmutableMatrix([sp.expand(x - found[-1]) for x in found[:-1]])
        base, data = (stated.log_ratios(x.applyfunc(sp.log)) for x in (p0, pi))
        claim = stated.straight(base, data, zeta)
    else:
        # with a multiplier of the sum, which is 1 as both laws sum to 1
        f = -weights.dot(p.applyfunc(sp.log)) + sum(p)
        slopes = [sp.diff(f, x) for x in p]
        derived = sp.ImmutableMatrix(
            [sp.expand(x * (1 - slope)) for x, slope in zip(p, slopes, strict=True)]
        )
        claim = stated.straight(p0, pi, zeta)
    return Derivation(
        symbol="log p_c/p_n" if method == "PG" else "p",
        arguments={"p0": p0, "pi": pi, "zeta": zeta},
        stated=sp.expand(claim).as_immutable(),
        derived=derived,
        assumptions=("π_c > 0, p₀(c) > 0",),
        steps=(Step("the slopes of the sum of KLs (and its multiplier)", sp.Matrix(slopes)),),
    )
