"""Both levels of a Gaussian family at numbers: a search for θ*, and implicit differentiation there.

The inner problem is searched in coordinates without constraints, P = LLᵀ with L_ii = e^t, from many
starts, each in units of its own (`standard`); slope and curvature are exact (`jets`). So no number
depends on the units of data and λ, nor, for a reward of ŷ - y, on the data's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import Any

import sympy as sp

from ..calculus.compiled import compiled
from ..calculus.matrices import inverse, quadratic, trace
from ..errors import ArgumentError, NoMaximumError
from .parameters import by_symbol
from .standard import ByFields, Standard, Units

STATIONARY = 1e-8  # ‖∂J/∂θ‖/λ, in units of the policy
FINALISTS = 4  # starts that are searched from, the best of a grid
SCALES = range(-9, 6)  # of starts, powers of 2 of the data's standard deviation
FARTHEST = 40.0  # in logarithms of scale, from a start
EQUAL = 1e-12  # difference of two objectives that is rounding, relative to them and to λ
APART = 1e-3  # of two policies that are not the same, in units
FLAT = 1e-8  # curvature that is not told from 0, relative to the largest: a direction of maxima
STEEPEST = 1e150  # curvature of J/λ whose square a double holds
ROUNDS = 8  # of searches, each in the units of the last one's end
NEAR = 0.5  # of its units' centre an inner solution lies, in standard deviations
REAL = 1e-6  # imaginary part of a real root, relative to it: double roots split by rounding
CENTRES = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)  # in standard deviations


@dataclass(frozen=True, eq=False)
class Solved:
    """The inner solution at numbers.

    Attributes:
        policy: θ* by name.
        objective: J(θ*).
        stationarity: largest slope of J/λ, in coordinates without constraints and units.
        closed_form: whether θ* is the closed form, else the result of a search.
        equal: other policies that a search found at the same J, each less likely than θ*.
    """

    policy: dict[str, Any]
    objective: float
    stationarity: float
    closed_form: bool
    equal: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Reached:
    """What parameters of a reward reach at the outer level.

    Attributes:
        likelihood: F.
        cost: how far it is below maximum likelihood in the family, in nats, without cancellation.
        slopes: dF/dφ by parameter.
    """

    likelihood: float
    cost: float
    slopes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class At:
    """A policy in units, and all that is needed beside it.

    Attributes:
        units: of x.
        x: coordinates.
        numbers: by symbol.
        coefficients: of the objective in these units.
        equal: other maxima with the same objective.
    """

    units: Units
    x: Any
    numbers: Mapping[Any, float]
    coefficients: Any
    equal: tuple[At, ...] = ()


@dataclass(frozen=True, eq=False)
class Levels(ByFields):
    """What both levels of a Gaussian family are as functions of numbers.

    Args:
        standard: J/λ in units of its own.
        solution: m* - μ and P* where they have a closed form, or None.
        parameters: of the reward, by name.
        covariance: of the data.
        likely: the covariance of maximum likelihood in the family.
        isotropic: whether P = sI.
        local: whether a local maximum is looked for, from narrow policies on.
    """

    standard: Standard
    solution: tuple[Any, Any] | None
    parameters: Mapping[str, Any]
    covariance: Any
    likely: Any
    isotropic: bool
    local: bool

    @property
    def size(self) -> int:
        """n."""
        return len(self.standard.mean)

    def solve(self, derived: Any, values: Mapping[str, Any]) -> Solved:
        """The inner solution at values by name."""
        import numpy as np

        at = self._at(derived, values)
        slope, objective = self._jet(at).slope, self._objective(at)
        if not (np.all(np.isfinite(slope)) and np.isfinite(objective)):
            raise _beyond(at.numbers)
        closed = self.solution is not None
        if closed:
            given = {k: v for k, v in values.items() if k in used(derived, derived.solution)}
            policy = derived.at("solution", **given)
        else:
            policy = self._policy(at)
        equal = tuple(self._policy(other) for other in at.equal)
        return Solved(policy, objective, largest(slope), closed, equal)

    def reached(self, derived: Any, values: Mapping[str, Any]) -> Reached:
        """F and dF/dφ at values by name: implicit differentiation at the inner solution."""
        at = self._at(derived, values)
        cost = self._cost(at)
        top = self._data(at.numbers)[1]
        return Reached(top - cost, cost, self._named(self._hypergradient(at)))

    def _cost(self, at: At) -> float:
        """How far F of a policy is below maximum likelihood in the family, in nats."""
        import numpy as np

        likely, s = self._data(at.numbers)[0], at.units.scale
        K = np.linalg.inv(self._factor(at))
        inside = K @ (likely / s / s[:, None]) @ K.T
        away = K @ (at.units.offset / s + at.x[: self.size])
        excess = np.linalg.eigvalsh((inside + inside.T) / 2) - 1
        return float(np.sum(excess - np.log1p(excess)) + away @ away) / 2

    def _at(self, derived: Any, values: Mapping[str, Any]) -> At:
        """The inner solution, in units in which its mean is 0 and its variances are 1."""
        import numpy as np

        numbers = self._numbers(derived, values)
        if self.solution is None:
            return self._search(numbers)
        column = sp.ImmutableMatrix([*self.solution[0], *self.solution[1]])
        found = self._evaluated(column, numbers)
        if not np.all(np.isfinite(found)):
            raise ArgumentError(
                f"the inner solution is {found.tolist()} at {_shown(numbers)}: no real numbers"
            )
        n = self.size
        P = found[n:].reshape(n, n)
        if not np.all(np.diagonal(P) > 0):
            raise ArgumentError(
                f"the variances of the inner solution are {np.diagonal(P).tolist()} at "
                f"{_shown(numbers)}: positive ones this small are beyond a double; pass values in "
                "other units"
            )
        s = np.sqrt(np.diagonal(P))
        return self._in(Units(found[:n], s), self._coordinates(P / s / s[:, None]), numbers)

    def _in(self, units: Units, x: Any, numbers: Mapping[Any, float]) -> At:
        """A policy in units, with the coefficients there."""
        import numpy as np

        found = self.standard.coefficients(numbers, units)
        if not np.all(np.isfinite(found)):
            raise _beyond(numbers)
        return At(units, x, numbers, found)

    def _numbers(self, derived: Any, values: Mapping[str, Any]) -> dict[Any, float]:
        """Free symbols to floats, from checked values by name."""
        names = {**derived.parameters, **derived.moments, **derived.constants}
        read = derived.read(sp.Matrix(self.standard.symbols), values)
        return by_symbol({name: names[name] for name in read}, read)

    def _evaluated(self, column: Any, numbers: Mapping[Any, float]) -> Any:
        """A column of expressions at numbers, each rounded once."""
        import numpy as np

        symbols = tuple(x for x in self.standard.symbols if x in column.free_symbols)
        with np.errstate(all="ignore"):  # judged by the result
            return np.ravel(compiled(symbols, column)(*(numbers[x] for x in symbols)))

    def scales(self, derived: Any, data: Mapping[str, Any]) -> tuple[Any, Any, float]:
        """Mean and standard deviations of the data, and λ."""
        asked = sp.Tuple(self.standard.lam, *self.standard.mean, *self.covariance)
        read = derived.read(asked, {k: v for k, v in data.items() if k in used(derived, asked)})
        numbers = by_symbol({name: derived.arguments[name] for name in read}, read)
        mean = self._evaluated(sp.ImmutableMatrix(self.standard.mean), numbers)
        lam = self._evaluated(sp.ImmutableMatrix([self.standard.lam]), numbers)
        return mean, self._data_scale(numbers), float(lam[0])

    def _data_scale(self, numbers: Mapping[Any, float]) -> Any:
        """Standard deviations of the data; one for all coordinates of an isotropic policy."""
        import numpy as np

        spread = self._evaluated(sp.ImmutableMatrix(self.covariance.diagonal().T), numbers)
        return np.sqrt(np.full(self.size, np.mean(spread)) if self.isotropic else spread)

    @cached_property
    def _likelihood(self) -> Callable[..., Any]:
        """F in x, less what does not depend on it, as a jet; from μ and Σ in the same units."""
        from .jets import second_order

        n, x = self.size, self.standard.x
        mu = sp.symbols(f"mu:{n}", cls=sp.Dummy)
        S = sp.ImmutableMatrix(n, n, sp.symbols(f"S:{n * n}", cls=sp.Dummy))
        L = self.standard.L
        K = inverse(L)
        precision = K.T * K
        spread = trace(precision * S) + quadratic(
            precision, sp.ImmutableMatrix(x[:n]) - sp.ImmutableMatrix(mu)
        )
        return second_order(-spread / 2 - sp.Add(*(e.exp for e in L.diagonal())), x, [*mu, *S])

    def _hypergradient(self, at: At) -> Any:
        """dF/dφ, φ the free symbols of the parameters."""
        import numpy as np

        from .jets import Jet, variables

        size, count = len(at.x), len(self.standard.unknowns)
        slopes = self.standard.slopes(at.numbers, at.units)
        flat = np.zeros((size + count, size + count))
        c = [
            Jet(value, np.concatenate([np.zeros(size), slope]), flat)
            for value, slope in zip(at.coefficients, slopes, strict=True)
        ]
        s, (likely, _) = np.asarray(at.units.scale), self._data(at.numbers)
        with np.errstate(all="ignore"):  # judged by the result
            J = self.standard.jet(variables(at.x, size + count), c)
            F = self._likelihood(
                variables(at.x), [*(-at.units.offset / s), *np.ravel(likely / s / s[:, None])]
            )
        if not all(np.all(np.isfinite(part)) for part in (J.curvature, F.slope)):
            raise _beyond(at.numbers)
        adjoint = -np.linalg.solve(J.curvature[:size, :size], F.slope)
        return adjoint @ J.curvature[:size, size:]

    def _data(self, numbers: Mapping[Any, float]) -> tuple[Any, float]:
        """The covariance of maximum likelihood in the family, and the likelihood there."""
        import numpy as np

        n = self.size
        P = self._evaluated(sp.ImmutableMatrix(n * n, 1, list(self.likely)), numbers).reshape(n, n)
        s = np.sqrt(np.diagonal(P))
        logs = np.sum(np.log(np.linalg.eigvalsh(P / s / s[:, None]))) + 2 * np.sum(np.log(s))
        return P, -float(logs + n * (1 + np.log(2 * np.pi))) / 2

    def _named(self, flat: Any) -> dict[str, Any]:
        """Slopes in free symbols as gradients by parameter, symmetric for matrices."""
        import numpy as np

        of = dict(zip(self.standard.unknowns, flat, strict=True))
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

    def _jet(self, at: At, x: Any = None) -> Any:
        """J/λ, its slope and its curvature, less its constants."""
        import numpy as np

        from .jets import variables

        with np.errstate(all="ignore"):  # judged by the result
            return self.standard.jet(variables(at.x if x is None else x), self._moving(at))

    def _moving(self, at: At) -> Any:
        """The coefficients, without what is added to J and hides in which digits it varies."""
        found = at.coefficients.copy()
        found[list(self.standard.constants)] = 0.0
        return found

    def _objective(self, at: At) -> float:
        """J."""
        import numpy as np

        logs = float(np.sum(np.log(at.units.scale))) + self.size * (1 + np.log(2 * np.pi)) / 2
        constant = float(at.coefficients[list(self.standard.constants)].sum())
        lam = float(self._evaluated(sp.ImmutableMatrix([self.standard.lam]), at.numbers)[0])
        return float(lam * (self._jet(at).value + constant + logs))

    def _search(self, numbers: Mapping[Any, float]) -> At:
        """The best strict maximum over searches from the best starts of a grid.

        Of several with the same J the likeliest, as the outer level, which maximises F, would have
        it; by rounding alone another one would be taken at every change of the numbers.
        """
        import numpy as np

        found: list[tuple[float, At]] = []
        begun = 0
        for start in self._starts(numbers):
            try:
                at = self._in(start, np.zeros(len(self.standard.x)), numbers)
                begun += largest(self._jet(at).curvature) < STEEPEST
                one = self._maximum(at)
            except (FloatingPointError, ValueError, UnboundLocalError):
                continue  # SciPy's: of factors that overflow in it, of a step that it did not find
            if one is not None:
                found.append((self._objective(one), one))
        if not begun:
            raise _beyond(numbers)
        if not found:
            raise NoMaximumError(
                f"no search ended at a strict maximum of J at {_shown(numbers)}: "
                + (
                    "there may be no local one for this weight; pass other values"
                    if self.local
                    else "pass other values"
                )
            )
        top = max(J for J, _ in found)
        lam = float(self._evaluated(sp.ImmutableMatrix([self.standard.lam]), numbers)[0])
        tied = [one for J, one in found if top - J <= EQUAL * max(abs(top), lam)]
        taken, *others = sorted(tied, key=self._cost)
        if not self._is_strict(taken):
            raise NoMaximumError(
                f"J is the same, to rounding, along a line of policies through "
                f"{self._policy(taken)}, at {_shown(numbers)}: training may end at any of them, "
                "and each has a likelihood of its own; pass a reward that prefers one, such as "
                "one with -b*(y_hat - y)**2 added, or KL() to a reference policy"
            )
        equal: list[At] = []
        for one in others:
            if all(self._are_apart(one, other) for other in (taken, *equal)):
                equal.append(one)
        return replace(taken, equal=tuple(equal))

    def _is_strict(self, at: At) -> bool:
        """Whether J bends down in every direction."""
        import numpy as np

        bend = np.linalg.eigvalsh(self._jet(at).curvature)
        return bool(bend[-1] < FLAT * bend[0])

    def _are_apart(self, one: At, other: At) -> bool:
        """Whether two policies differ by more than searches do that end at the same."""
        import numpy as np

        s = one.units.scale
        K = np.linalg.inv(self._factor(one))
        L = K @ (self._factor(other) * (other.units.scale / s)[:, None])
        away = (other.units.offset + other.units.scale * other.x[: self.size]) - (
            one.units.offset + s * one.x[: self.size]
        )
        return max(largest(K @ (away / s)), largest(L @ L.T - np.eye(self.size))) > APART

    def _maximum(self, at: At) -> At | None:
        """The maximum that searches from here end at, if they do: strict, or one of a line."""
        import numpy as np
        from scipy import optimize

        def exact(x: Any) -> Any:
            """A derivative that overflows ends a search."""
            J = self._jet(at, x)
            if not (np.all(np.isfinite(J.slope)) and np.all(np.isfinite(J.curvature))):
                raise FloatingPointError
            return J

        def loss(x: Any) -> float:
            """-J/λ, infinite where a policy is wider than floats hold: no step goes there."""
            if np.abs(x[self.size :]).max() > FARTHEST:
                return np.inf
            with np.errstate(all="ignore"):
                value = float(self.standard.value(x, moving))
            return -value if np.isfinite(value) else np.inf

        for _ in range(ROUNDS):
            moving = self._moving(at)
            with np.errstate(all="ignore"):  # judged by the result
                x = optimize.minimize(
                    loss,
                    at.x,
                    jac=lambda x: -exact(x).slope,
                    hess=lambda x: -exact(x).curvature,
                    method="trust-exact",
                    options={"gtol": 1e-7, "initial_trust_radius": 0.3, "max_trust_radius": 2.0},
                ).x
            at = self._in_its_units(replace(at, x=x))
            J = exact(at.x)
            for _ in range(4):  # Newton's method, to rounding
                if np.linalg.eigvalsh(J.curvature)[-1] >= 0:
                    break
                at = replace(at, x=at.x - np.linalg.solve(J.curvature, J.slope))
                J = exact(at.x)
            bend = np.linalg.eigvalsh(J.curvature)
            near = np.abs(at.x[: self.size]).max() <= NEAR
            if bend[-1] < -FLAT * bend[0] and near and largest(J.slope) <= STATIONARY:
                return at
        return None

    def _in_its_units(self, at: At) -> At:
        """The same policy in units in which its mean is 0 and its variances are 1."""
        import numpy as np

        offset, s, L = at.units.offset, at.units.scale, self._factor(at)
        own = np.sqrt((L**2).sum(-1))
        units = Units(offset + s * at.x[: self.size], s * own)
        return self._in(units, self._coordinates_of_factor(L / own[:, None]), at.numbers)

    def _starts(self, numbers: Mapping[Any, float]) -> list[Units]:
        """The best points of a grid of means and scales; for a local maximum narrow ones only.

        Means lie around the data's, and where the Gibbs density has its modes.
        """
        import numpy as np

        n = self.size
        scale = self._data_scale(numbers)
        data = self._in(Units(np.zeros(n), scale), np.zeros(len(self.standard.x)), numbers)
        moving = self._moving(data)
        directions = product(CENTRES if n == 1 else (0.0, 1.0, -1.0), repeat=n)
        means = [np.array(d) for d in directions] + self._modes(data)
        points: list[tuple[float, Any]] = []
        for power in SCALES[:4] if self.local else SCALES:
            for mean in means:
                x = np.zeros(len(self.standard.x))
                x[:n], x[self._logs] = mean, power * np.log(2)
                with np.errstate(all="ignore"):
                    value = float(self.standard.value(x, moving))
                if np.isfinite(value):
                    points.append((value, x))
        points.sort(key=lambda one: -one[0])
        chosen: list[Any] = []
        for _, x in points:
            if all(np.abs(x - other).max() > 0.4 for other in chosen):
                chosen.append(x)
            if len(chosen) == FINALISTS:
                break
        return [Units(scale * x[:n], scale * np.exp(x[self._logs[0]])) for x in chosen]

    def _modes(self, at: At) -> list[Any]:
        """Means where log p of the Gibbs law has critical points along a coordinate.

        Of its polynomial part and of each exponent in it apart, and where two exponentials balance,
        the other coordinates at the data's mean: where a reward peaks far from the data, no grid
        around them looks.
        """
        import numpy as np

        n, found = self.size, []
        value = dict(zip(self.standard.names, at.coefficients, strict=True))
        for part in self.standard.parts_in_names:
            p = part.exponent if part.exponent else part.polynomial
            for i in range(n):
                along = {a[i]: float(value.get(c, 0.0)) for a, c in p.items() if sum(a) == a[i]}
                powers = [k * along.get(k, 0.0) for k in range(max(along), 0, -1)]
                for root in np.roots(powers) if np.all(np.isfinite(powers)) else []:
                    if abs(root.imag) <= REAL * abs(root):
                        found.append(np.where(np.arange(n) == i, root.real, 0.0))
        return found + self._balances(value)

    def _balances(self, value: Mapping[Any, float]) -> list[Any]:
        """Means along a coordinate where the slopes of two exponentials of a line cancel.

        A linear polynomial is one of rate 0. Only logarithms are taken: either may overflow.
        """
        import numpy as np

        n, found = self.size, []
        axes = [tuple(int(k == i) for k in range(n)) for i in range(n)]
        constant = (0,) * n
        for i, axis in enumerate(axes):
            slopes: list[tuple[float, float, float]] = []  # sign, log of the size, rate
            for part in self.standard.parts_in_names:
                p, q = part.polynomial, part.exponent
                rate = float(value.get(q.get(axis), 0.0))
                line = all(float(value.get(q[a], 0.0)) == 0 for a in q if sum(a) > 1)
                slope = rate * value.get(p.get(constant), 0.0) if q else value.get(p.get(axis), 0.0)
                if line and slope and (rate or not q) and (not q or set(p) == {constant}):
                    at_zero = float(value.get(q.get(constant), 0.0))
                    slopes.append((np.sign(slope), np.log(abs(slope)) + at_zero, rate))
            for (way, size, rate), (other, against, speed) in combinations(slopes, 2):
                if way != other and rate != speed:
                    at = (against - size) / (rate - speed)
                    found.append(np.where(np.arange(n) == i, at, 0.0))
        return found

    @cached_property
    def _logs(self) -> list[int]:
        """Where the coordinates t stand."""
        return [i for i, a in enumerate(self.standard.x) if a.name.startswith("t")]

    def _factor(self, at: At) -> Any:
        """L in the units."""
        import numpy as np

        n, x = self.size, at.x
        L = np.diag(np.exp(x[self._logs]) if len(self._logs) == n else np.full(n, np.exp(x[-1])))
        L[np.tril_indices(n, -1)] = x[n + len(self._logs) :] if len(x) > n + len(self._logs) else 0
        return L

    def _coordinates(self, P: Any) -> Any:
        """Coordinates of a policy with mean 0 and this covariance."""
        import numpy as np

        return self._coordinates_of_factor(np.linalg.cholesky(P))

    def _coordinates_of_factor(self, L: Any) -> Any:
        import numpy as np

        n = self.size
        logs = np.log(np.diagonal(L))[: len(self._logs)]
        full = len(self.standard.x) > n + len(self._logs)
        return np.array([*np.zeros(n), *logs, *(L[np.tril_indices(n, -1)] if full else [])])

    def _policy(self, at: At) -> dict[str, Any]:
        """A policy by the names of its variables, without units."""
        n, s = self.size, at.units.scale
        L = s[:, None] * self._factor(at)
        P = L @ L.T
        mean = self._evaluated(sp.ImmutableMatrix(self.standard.mean), at.numbers)
        m = mean + at.units.offset + s * at.x[:n]
        if n == 1:
            return {"m": float(m[0]), "P": float(P[0, 0])}
        return {"m": m, "s": float(P[0, 0])} if self.isotropic else {"m": m, "P": P}


def coordinates(n: int, theta: Mapping[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Coordinates x of a Gaussian policy, m, t and then l row by row, and L of P = LLᵀ.

    They are dummies: no parameter is one of them, whatever its name.
    """
    m = [sp.Dummy(f"x{i + 1}", real=True) for i in range(n)]
    if "s" in theta:
        t = sp.Dummy("t1", real=True)
        return (*m, t), sp.exp(t) * sp.ImmutableMatrix.eye(n)
    full = n > 1 and not theta["P"].is_diagonal()
    t = [sp.Dummy(f"t{i + 1}", real=True) for i in range(n)]
    off = {
        (i, j): sp.Dummy(f"l{i + 1}{j + 1}", real=True) for i in range(n) for j in range(i) if full
    }

    def entry(i: int, j: int) -> Any:
        return sp.exp(t[i]) if i == j else off.get((i, j), sp.S.Zero)

    return (*m, *t, *off.values()), sp.ImmutableMatrix(n, n, entry)


def used(derived: Any, found: Any) -> set[str]:
    """The names of arguments that expressions have."""
    parts = found.values() if isinstance(found, Mapping) else [found]
    free = set().union(*(part.free_symbols for part in parts))
    return {name for name, X in derived.arguments.items() if free & X.free_symbols}


def largest(values: Any) -> float:
    """The largest size of an entry, 0 of none."""
    import numpy as np

    return float(np.abs(np.asarray(values, float)).max(initial=0.0))


def _shown(numbers: Mapping[Any, float]) -> str:
    return ", ".join(f"{x} = {value:.6g}" for x, value in numbers.items())


def _beyond(numbers: Mapping[Any, float]) -> ArgumentError:
    return ArgumentError(
        f"the derivatives at {_shown(numbers)} are beyond a double: pass values in other units, "
        "or ones of parameters at which the reward is less steep"
    )
