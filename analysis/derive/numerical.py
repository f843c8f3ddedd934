"""The numbers of both levels where no closed form is known: searches with exact derivatives.

The inner problem is searched in coordinates without constraints, P = LLᵀ with L_ii = e^t, from many
starts; its slope and curvature are exact (`jets`). The hypergradient is implicit differentiation
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Any

import sympy as sp

from ..calculus.matrices import inverse, quadratic, trace
from ..errors import ArgumentError, NoMaximumError

MODULES = ("scipy", "numpy")  # of functions in printed code
STATIONARY = 1e-8  # ‖∂J/∂θ‖ relative to λ, in coordinates without units
FINALISTS = 4  # starts that are searched from, the best of a grid
SCALES = range(-9, 6)  # of starts, powers of 2 of the data's standard deviation
FARTHEST = 40.0  # in coordinates: e^40 of a start's scale
EDGE = 1e-6  # slope of F by a parameter's size, and fall of F beside a maximum, in nats
FAR = 1e6  # times as large as it started, a parameter runs away
SINGULAR = 1e-13  # smallest eigenvalue of a matrix scaled to a unit diagonal
REAL = 1e-6  # imaginary part of a real root, relative to it: double roots split by rounding
CENTRES = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)  # in standard deviations


@dataclass(frozen=True, eq=False)
class Solved:
    """The inner solution at numbers.

    Attributes:
        policy: θ* by name.
        objective: J(θ*).
        stationarity: largest slope of J, in coordinates without constraints.
        closed_form: whether θ* is the closed form, else the result of a search.
    """

    policy: dict[str, Any]
    objective: float
    stationarity: float
    closed_form: bool


@dataclass(frozen=True, eq=False)
class Best:
    """The best parameters of a reward at numbers.

    Attributes:
        parameters: by name.
        likelihood: F at them.
        cost: how far that is below maximum likelihood in the family, in nats.
        slope: largest entry of the hypergradient there.
        closed_form: whether they are the closed form, else the result of a search.
    """

    parameters: dict[str, Any]
    likelihood: float
    cost: float
    slope: float
    closed_form: bool


@dataclass(frozen=True, eq=False)
class Levels:
    """What both levels are as functions of numbers.

    Args:
        coordinates: x of the inner variables, without constraints; none where θ* is a closed form
            by itself (classes, bits).
        theta: the inner variables in x, by name.
        J: in x.
        F: in x; in the parameters where there are no coordinates.
        parameters: of the reward, by name.
        centre: mean of the data, where searches start.
        spread: variances of the data.
        top: the largest likelihood in the family.
        local: whether a local maximum is looked for, from narrow policies on.
        lam: the weight of the regulariser.
    """

    coordinates: tuple[Any, ...]
    theta: Mapping[str, Any]
    J: Any
    F: Any
    parameters: Mapping[str, Any]
    centre: tuple[Any, ...]
    spread: tuple[Any, ...]
    top: Any
    local: bool
    lam: Any

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: compiled functions cannot be pickled, and are made anew."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @cached_property
    def symbols(self) -> tuple[Any, ...]:
        """All symbols besides the coordinates, in one order."""
        free = set().union(
            *(f.free_symbols for f in (self.J, self.F, self.top, *self.centre, *self.spread)),
            *(X.free_symbols for X in self.parameters.values()),
        )
        return tuple(sorted(free - set(self.coordinates), key=str))

    @cached_property
    def _inner(self) -> Callable[..., Any]:
        """J, its slope and its curvature, as a jet in x."""
        return self._jet(self.J, self.coordinates)

    @cached_property
    def _value(self) -> Callable[..., Any]:
        """J alone."""
        return function_of([self.coordinates, self.symbols], self.J)

    @cached_property
    def _both(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """J and F as jets in x and every free symbol of the parameters."""
        variables = (*self.coordinates, *self.unknowns)
        return self._jet(self.J, variables), self._jet(self.F, variables)

    @cached_property
    def unknowns(self) -> list[Any]:
        """The free symbols of the parameters."""
        return [b for X in self.parameters.values() for b in _entries(X)]

    def _jet(self, f: Any, variables: Sequence[Any]) -> Callable[..., Any]:
        """The jet of f in variables, as a function of their values and of a row of all symbols."""
        from .jets import second_order

        kept = [i for i, x in enumerate(self.symbols) if x not in variables]
        jet = second_order(f, variables, [self.symbols[i] for i in kept])
        return lambda x, row: jet(x, [row[i] for i in kept])

    def _numbers(self, derived: Any, values: Mapping[str, Any]) -> dict[Any, float]:
        """Free symbols to floats, from checked values by name."""
        names = {**derived.parameters, **derived.moments, **derived.constants}
        needed = sp.Matrix(self.symbols)
        read = derived.read(needed, values)
        return by_symbol({name: names[name] for name in read}, read)

    def solve(self, derived: Any, values: Mapping[str, Any]) -> Solved:
        """The inner solution at values by name."""
        numbers = self._numbers(derived, values)
        if derived.solution is not None:
            given = {k: v for k, v in values.items() if k in _used(derived, derived.solution)}
            policy = derived.at("solution", **given)
            if not self.coordinates:
                return Solved(policy, self._closed_value(derived, values, policy), 0.0, True)
            x = self._coordinates_of(policy)
            J = self._inner(x, self._row(numbers))
            return Solved(policy, float(J.value), _largest(J.slope), True)
        x = self._search(derived, numbers)
        J = self._inner(x, self._row(numbers))
        return Solved(self._policy_at(x), float(J.value), _largest(J.slope), False)

    def slopes(self, derived: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """dF/dφ by parameter at values by name: implicit differentiation at the inner solution."""
        numbers = self._numbers(derived, values)
        return self._named(self._hypergradient(numbers, self._x(derived, values, numbers))[1])

    def best(self, derived: Any, values: Mapping[str, Any]) -> Best:
        """The best parameters, from the closed form where it is complete, else by a search.

        A closed form with a sign that its symbol cannot have is no optimum: then too a search looks
        for one inside the domain.

        Raises:
            NoMaximumError: if it ends nowhere inside: F rises towards the domain's edge.
        """
        import numpy as np

        optimum = derived.optimum or {}
        data = {k: v for k, v in values.items() if k not in self.parameters}
        free = sp.Tuple(*optimum.values()).free_symbols & set(self.unknowns)
        outside: dict[str, Any] = {}
        if set(optimum) == set(self.parameters) and not free:
            given = {k: v for k, v in data.items() if k in _used(derived, optimum)}
            found = derived.at("optimum", **given)
            outside = {k: v for k, v in found.items() if not _inside(self.parameters[k], v)}
            if not outside:
                return self._best_at(derived, {**data, **found}, found, closed=True)
        start = {
            name: derived.read(sp.Matrix([X]), {name: values[name]})[name]
            if name in values
            else np.eye(X.rows)
            if isinstance(X, sp.MatrixBase)
            else -1.0
            if X.is_negative
            else 1.0
            for name, X in self.parameters.items()
        }
        found = self._best_inside(derived, data, start, outside)
        return self._best_at(derived, {**data, **found}, found, closed=False)

    def _best_inside(
        self, derived: Any, data: Mapping[str, Any], start: Mapping[str, Any],
        outside: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        """A maximum of F over the domain of the parameters, by a search from a start.

        Args:
            derived: of the reward.
            data: moments and constants by name.
            start: parameters.
            outside: values of the closed form that lie outside the domain, for messages.
        """
        import numpy as np
        from scipy import optimize

        def likelihood(found: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
            """F and its slopes; -∞ outside the domain, and where no inner maximum is found."""
            if not all(_inside(X, found[name]) for name, X in self.parameters.items()):
                return -np.inf, {}
            given = {**data, **found}
            numbers = self._numbers(derived, given)
            try:
                F, slope = self._hypergradient(numbers, self._x(derived, given, numbers))
            except NoMaximumError:
                return -np.inf, {}
            return F, self._named(slope)

        def loss(t: Any) -> tuple[float, Any]:
            F, slopes = likelihood(_unpack(self.parameters, t))
            return -F, -_pulled_back(self.parameters, t, slopes) if slopes else np.zeros_like(t)

        search = optimize.minimize(
            loss,
            _pack(self.parameters, start),
            jac=True,
            method="BFGS",
            options={"gtol": 1e-9, "maxiter": 300},
        )
        found = _unpack(self.parameters, search.x)
        F, slopes = likelihood(found)
        if not slopes:
            raise NoMaximumError(
                f"the inner problem has no maximum at {_listed(found)}, where the search for the "
                "best parameters starts; pass other parameters to start from"
            )
        for name, X in self.parameters.items():
            size, first = _largest(found[name]), _largest(start[name])
            flat = _largest(slopes[name]) * max(size, first) <= EDGE and size <= FAR * first
            beside = _beside(X, found[name], max(size, first))
            fall = min(F - likelihood({**found, name: x})[0] for x in beside)
            if flat or (fall > EDGE and _by_size(slopes[name], found[name]) <= fall / 1000):
                continue
            there = _listed({f"dF/d{name}": slopes[name]})
            closed = f" F is stationary outside, at {_listed(outside)}." if outside else ""
            raise NoMaximumError(
                f"no best parameters were found inside their domain: at {_listed(found)} the "
                f"likelihood F still rises ({there}).{closed} Pass parameters to start from, "
                "declare real=True what may have any sign, or take another reward"
            )
        return found

    def _best_at(
        self, derived: Any, values: Mapping[str, Any], found: dict[str, Any], *, closed: bool
    ) -> Best:
        numbers = self._numbers(derived, values)
        F, slope = self._hypergradient(numbers, self._x(derived, values, numbers))
        row = self._row(numbers)
        top = float(function_of([self.symbols], self.top)(row))
        return Best(found, F, top - F, _largest(slope), closed)

    def _x(self, derived: Any, values: Mapping[str, Any], numbers: Mapping[Any, float]) -> Any:
        if not self.coordinates:
            return []
        if derived.solution is None:
            return self._search(derived, numbers)
        given = {k: v for k, v in values.items() if k in _used(derived, derived.solution)}
        return self._coordinates_of(derived.at("solution", **given))

    def _hypergradient(self, numbers: Mapping[Any, float], x: Any) -> tuple[float, Any]:
        """F and dF/dφ, φ the free symbols of the parameters, at the inner solution x."""
        import numpy as np

        row, size = self._row(numbers), len(x)
        at = [*x, *(numbers[b] for b in self.unknowns)]
        with np.errstate(all="ignore"):
            J, F = (jet(at, row) for jet in self._both)
        if not all(np.all(np.isfinite(part)) for part in (J.curvature, F.value, F.slope)):
            raise ArgumentError(
                f"the derivatives at {_shown(numbers)} are beyond a double; pass values in other "
                "units"
            )
        adjoint = -np.linalg.solve(J.curvature[:size, :size], F.slope[:size])
        return float(F.value), F.slope[size:] + adjoint @ J.curvature[:size, size:]

    def _named(self, flat: Any) -> dict[str, Any]:
        """Slopes in free symbols as gradients by parameter, symmetric for matrices."""
        import numpy as np

        of = dict(zip(self.unknowns, flat, strict=True))
        named: dict[str, Any] = {}
        for name, X in self.parameters.items():
            if isinstance(X, sp.MatrixBase):
                size = range(X.rows)
                named[name] = np.array(
                    [[of[X[i, j]] * (1.0 if i == j else 0.5) for j in size] for i in size]
                )
            else:
                named[name] = float(of[X])
        return named

    def _row(self, numbers: Mapping[Any, float]) -> list[Any]:
        """All symbols' numbers, as NumPy's: a power that overflows is infinite there, no error."""
        import numpy as np

        return [np.float64(numbers[x]) for x in self.symbols]

    def _search(self, derived: Any, numbers: Mapping[Any, float]) -> Any:
        """The best strict maximum over searches from the best starts of a grid."""
        import numpy as np
        from scipy import optimize

        row = self._row(numbers)
        lam = float(self.lam.xreplace(numbers))

        def at(x: Any) -> tuple[float, Any, Any]:
            """J, its slope and its curvature; a derivative that overflows ends a search."""
            with np.errstate(all="ignore"):
                J = self._inner(x, row)
            if not (np.all(np.isfinite(J.slope)) and np.all(np.isfinite(J.curvature))):
                raise FloatingPointError
            return float(J.value), J.slope, J.curvature

        def loss(x: Any, start: Any) -> float:
            """-J, infinite where a policy is wider than floats hold: no step goes there."""
            if np.abs(x - start).max() > FARTHEST:
                return np.inf
            with np.errstate(all="ignore"):
                value = float(self._value(x, row))
            return -value if np.isfinite(value) else np.inf

        def maximum(start: Any) -> tuple[float, Any] | None:
            """The strict maximum that a search from here ends at, if it does."""
            x = optimize.minimize(
                loss,
                start,
                args=(start,),
                jac=lambda x, _: -at(x)[1],
                hess=lambda x, _: -at(x)[2],
                method="trust-exact",
                options={"gtol": 1e-7 * lam, "initial_trust_radius": 0.3, "max_trust_radius": 2.0},
            ).x
            value, slope, curvature = at(x)
            for _ in range(4):  # Newton's method, to rounding
                if np.linalg.eigvalsh(curvature)[-1] >= 0:
                    return None
                x = x - np.linalg.solve(curvature, slope)
                value, slope, curvature = at(x)
            strict = np.linalg.eigvalsh(curvature)[-1] < 0
            return (value, x) if strict and _largest(slope) <= STATIONARY * max(lam, 1.0) else None

        found: list[tuple[float, Any]] = []
        for start in self._starts(derived, numbers, row):
            try:
                one = maximum(start)
            except (FloatingPointError, ValueError):  # SciPy's, of factors that overflow in it
                continue
            if one is not None:
                found.append(one)
        if not found:
            raise NoMaximumError(
                f"no search ended at a strict maximum of J at {_shown(numbers)}: "
                + (
                    "the entropy weight is too large for a local one; pass a smaller lam"
                    if self.local
                    else "pass other values"
                )
            )
        return max(found, key=lambda one: one[0])[1]

    def _starts(self, derived: Any, numbers: Mapping[Any, float], row: list[float]) -> list[Any]:
        """The best points of a grid of means and scales; for a local maximum narrow ones only.

        Means lie around the data's, and where the Gibbs density has its modes.
        """
        import numpy as np

        centre = np.array([float(f.xreplace(numbers)) for f in self.centre])
        scale = np.sqrt([float(f.xreplace(numbers)) for f in self.spread])
        directions = [
            np.array(d)
            for d in product(CENTRES if len(centre) == 1 else (0.0, 1.0, -1.0), repeat=len(centre))
        ]
        means = [centre + direction * scale for direction in directions]
        means += _modes(derived, numbers, centre)
        points: list[tuple[float, Any]] = []
        for power in SCALES[:4] if self.local else SCALES:
            for mean in means:
                x = self._start(mean, np.log(scale) + power * np.log(2))
                with np.errstate(all="ignore"):
                    value = float(self._value(x, row))
                if np.isfinite(value):
                    points.append((value, x))
        points.sort(key=lambda one: -one[0])
        chosen: list[Any] = []
        for _, x in points:
            if all(np.abs(x - other).max() > 0.4 for other in chosen):
                chosen.append(x)
            if len(chosen) == FINALISTS:
                break
        return chosen

    def _start(self, m: Any, log_scale: Any) -> Any:
        """Coordinates of a policy with this mean and these log standard deviations."""
        import numpy as np

        x = np.zeros(len(self.coordinates))
        x[: len(m)] = m
        places = [i for i, a in enumerate(self.coordinates) if a.name.startswith("t")]
        x[places] = log_scale if len(places) == len(log_scale) else np.mean(log_scale)
        return x

    def _policy_at(self, x: Any) -> dict[str, Any]:
        import numpy as np

        function = function_of([self.coordinates], list(self.theta.values()))
        found = dict(zip(self.theta, (np.asarray(X, float) for X in function(x)), strict=True))
        return {
            name: float(X) if X.ndim == 0 else X.ravel() if X.shape[-1] == 1 else X
            for name, X in found.items()
        }

    def _coordinates_of(self, policy: Mapping[str, Any]) -> Any:
        """The inverse of `_policy_at`."""
        import numpy as np

        m = np.atleast_1d(policy["m"])
        if "s" in policy:
            return np.array([*m, np.log(policy["s"]) / 2])
        L = np.linalg.cholesky(np.atleast_2d(policy["P"]))
        values = {f"t{i + 1}": np.log(L[i, i]) for i in range(len(L))}
        values |= {f"l{i + 1}{j + 1}": L[i, j] for i in range(len(L)) for j in range(i)}
        return np.array([*m, *(values[a.name] for a in self.coordinates[len(m) :])])

    def _closed_value(self, derived: Any, values: Mapping[str, Any], policy: Any) -> float:
        every = {**values, **policy}
        used = _used(derived, derived.objective)
        return derived.at("objective", **{k: v for k, v in every.items() if k in used})


def by_symbol(symbols: Mapping[str, Any], values: Mapping[str, Any]) -> dict[Any, float]:
    """Free symbols to floats, from symbols and matrices of them, and their values, by name."""
    import numpy as np

    found: dict[Any, float] = {}
    for name, X in symbols.items():
        cells = list(X) if isinstance(X, sp.MatrixBase) else [X]
        flat = np.ravel(values[name]).tolist()
        found |= {x: float(value) for x, value in zip(cells, flat, strict=True) if x.is_Symbol}
    return found


def coordinates(n: int, theta: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Coordinates x of a Gaussian policy, its variables in x, and L of P = LLᵀ.

    They are dummies: no parameter is one of them, whatever its name.
    """
    m = tuple(sp.Dummy(f"x{i + 1}", real=True) for i in range(n))
    if "s" in theta:
        t = sp.Dummy("t1", real=True)
        mean = sp.ImmutableMatrix(m)
        return (*m, t), {"m": mean, "s": sp.exp(2 * t)}, sp.exp(t) * sp.ImmutableMatrix.eye(n)
    full = n > 1 and not theta["P"].is_diagonal()

    def entry(i: int, j: int) -> Any:
        if i == j:
            return sp.exp(sp.Dummy(f"t{i + 1}", real=True))
        return sp.Dummy(f"l{i + 1}{j + 1}", real=True) if full and i > j else sp.S.Zero

    L = sp.ImmutableMatrix(n, n, entry)
    free = [next(iter(x.free_symbols)) for x in L if x != 0]
    P = L * L.T
    values = {"m": m[0], "P": P[0]} if n == 1 else {"m": sp.ImmutableMatrix(m), "P": P}
    return (*m, *free), values, L


def _modes(derived: Any, numbers: Mapping[Any, float], centre: Any) -> list[Any]:
    """Means where log p of the Gibbs law has critical points along a coordinate.

    Of its polynomial part and of each exponent in it apart, the other coordinates at the data's
    mean: where a reward peaks far from the data, no grid around them looks.
    """
    import numpy as np

    v = list(sp.Matrix([derived.outcomes["y_hat"]]))
    g = sp.expand(derived.gibbs.xreplace(numbers), power_exp=False)
    steep, flat = sp.Add.make_args(g), [f.exp for f in g.atoms(sp.exp) if f.has(*v)]
    parts = [sp.Add(*(f for f in steep if f.is_polynomial(*v))), *flat]
    found: list[Any] = []
    for i, x in enumerate(v):
        others = {z: at for z, at in zip(v, centre, strict=True) if z != x}
        for part in parts:
            slope = sp.Poly(sp.diff(part, x).xreplace(others), x)
            powers = [float(c) for c in slope.all_coeffs()]
            for root in np.roots(powers) if np.all(np.isfinite(powers)) else []:
                if abs(root.imag) <= REAL * abs(root):
                    found.append(np.where(np.arange(len(v)) == i, root.real, centre))
    return found


def function_of(
    arguments: Sequence[Sequence[Any]], f: Any, modules: Any = MODULES
) -> Callable[..., Any]:
    """f as a function of the values of lists of symbols, whatever these are called.

    In printed code a symbol called exp would stand for the function, so all are named anew.
    """
    every = [x for symbols in arguments for x in symbols]
    names = {x: sp.Symbol(f"value_{i}", real=True) for i, x in enumerate(every)}
    lists = [[names[x] for x in symbols] for symbols in arguments]
    parts = [part.xreplace(names) for part in f] if isinstance(f, list) else f.xreplace(names)
    return sp.lambdify(lists, parts, list(modules), cse=True)


def log_det(L: Any) -> Any:
    """log det LLᵀ = 2 Σ_i t_i."""
    return 2 * sp.Add(*(x.exp for x in L.diagonal()))


def gaussian_likelihood(m: Any, L: Any, mu: Any, Sigma: Any) -> Any:
    """E_y log N(y; m, LLᵀ) from two moments, without the logarithm of a determinant."""
    K = inverse(L)
    precision = K.T * K
    spread = trace(precision * Sigma) + quadratic(precision, m - mu)
    return -(spread + log_det(L) + L.rows * sp.log(2 * sp.pi)) / 2


def _used(derived: Any, found: Any) -> set[str]:
    parts = found.values() if isinstance(found, Mapping) else [found]
    free = set().union(*(part.free_symbols for part in parts))
    return {name for name, X in derived.arguments.items() if free & X.free_symbols}


def _entries(X: Any) -> list[Any]:
    if not isinstance(X, sp.MatrixBase):
        return [X]
    return [X[i, j] for i in range(X.rows) for j in range(i, X.cols)]


def _largest(values: Any) -> float:
    import numpy as np

    return float(np.abs(np.asarray(values, float)).max(initial=0.0))


def _shown(numbers: Mapping[Any, float]) -> str:
    return ", ".join(f"{x} = {value:.6g}" for x, value in numbers.items())


def _listed(values: Mapping[str, Any]) -> str:
    import numpy as np

    shown = {k: np.array2string(np.asarray(x), precision=3) for k, x in values.items()}
    return ", ".join(f"{k} = {text}" for k, text in shown.items())


def _pack(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """Parameters without constraints: logs of positive ones, L of an SPD matrix."""
    import numpy as np

    flat: list[float] = []
    for name, X in parameters.items():
        if isinstance(X, sp.MatrixBase):
            L = np.linalg.cholesky(np.asarray(values[name], float))
            flat += [float(one) for one in L[np.tril_indices(len(L))]]
        else:
            value = float(values[name])
            flat.append(np.log(abs(value)) if X.is_positive or X.is_negative else value)
    return np.array(flat)


def _inside(X: Any, value: Any) -> bool:
    """Whether a value is in the domain of its parameter."""
    import numpy as np

    if isinstance(X, sp.MatrixBase):
        d = np.sqrt(np.abs(np.diagonal(value)))
        return bool(np.all(d > 0) and np.linalg.eigvalsh(value / d / d[:, None])[0] > SINGULAR)
    if not np.isfinite(value) or (X.is_positive and value <= 0) or (X.is_negative and value >= 0):
        return False
    return not (X.is_nonnegative and value < 0) and not (X.is_nonpositive and value > 0)


def _beside(X: Any, value: Any, size: float) -> list[Any]:
    """Values on both sides: by factors of e, of every eigenvalue of a matrix, or by a size."""
    import numpy as np

    if isinstance(X, sp.MatrixBase):
        scales, axes = np.linalg.eigh(value)
        return [
            value + (factor - 1) * scale * np.outer(axis, axis)
            for scale, axis in zip(scales, axes.T, strict=True)
            for factor in (np.e, 1 / np.e)
        ]
    if X.is_positive or X.is_negative:
        return [value * np.e, value / np.e]
    return [value + size, value - size]


def _by_size(slope: Any, value: Any) -> float:
    """The slope in a parameter by its size: along every eigenvector of a matrix."""
    import numpy as np

    if np.ndim(value) == 0:
        return abs(slope * value)
    scales, axes = np.linalg.eigh(value)
    return _largest(np.diagonal(axes.T @ slope @ axes) * scales)


def _unpack(parameters: Mapping[str, Any], t: Sequence[float]) -> dict[str, Any]:
    import numpy as np

    found: dict[str, Any] = {}
    at = 0
    for name, X in parameters.items():
        if isinstance(X, sp.MatrixBase):
            L = np.zeros(X.shape)
            places = np.tril_indices(X.rows)
            L[places] = t[at : at + len(places[0])]
            found[name], at = L @ L.T, at + len(places[0])
            continue
        sign = -1.0 if X.is_negative else 1.0
        bounded = X.is_positive or X.is_negative
        found[name], at = sign * float(np.exp(t[at])) if bounded else float(t[at]), at + 1
    return found


def _pulled_back(parameters: Mapping[str, Any], t: Any, slopes: Mapping[str, Any]) -> Any:
    """The slope in the coordinates of `_pack`: φ dF/dφ of positive ones, 2GL of a matrix."""
    import numpy as np

    values, flat, at = _unpack(parameters, t), [], 0
    for name, X in parameters.items():
        if isinstance(X, sp.MatrixBase):
            places = np.tril_indices(X.rows)
            L = np.zeros(X.shape)
            L[places] = t[at : at + len(places[0])]
            flat += list((2 * slopes[name] @ L)[places])
            at += len(places[0])
        else:
            flat.append(slopes[name] * (values[name] if X.is_positive or X.is_negative else 1.0))
            at += 1
    return np.array(flat)
