"""The best parameters of a reward at numbers: the closed form where it is complete, else a search.

The search runs in coordinates without constraints and units: logarithms of positive parameters over
their unit, factors of matrices. It lowers the cost against maximum likelihood, in which no large
numbers cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from ..errors import ArgumentError, NoMaximumError
from .search import Reached, largest, used
from .units import units_and_starts

EDGE = 1e-6  # slope of F by a parameter's size, and fall of F beside a maximum, in nats
STEPS = 300  # of a search
FAR = 1e6  # times as large as its unit, a parameter runs away
RIDGE = 7.0  # from its start, in logarithms of parameters, a search has run along a ridge
STEP = 1e-3  # of differences of slopes, in the coordinates of a search
SINGULAR = 1e-13  # smallest eigenvalue of a matrix scaled to a unit diagonal


@dataclass(frozen=True, eq=False)
class Best:
    """The best parameters of a reward at numbers.

    Attributes:
        parameters: by name.
        likelihood: F at them.
        cost: how far that is below maximum likelihood in the family, in nats.
        slope: largest slope of F there, each by its parameter's size, in nats.
        closed_form: whether they are the closed form, else the result of a search.
        determined: whether F bends down in every direction from what a search found, by more than
            1e-6 nats for a factor of e; else others beside them are as good.
    """

    parameters: dict[str, Any]
    likelihood: float
    cost: float
    slope: float
    closed_form: bool
    determined: bool = True


@dataclass(frozen=True, eq=False)
class Place:
    """The domain of a parameter, its unit, and where a search starts.

    Attributes:
        X: symbol, or SPD matrix of symbols.
        unit: of a scalar; of a matrix (n,), X_ij in unit_i unit_j.
        start: a value in the domain.
    """

    X: Any
    unit: Any
    start: Any

    @property
    def way(self) -> float:
        """1 or -1 of a sign that X keeps, else 0."""
        return 1.0 if self.X.is_positive else -1.0 if self.X.is_negative else 0.0

    @property
    def is_matrix(self) -> bool:
        """Whether X is one."""
        return isinstance(self.X, sp.MatrixBase)

    def pack(self, value: Any) -> list[float]:
        """Without constraints and units."""
        import numpy as np

        if self.is_matrix:
            L = np.linalg.cholesky(np.asarray(value) / self.unit / self.unit[:, None])
            return L[np.tril_indices(len(L))].tolist()
        return [np.log(abs(value) / self.unit) if self.way else (value - self.start) / self.unit]

    def unpack(self, t: Sequence[float]) -> Any:
        """The inverse of `pack`."""
        import numpy as np

        if self.is_matrix:
            L = self._factor(t)
            return L @ L.T
        if not self.way:
            return float(self.start + t[0] * self.unit)
        with np.errstate(over="ignore"):  # `holds` judges
            return float(self.way * self.unit * np.exp(t[0]))

    def pulled_back(self, t: Sequence[float], slope: Any) -> list[float]:
        """The slope in the coordinates of `pack`: φ dF/dφ of a sign, 2GL of a matrix."""
        import numpy as np

        if self.is_matrix:
            G = 2 * slope @ self._factor(t) * self.unit[:, None]
            return G[np.tril_indices(len(G))].tolist()
        return [slope * (self.unpack(t) if self.way else self.unit)]

    def _factor(self, t: Sequence[float]) -> Any:
        import numpy as np

        L = np.zeros(self.X.shape)
        L[np.tril_indices(len(L))] = t
        return L * self.unit[:, None]

    @property
    def count(self) -> int:
        """Of coordinates."""
        return self.X.rows * (self.X.rows + 1) // 2 if self.is_matrix else 1

    def size(self, value: Any) -> Any:
        """Of a value, from 0 if it has a sign, else from the start; at least the unit."""
        import numpy as np

        if self.is_matrix:
            return np.maximum(np.sqrt(np.diagonal(value)), self.unit)
        return max(abs(value if self.way else value - self.start), self.unit)

    def holds(self, value: Any) -> bool:
        """Whether a value is in the domain."""
        import numpy as np

        X = self.X
        if self.is_matrix:
            d = np.sqrt(np.abs(np.diagonal(value)))
            return bool(np.all(d > 0) and np.linalg.eigvalsh(value / d / d[:, None])[0] > SINGULAR)
        if not np.isfinite(value) or value * self.way < 0 or (self.way and value == 0):
            return False
        if X.is_nonzero and value == 0:
            return False
        return not (X.is_nonnegative and value < 0) and not (X.is_nonpositive and value > 0)

    def beside(self, value: Any) -> list[Any]:
        """Values on both sides: by factors of e, of every eigenvalue of a matrix, or by a size."""
        import numpy as np

        if self.is_matrix:
            scales, axes = np.linalg.eigh(value / self.unit / self.unit[:, None])
            return [
                value + (factor - 1) * scale * np.outer(axis, axis) * np.outer(self.unit, self.unit)
                for scale, axis in zip(scales, axes.T, strict=True)
                for factor in (np.e, 1 / np.e)
            ]
        if self.way:
            return [value * np.e, value / np.e]
        return [value + self.size(value), value - self.size(value)]

    def by_value(self, value: Any, slope: Any) -> float:
        """The slope by what the value is: along every eigenvector of a matrix."""
        import numpy as np

        if self.is_matrix:
            d = self.unit
            scales, axes = np.linalg.eigh(value / d / d[:, None])
            return largest(np.diagonal(axes.T @ (slope * d * d[:, None]) @ axes) * scales)
        return abs(slope * (value if self.way else self.size(value)))

    def by_size(self, value: Any, slope: Any) -> float:
        """The slope by the larger of the value and its unit: near an edge no value is small."""
        import numpy as np

        size = self.size(value)
        return largest(slope * np.outer(size, size) if self.is_matrix else slope * size)

    def is_far(self, value: Any) -> bool:
        """Whether a value has run away from its unit."""
        power = 2 if self.is_matrix else 1
        return largest(self.size(value) / self.unit) ** power > FAR


def best(derived: Any, values: Mapping[str, Any]) -> Best:
    """The best parameters, from the closed form where it is complete, else by a search.

    A closed form with a sign that its symbol cannot have is no optimum, nor is one at which J has
    its maximum elsewhere, and one that divides by 0, as 0/0 of two equally likely classes, does not
    say which: then too a search looks for one inside the domain.

    Raises:
        ArgumentError: for values outside their domain, and where a best one is beyond a double.
        NoMaximumError: if it ends nowhere inside: F rises towards the domain's edge, also along a
            ridge on which it gets flat.
    """
    optimum, parameters = derived.optimum or {}, derived.parameters
    data = {k: v for k, v in values.items() if k not in parameters}
    given = {
        name: derived.read(sp.Matrix([X]), {name: values[name]})[name]
        for name, X in parameters.items()
        if name in values
    }
    places = {
        name: Place(parameters[name], unit, given.get(name, start))
        for name, (unit, start) in units_and_starts(derived, data).items()
    }
    unknown = sp.Tuple(*parameters.values()).free_symbols
    outside: dict[str, Any] = {}
    if set(optimum) == set(parameters) and not sp.Tuple(*optimum.values()).free_symbols & unknown:
        found = _closed(derived, optimum, data)
        outside = {k: v for k, v in found.items() if not places[k].holds(v)}
        if found and not outside:
            closed = _at_closed(derived, data, places, found)
            if closed is not None and _is_optimal(derived, closed):
                return closed
            if closed is not None and not given:  # J has a maximum there: none is known elsewhere
                places = {k: replace(place, start=found[k]) for k, place in places.items()}
    if not places:  # nothing to choose
        return _reported(places, {}, derived.levels.reached(derived, data), closed=True)
    found, reached, determined = _inside(derived, data, places, outside)
    return replace(_reported(places, found, reached, closed=False), determined=determined)


def _at_closed(
    derived: Any, data: Mapping[str, Any], places: Mapping[str, Place], found: dict[str, Any]
) -> Best | None:
    """What the closed form reaches; None where J has no maximum at it."""
    try:
        reached = derived.levels.reached(derived, {**data, **found})
    except NoMaximumError:
        return None
    return _reported(places, found, reached, closed=True)


def _is_optimal(derived: Any, closed: Best) -> bool:
    """Whether what a closed form reaches is an optimum.

    Its parameters make maximum likelihood stationary for J, which need not be where J is largest
    unless J is concave: its symbolic cost is withheld then. Else they make F stationary.
    """
    return closed.cost <= EDGE or (derived.cost is not None and closed.slope <= EDGE)


def _closed(derived: Any, optimum: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The closed form at the data; nothing where it has no value: divides by 0, or is complex."""
    import numpy as np

    at = {k: v for k, v in data.items() if k in used(derived, optimum)}
    numbers = derived.read(optimum, at)
    for name, value in optimum.items():
        found = derived.unjudged(value, numbers)
        if np.any(np.isnan(found)):
            return {}
        if not np.all(np.isfinite(found)):
            raise ArgumentError(
                f"the best {name} is beyond a double at {_listed(at)}: pass data and lam in other "
                "units"
            )
    return {name: derived.number(value, numbers) for name, value in optimum.items()}


def _reported(
    places: Mapping[str, Place], found: dict[str, Any], reached: Reached, *, closed: bool
) -> Best:
    slopes = (places[name].by_value(found[name], slope) for name, slope in reached.slopes.items())
    return Best(found, reached.likelihood, reached.cost, max(slopes, default=0.0), closed)


def _inside(
    derived: Any, data: Mapping[str, Any], places: Mapping[str, Place], outside: Mapping[str, Any]
) -> tuple[dict[str, Any], Reached, bool]:
    """A maximum of F over the domain of the parameters, by a search, and whether it is strict.

    Args:
        derived: of the reward.
        data: moments and constants by name.
        places: of the parameters.
        outside: values of the closed form that lie outside the domain, for messages.
    """
    import numpy as np
    from scipy import optimize

    def reached(found: Mapping[str, Any]) -> Reached | None:
        """None outside the domain, and where no inner maximum is found."""
        if not all(place.holds(found[name]) for name, place in places.items()):
            return None
        try:
            return derived.levels.reached(derived, {**data, **found})
        except (NoMaximumError, ArgumentError):  # such as what is beyond a double there
            return None

    def split(t: Any) -> dict[str, Any]:
        ends = np.cumsum([place.count for place in places.values()])[:-1]
        return dict(zip(places, np.split(t, ends), strict=True))

    def unpacked(t: Any) -> dict[str, Any]:
        return {name: places[name].unpack(part) for name, part in split(t).items()}

    def loss(t: Any) -> tuple[float, Any]:
        one = reached(unpacked(t))
        if one is None:
            return np.inf, np.zeros_like(t)
        rows = [places[k].pulled_back(part, one.slopes[k]) for k, part in split(t).items()]
        return one.cost, -np.concatenate(rows)

    start = np.concatenate([place.pack(place.start) for place in places.values()])
    with np.errstate(all="ignore"):  # of infinite losses; judged by the result
        search = optimize.minimize(
            loss,
            start,
            jac=True,
            method="BFGS",
            options={"gtol": 1e-9, "maxiter": STEPS},
        )
    found = unpacked(search.x)
    here = reached(found)
    if here is None:
        try:
            derived.levels.reached(derived, {**data, **found})
        except NoMaximumError as error:
            raise NoMaximumError(
                f"the search for the best parameters starts at {_listed(found)}, where the inner "
                f"problem is not solved: {error}; or {_to_start_from(places, found, reached)}"
            ) from error
        raise NoMaximumError(
            f"the search for the best parameters starts at {_listed(found)}, outside their domain: "
            "pass other parameters to start from"
        )
    flat = _flattest(lambda t: loss(t)[1], search.x)
    if here.cost <= EDGE:  # F cannot rise by more
        return found, here, flat is None
    if search.nit >= STEPS and largest(search.jac) > EDGE:
        raise NoMaximumError(
            f"the search for the best parameters did not end in {STEPS} steps: at "
            f"{_listed(found)} the likelihood F still rises ({_risen(here.slopes)}), as along a "
            "ridge towards the edge of their domain. Pass parameters to start from, or take a "
            "reward with fewer of them"
        )
    for name, place in places.items():
        value, slope = found[name], here.slopes[name]
        if place.by_size(value, slope) <= EDGE and not place.is_far(value):
            continue
        others = (reached({**found, name: x}) for x in place.beside(value))
        fall = min(np.inf if one is None else one.cost - here.cost for one in others)
        if fall > EDGE and place.by_value(value, slope) <= fall / 1000:
            continue
        closed = f" F is stationary outside, at {_listed(outside)}." if outside else ""
        raise NoMaximumError(
            f"no best parameters were found inside their domain: at {_listed(found)} the "
            f"likelihood F still rises ({_risen({name: slope})}).{closed} Pass parameters to start "
            "from, declare real=True what may have any sign, or take another reward"
        )
    if flat is not None and abs(flat @ (search.x - start)) > RIDGE:
        raise NoMaximumError(
            f"the search for the best parameters ran along a ridge: at {_listed(found)} F is "
            f"{here.likelihood:.6g}, {here.cost:.3g} nats below maximum likelihood, and changes by "
            f"less than {EDGE:g} nats along it, towards the edge of their domain: no values on it "
            "are best. Put a number for one of them into the reward, or pass parameters to start "
            "from"
        )
    return found, here, flat is None


def _to_start_from(
    places: Mapping[str, Place],
    found: Mapping[str, Any],
    reached: Callable[[Mapping[str, Any]], Reached | None],
) -> str:
    """Parameters to start from that differ in one, by a factor of 10, where there are such."""
    for factor in (0.1, 10.0):
        for name in places:
            other = {**found, name: factor * found[name]}
            if reached(other) is not None:
                passed = _listed({name: other[name]})
                return f"pass {passed} to start from, where it is solved"
    return f"pass other {', '.join(places)} to start from"


def _flattest(slope: Callable[[Any], Any], t: Any) -> Any:
    """The unit direction in which the cost bends up by less than `EDGE` in a unit step, or None."""
    import numpy as np

    rows = [slope(t + e) - slope(t - e) for e in STEP * np.eye(len(t))]
    bend = np.array(rows) / (2 * STEP)
    curvatures, axes = np.linalg.eigh((bend + bend.T) / 2)
    return axes[:, 0] if curvatures[0] <= 2 * EDGE else None


def _risen(slopes: Mapping[str, Any]) -> str:
    return _listed({f"dF/d{name}": slope for name, slope in slopes.items()})


def _listed(values: Mapping[str, Any]) -> str:
    import numpy as np

    shown = {k: np.array2string(np.asarray(x), precision=3) for k, x in values.items()}
    return ", ".join(f"{k} = {text}" for k, text in shown.items())
