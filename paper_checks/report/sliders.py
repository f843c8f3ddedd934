"""The closed forms that have sliders, as JavaScript that SymPy writes from their stated side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from analysis import bounded, categorical, estimators, gaussian, hypergradients
from analysis.calculus import printing
from analysis.calculus.symbols import symbol
from analysis.derivation import Derivation


@dataclass(frozen=True)
class Slider:
    """A number that the reader moves.

    Attributes:
        symbol: the SymPy symbol it stands for.
        label: what it means.
        low, high: its range; both ends are positions.
        start: where it stands at first.
        whole: whether it takes whole numbers only.
    """

    symbol: sp.Symbol
    label: str
    low: float
    high: float
    start: float
    whole: bool = False


@dataclass(frozen=True)
class Form:
    """A scalar closed form of some sliders; the curve is drawn against the first of them.

    Attributes:
        derivation: verified; its stated side is what the page computes.
        sliders: one for each free symbol that `given` does not give.
        given: symbols that are not free, as expressions in the others.
    """

    derivation: Derivation
    sliders: tuple[Slider, ...]
    given: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def expression(self) -> sp.Expr:
        """The stated side in the symbols of the sliders."""
        stated = self.derivation.stated
        if isinstance(stated, sp.MatrixBase):
            stated = stated[0, 0]
        return stated.subs(self.given)

    def latex(self) -> str:
        """Symbol = expression, in the symbols of the sliders."""
        symbol = printing.latex_of_text(self.derivation.symbol)
        return f"{symbol} = {printing.latex(self.expression())}"

    def javascript(self) -> str:
        """An arrow function of the sliders, in their order."""
        names = ", ".join(slider.symbol.name for slider in self.sliders)
        return f"({names}) => {sp.jscode(self.expression())}"

    def values(self, position: Mapping[sp.Symbol, float]) -> dict[str, Any]:
        """The arguments of `Derivation.at` at a position of the sliders, as nested lists."""
        whole = {**{s: e.subs(position) for s, e in self.given.items()}, **position}
        return {name: _number(value, whole) for name, value in self.derivation.arguments.items()}


def _number(value: Any, position: Mapping[sp.Symbol, Any]) -> Any:
    if isinstance(value, sp.MatrixBase):
        entries = [[float(entry.subs(position)) for entry in row] for row in value.tolist()]
        return [row[0] for row in entries] if value.shape[1] == 1 else entries
    return float(value.subs(position))


def forms() -> tuple[Form, ...]:
    """The closed forms of the page, each derived and verified."""
    lam = Slider(symbol("lam"), "entropy weight λ", 0.1, 2.0, 0.5)
    U = Slider(symbol("U")[0, 0], "reward weight U", 0.05, 3.0, 1.0)
    Sigma = Slider(symbol("Sigma")[0, 0], "variance of the data Σ", 0.1, 3.0, 1.0)
    S = Slider(symbol("S")[0, 0], "variance used in its place, S", 0.1, 3.0, 2.0)
    first, second = symbol("Sigma", 2)[0, 0], symbol("Sigma", 2)[1, 1]
    covariance = Slider(symbol("Sigma", 2)[0, 1], "correlation of the data", -0.95, 0.95, 0.8)
    k = Slider(symbol("k"), "factor by which the best scale is missed", 0.1, 5.0, 2.0)
    n = Slider(symbol("n"), "dimension n", 1, 10, 2, whole=True)
    share, rest = symbol("pi", 2)
    pi = Slider(share, "share of the first of two classes π", 0.51, 0.99, 0.6)
    omega = Slider(symbol("omega"), "width of the reward ω", 0.5, 10.0, 4.0)
    beta = Slider(symbol("beta"), "standard deviation of the data β", 0.2, 2.0, 1.0)
    q = Slider(symbol("q"), "entropy weight over the critical one, q", 0.02, 0.98, 0.5)
    eta = Slider(symbol("eta"), "step size η", 0.01, 1.0, 0.1)
    K = Slider(symbol("steps"), "steps K", 1, 40, 10, whole=True)
    M = Slider(symbol("generations"), "generations per data point M", 2, 20, 5, whole=True)
    u = Slider(symbol("u"), "reward weight u", 0.05, 3.0, 0.5)
    return (
        Form(gaussian.inner.solution("full", 1), (U, lam)),
        Form(gaussian.outer.objective("full", 1), (U, Sigma, lam)),
        Form(gaussian.outer.hypergradient("full", 1), (U, Sigma, lam)),
        Form(gaussian.outer.optimal_reward("full", 1), (Sigma, lam)),
        Form(gaussian.misspecification.cost_of_covariance(1), (S, Sigma)),
        Form(gaussian.rays.rescaling_regret(None), (k, n)),
        Form(gaussian.mean_field.cost(2), (covariance,), {first: sp.S.One, second: sp.S.One}),
        Form(
            hypergradients.unrolled_gaussian.hypergradient("diagonal", 1), (K, eta, U, Sigma, lam)
        ),
        Form(estimators.groups.mean(), (M, u, lam)),
        Form(categorical.scalar.binary(), (pi, lam), {rest: 1 - share}),
        Form(categorical.scalar.heuristic_ratio(), (pi,), {rest: 1 - share}),
        Form(bounded.inner.inner_variance(), (q, omega, beta)),
    )


def script(all_forms: tuple[Form, ...]) -> str:
    """JavaScript: an array of the functions, in order."""
    return "[\n" + ",\n".join(form.javascript() for form in all_forms) + "\n]"


def ranges(form: Form) -> str:
    """JSON of the sliders' ranges, for the script that draws the curve."""
    return json.dumps([[s.low, s.high, s.whole] for s in form.sliders])
