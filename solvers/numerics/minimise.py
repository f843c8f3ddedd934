"""Minimisation of a scalar loss in the tensors it depends on, in place.

`search` is what the solvers use. Newton steps come first, where they converge at once (near a
minimum, as after a small change of the problem), a method that compares function values where they
do not, and Newton steps again, because function values do not resolve a distance below the root of
the machine precision.

Whether a point is a minimum is judged in the units of the problem. With the Hessian `A`, the
Newton step `s = -A⁻¹g` and `‖x‖² = xᵀAx`, the distance is `‖s‖/‖θ‖`. It is the same for any
multiple of the loss, and for any linear change of coordinates: no tolerance has to know how large
rewards, entropy weights or data are. For a minimum at `θ = 0` the way from the start takes the
place of `‖θ‖`, as far as its square is no more than the loss. Where the loss has a unit of its own,
a nat of a likelihood, the distance is `‖s‖/√unit`: that depends on no origin either. (A mean of a
million deviations makes `‖θ‖` as large, and any error of the variances small beside it.)

Where a loss is undefined (NaN, or an `InputError`: no law has such parameters) a step is too long:
a Newton step is cut, another method ends at the best point it has met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from ..errors import InputError, NonFiniteError
from . import linear_solve
from .derivatives import curved, hessian, slopes
from .norms import largest_entry, norm
from .trees import flat

Loss = Callable[[], Tensor]
Method = Callable[[Sequence[Tensor], Loss, float, int], int]
"""`method(leaves, loss, tolerance, limit)` improves the leaves; returns what it cost.

It stops where the gradient has shrunk to `tolerance` of what it was.
"""

DENSE = 200  # up to this many numbers the Hessian is built, all its products at once
NEAR = 1e-4  # of the gradient at the start: from there Newton steps may converge
ROUND = 20  # iterations of L-BFGS between looks at its progress
FORCING = 1e-2  # residual of a Newton step by CG: more steps are cheaper than exact ones
LENGTHS = (1.0, 1 / 4, 1 / 16, 1 / 64)  # parts of a Newton step to try
CONVERGING = 0.5  # a Newton step that converges shrinks the gradient at least to this


@dataclass(frozen=True)
class Stop:
    """Where a search ended.

    Attributes:
        converged: whether the distance reached the tolerance.
        stationarity: largest absolute entry of the gradient.
        evaluations: gradients and Hessian-vector products; a whole Hessian counts as one.
        distance: relative, or in the root of the unit of the loss, in the norm of the Hessian;
            infinite where that is not positive.
        reason: why the search ended.
        close: whether the error is at most the share of the way that was asked for.
    """

    converged: bool
    stationarity: float
    evaluations: int
    distance: float
    reason: str
    close: bool = False


def search(
    leaves: Sequence[Tensor],
    loss: Loss,
    tolerance: float,
    limit: int,
    *,
    methods: Sequence[Method] | None = None,
    share: float = 0.0,
    unit: float = 0.0,
) -> Stop:
    """Minimise in place.

    Args:
        leaves: tensors that require gradients, changed in place.
        loss: of the tensors, a number.
        tolerance: on the distance.
        limit: of evaluations; the last Newton step may pass it by its own cost.
        methods: for the way to where Newton steps converge, the next one where the one before no
            longer gains anything: L-BFGS, then SciPy's trust region, if not given.
        share: an error, relative to the way from the start, that is good enough where Newton steps
            do not converge, or where they are costly: beyond `DENSE` numbers. L-BFGS alone is used
            then.
        unit: of the loss, where it has one: distances are measured in its root.
    """
    if methods is None:
        methods = [partial(lbfgs, share=share)] if share > 0 else [lbfgs, trust_region]
    start = flat(leaves).detach().clone()
    close = share if len(start) > DENSE else 0.0
    # an attempt: where it does not converge at once, the budget is better spent otherwise
    stop = newton(leaves, loss, start, tolerance, limit // 4, share=close, unit=unit)
    for k, method in enumerate(methods, 1):
        until = limit * k // len(methods)  # each may spend its part
        gaining = True
        while gaining and not (stop.converged or stop.close) and stop.evaluations < until:
            before = float(loss().detach())
            spent = stop.evaluations + 1
            spent += method(leaves, loss, NEAR, until - spent)
            gaining = share == 0 and float(loss().detach()) < before
            left = limit - spent
            after = newton(leaves, loss, start, tolerance, left, share=close, unit=unit)
            stop = replace(after, evaluations=spent + 1 + after.evaluations)
    if stop.converged or stop.close:
        return stop
    if stop.evaluations >= limit:
        return replace(stop, reason=f"the budget of {limit} evaluations is spent")
    if share > 0:
        return replace(stop, reason=f"progress fell to {share:.2g}² of all progress")
    return stop


def newton(
    leaves: Sequence[Tensor],
    loss: Loss,
    start: Tensor,
    tolerance: float,
    limit: int,
    *,
    enough: float = 0.0,
    share: float = 0.0,
    unit: float = 0.0,
) -> Stop:
    """Take Newton steps while they converge; at a point that is no minimum, take none.

    A step, or a part of it, is kept if it shrinks the gradient without raising the loss, or lowers
    the loss by a good part of what it predicts. Where the gradient no longer shrinks, and the gain
    that the step predicts is below the resolution of the loss, the point is the minimum to working
    precision.

    Args:
        leaves: changed in place.
        loss: of the leaves.
        start: where the search began, flat.
        tolerance: on the distance.
        limit: of evaluations.
        enough: largest entry of the gradient that is as good as 0, for callers who know its scale.
        share: of the way from the start, an error to stop at, too.
        unit: as for `search`.
    """
    here = _Point(leaves, loss, unit)
    evaluations = 1
    while True:
        if here.stationarity == 0:
            return _at_rest(here, evaluations)
        if here.stationarity <= enough:
            reason = f"the gradient is {here.stationarity:.2g}, at most {enough:.2g}"
            return Stop(True, here.stationarity, evaluations, math.inf, reason)
        if not math.isfinite(here.stationarity):
            reason = f"the gradient is {here.stationarity}"
            return Stop(False, here.stationarity, evaluations, math.inf, reason)
        if evaluations >= limit:
            reason = "the budget is spent"
            return Stop(False, here.stationarity, evaluations, math.inf, reason)
        step = here.newton_step(limit - evaluations)
        evaluations += step.cost
        if not step.leads_to_minimum:
            reason = f"no minimum is near: the smallest curvature is {step.curvature:.3g}"
            return Stop(False, here.stationarity, evaluations, math.inf, reason)
        distance = here.distance(step, start)
        evaluations += 1
        if distance <= tolerance:
            reason = f"the distance is {distance:.2g}, at most {tolerance:.2g}"
            # the step is known and its error a square; a far start makes distances look small
            last = here.moved(step.s)
            if not last.improves(here, step.gain):
                here.restore()
                last = here
            return Stop(True, last.stationarity, evaluations + 1, distance, reason)
        if share > 0 and step.squared <= share**2 * here.squared(here.theta - start):
            reason = f"the error is at most {share:.2g} of the way"
            return Stop(False, here.stationarity, evaluations, distance, reason, close=True)
        there = None
        for length in LENGTHS if step.gain > here.resolution() else LENGTHS[:1]:
            moved = here.moved(length * step.s)
            evaluations += 1
            if moved.improves(here, length * step.gain):
                there = moved
                break
        if there is not None:
            here = there
            continue
        here.restore()
        # a tolerance below the precision of the numbers asks for more than they can tell
        sensible = tolerance >= torch.finfo(here.theta.dtype).eps
        if sensible and step.gain <= here.resolution() and distance <= math.sqrt(tolerance):
            reason = f"the distance is {distance:.2g}, the resolution of the objective"
            return Stop(True, here.stationarity, evaluations, distance, reason)
        reason = f"Newton steps no longer shrink the gradient at distance {distance:.2g}"
        return Stop(False, here.stationarity, evaluations, distance, reason)


def _at_rest(point: _Point, evaluations: int) -> Stop:
    """Judge a point where the gradient is 0: a minimum, unless a curvature is negative."""
    step = point.newton_step(1) if len(point.theta) <= DENSE else point.probe()
    evaluations += step.cost
    if not step.leads_to_minimum:
        reason = f"the gradient is 0 at a saddle of curvature {step.curvature:.3g}"
        return Stop(False, 0.0, evaluations, math.inf, reason)
    return Stop(True, 0.0, evaluations, 0.0, "the gradient is 0")


@dataclass(frozen=True)
class _Step:
    """A Newton step `s = -A⁻¹g`.

    Attributes:
        s: the step.
        squared: `sᵀAs`.
        curvature: smallest of `A` met.
        leads_to_minimum: whether that is positive, or negative by rounding only.
        cost: evaluations.
    """

    s: Tensor
    squared: float
    curvature: float
    leads_to_minimum: bool
    cost: int

    @property
    def gain(self) -> float:
        """The decrease of the loss that the step predicts."""
        return self.squared / 2


class _Point:
    """Loss and gradient at a point, and the Newton step from there."""

    def __init__(self, leaves: Sequence[Tensor], loss: Loss, unit: float) -> None:
        self.leaves, self.loss, self.unit = leaves, loss, unit
        self.theta = flat(leaves).detach().clone()
        self.size = 0.0  # of θ, squared, once measured
        self.units = torch.ones_like(self.theta)  # of θ, where the Hessian is built
        try:
            value = loss()
        except InputError:
            self.value, self.gradient = math.nan, torch.full_like(self.theta, math.nan)
            self.stationarity = math.nan
            return
        self.value = float(value.detach())
        self.gradient = flat(slopes(value, leaves, create_graph=True))
        self.stationarity = largest_entry(self.gradient)

    def product(self, v: Tensor) -> Tensor:
        """Return the Hessian times `v`."""
        return curved(self.gradient, self.leaves, v)

    def newton_step(self, limit: int) -> _Step:
        """Return `-A⁻¹g` by the Hessian's eigenvectors if it is small, else by CG."""
        g = self.gradient.detach()
        if len(g) <= DENSE:
            return self._dense_step(g)
        # half the budget at most: where CG takes longer, Newton steps are not the way
        most = min(2 * len(g), max(limit // 2, 1))
        solve = linear_solve.cg(self.product, -g, tolerance=FORCING, max_iterations=most)
        squared = max(float(-g.double() @ solve.x.double()), 0.0)
        leads = solve.curvature > 0 and solve.residual < CONVERGING
        return _Step(solve.x, squared, solve.curvature, leads, solve.iterations)

    def _dense_step(self, g: Tensor) -> _Step:
        H = hessian(self.gradient, self.leaves)
        if not bool(torch.isfinite(H).all()):
            return _Step(torch.zeros_like(g), math.inf, math.nan, False, 1)
        if not bool(H.any()):
            flat_at_rest = self.stationarity == 0
            return _Step(torch.zeros_like(g), math.inf, 0.0, flat_at_rest, 1)
        A, self.units = linear_solve.scaled(H)  # whatever the units of the data
        d = self.units
        w, V = torch.linalg.eigh(A)
        g = g / d
        eps, largest = torch.finfo(g.dtype).eps, float(w.abs().amax())
        # A singular Hessian, as that of a network that interpolates, has eigenvalues of either sign
        # that are rounding, and along them none of the gradient but rounding.
        bent = w.abs().clamp(min=len(g) * eps * largest)
        inside = V.T @ g
        squared = float((inside.double().square() / bent.double()).sum())
        # negative by rounding only, in these units or in those of the leaves: scaling up a row that
        # is all rounding, as that of an idle neuron, would make it count
        leads, curvature = float(w[0]) > -math.sqrt(eps) * largest, float(w[0])
        if not leads:
            plain = torch.linalg.eigvalsh(H)
            curvature = float(plain[0])
            leads = curvature > -math.sqrt(eps) * float(plain.abs().amax())
        return _Step(-(V @ (inside / bent)) / d, squared, curvature, leads, 1)

    def probe(self) -> _Step:
        """Return no step, and the curvatures that CG meets from where no problem is special."""
        v = torch.arange(1, len(self.theta) + 1).to(self.theta).cos()
        solve = linear_solve.cg(self.product, v, tolerance=1e-2, max_iterations=ROUND)
        leads = solve.curvature >= -math.sqrt(torch.finfo(v.dtype).eps) * solve.largest
        return _Step(torch.zeros_like(v), 0.0, solve.curvature, leads, solve.iterations)

    def distance(self, step: _Step, start: Tensor) -> float:
        """Return `‖s‖/size` in the norm of the Hessian; see the module for the size."""
        way = min(self.squared(self.theta - start), abs(self.value))
        self.size = max(self.squared(self.theta), way, 0.0)
        size = self.unit or self.size
        return math.sqrt(step.squared / size) if size > 0 else math.inf

    def squared(self, x: Tensor) -> float:
        """Return `xᵀAx`."""
        scale = norm(x)
        if scale == 0:
            return 0.0
        unit = x / scale
        return float(unit.double() @ self.product(unit).double()) * (scale * scale)  # maybe inf

    def moved(self, step: Tensor) -> _Point:
        """Return the point a step away; the leaves are moved there."""
        place(self.leaves, self.theta + step)
        return _Point(self.leaves, self.loss, self.unit)

    def restore(self) -> None:
        """Move the leaves back here."""
        place(self.leaves, self.theta)

    def improves(self, before: _Point, gain: float) -> bool:
        """Whether the loss has fallen by a quarter of the gain, or the gradient is clearly smaller.

        A gain below the resolution of the loss cannot be seen in it: the gradient decides alone.
        """
        resolution = before.resolution()
        if gain > resolution and self.value <= before.value - gain / 4:
            return True
        smaller = norm(self.gradient / before.units) < CONVERGING * norm(
            before.gradient / before.units
        )
        return smaller and (gain <= resolution or self.value <= before.value + resolution)

    def resolution(self) -> float:
        """Return a difference of two values of the loss that is all rounding.

        The terms of the loss may cancel; `‖θ‖²` is of the size of one of them. One with a unit has
        squares of deviations, which are differences of numbers up to `‖θ‖`.
        """
        term = math.sqrt(self.unit * self.size) if self.unit else self.size
        return 8 * torch.finfo(self.theta.dtype).eps * (abs(self.value) + term)


def lbfgs(
    leaves: Sequence[Tensor], loss: Loss, tolerance: float, limit: int, *, share: float = 0.0
) -> int:
    """Run L-BFGS in place, on the loss in units of its gradient; return the evaluations.

    It also stops where a round of steps gains no more than `share²` of what all rounds have gained.
    """
    scale = _scale(leaves, loss)
    evaluations, best, at_best = 1, math.inf, flat(leaves).detach().clone()

    def closure() -> Tensor:
        nonlocal evaluations, best, at_best
        evaluations += 1
        for leaf in leaves:
            leaf.grad = None
        value = loss() * scale
        value.backward(inputs=list(leaves))  # and into nothing else that the loss is made of
        if (here := float(value.detach())) < best:
            best, at_best = here, flat(leaves).detach().clone()
        return value

    optimiser = torch.optim.LBFGS(
        leaves,
        max_iter=ROUND,
        history_size=20,
        tolerance_grad=tolerance,
        # the smallest number there is: stop where an iteration changes nothing at all
        tolerance_change=torch.finfo(torch.float64).tiny,
        line_search_fn="strong_wolfe",
    )
    group, state = optimiser.param_groups[0], optimiser.state[leaves[0]]
    before, total, rounds = math.inf, 0.0, 0
    while evaluations < limit:
        group["max_eval"] = limit - evaluations
        try:
            value = float(optimiser.step(closure).detach())  # pyright: ignore[reportArgumentType]
        except InputError:
            place(leaves, at_best)
            break
        rounds += 1
        gain = before - value  # of the round before: a step returns the value it started from
        before = value
        if rounds > 1:
            total += gain
            if not gain > share**2 * total:
                break
        if state["n_iter"] < rounds * ROUND:
            break  # it stopped by itself
    if not bool(torch.isfinite(flat(leaves)).all()):
        place(leaves, at_best)
    return evaluations


def trust_region(leaves: Sequence[Tensor], loss: Loss, tolerance: float, limit: int) -> int:
    """Run SciPy's trust-region Newton method in place; return the evaluations.

    It is "trust-exact" up to `DENSE` numbers, "trust-ncg" beyond; both follow directions of
    negative curvature.
    """
    graph = _Graph(leaves, loss, _scale(leaves, loss))
    graph.evaluations = 1  # of the scale
    x = flat(leaves).detach().double().numpy()
    dense = len(x) <= DENSE
    value, gradient = graph.at(x)
    if not (math.isfinite(value) and np.isfinite(gradient).all()):
        return graph.evaluations

    def at_an_end(intermediate_result: optimize.OptimizeResult) -> None:
        if graph.evaluations >= limit or not math.isfinite(intermediate_result.fun):
            raise StopIteration

    # where there is no minimum, it goes on to infinity
    with np.errstate(all="ignore"), suppress(NonFiniteError):
        found = optimize.minimize(
            graph.at,
            x,
            jac=True,
            method="trust-exact" if dense else "trust-ncg",
            hess=graph.hessian if dense else None,
            hessp=None if dense else graph.product,
            callback=at_an_end,
            options={"gtol": tolerance, "max_trust_radius": math.inf, "maxiter": limit},
        )
        graph.best = found.x
    place(leaves, torch.as_tensor(graph.best))
    return graph.evaluations


class _Graph:
    """Value and gradient at the last point, with the gradient's graph kept for products."""

    def __init__(self, leaves: Sequence[Tensor], loss: Loss, scale: float) -> None:
        self.leaves, self.loss, self.scale = leaves, loss, scale
        self.x: np.ndarray | None = None
        self.evaluations = 0
        self.least, self.best = math.inf, flat(leaves).detach().double().numpy()

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return value and gradient at `x`."""
        if self.x is None or not np.array_equal(x, self.x):
            self.x = x.copy()
            place(self.leaves, torch.as_tensor(x))
            self.evaluations += 1
            try:
                value = self.loss() * self.scale
            except InputError:
                self.value, self.gradient = math.inf, torch.as_tensor(x).to(self.leaves[0])
                return self.value, self.gradient.double().numpy()
            value_here = value.item()
            # where the loss is undefined it is too large: NaN would neither accept nor refuse
            self.value = math.inf if math.isnan(value_here) else value_here
            self.gradient = flat(slopes(value, self.leaves, create_graph=True))
            if self.value < self.least:
                self.least, self.best = self.value, self.x
        return self.value, self.gradient.detach().double().numpy()

    def product(self, x: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the Hessian at `x` times `direction`."""
        self.at(x)
        self.evaluations += 1
        along = torch.as_tensor(direction, dtype=self.gradient.dtype)
        return curved(self.gradient, self.leaves, along).double().numpy()

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Return the Hessian at `x`."""
        self.at(x)
        self.evaluations += 1
        found = hessian(self.gradient, self.leaves).double().numpy()
        if not np.isfinite(found).all():
            raise NonFiniteError("the Hessian is not finite")  # the method takes no other
        return found


@torch.no_grad()
def place(leaves: Sequence[Tensor], vector: Tensor) -> None:
    """Set the leaves to the parts of a flat vector."""
    for leaf, value in zip(leaves, vector.split([leaf.numel() for leaf in leaves]), strict=True):
        leaf.copy_(value.view_as(leaf))


def _scale(leaves: Sequence[Tensor], loss: Loss) -> float:
    """Return the power of two that brings the largest entry of the gradient to about 1."""
    largest = largest_entry(flat(slopes(loss(), leaves)))
    if largest == 0 or not math.isfinite(largest):
        return 1.0
    least, most = (math.frexp(x)[1] for x in _range(leaves[0].dtype))
    return math.ldexp(1.0, min(max(-math.frexp(largest)[1], least), most - 1))


def _range(dtype: torch.dtype) -> tuple[float, float]:
    info = torch.finfo(dtype)
    return info.tiny, info.max
