"""One claim per proposition: SymPy's proof for every size, and a numerical witness of each formula.

A witness shares no closed form with what it checks: searches, quadratures, automatic and finite
differences on the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from analysis.derivation import Derivation, Key
from analysis.result import Entry, Result

from ...conformance.class_problems import ClassProblem, make_class_problem
from ...conformance.strategies import Problem, make_problem
from ...conformance.tolerances import Z_MAX
from ..claim import Claim, Judgement, Verdict, seeds

Witness = Callable[[Derivation, Any], float]  # its error at a random problem, relative or in SE

# Largest relative errors, by what limits the witness; problems have condition numbers to 1e3.
EXACT = 1e-7  # closed forms and Newton's method: 1e-10 times the condition number
SEARCH = 1e-6  # a search that stopped at a slope of 1e-8 to 1e-6
DIFFERENCES = 1e-5  # central differences with relative step 1e-4
SAMPLED = Z_MAX  # Monte Carlo: in standard errors of the mean, not relative

PROBLEMS = {1: 2, 2: 2}  # random problems by size, else one: searches grow with the size
GENERAL_SIZE = 4  # the size at which formulas for any n are evaluated: beyond the explicit ones
CLASSES = 3  # of categorical results that hold for any number of classes, where one is needed


@dataclass(frozen=True)
class Check:
    """A result, who witnesses its formula, and the largest relative error that may show.

    Attributes:
        result: of `analysis`.
        witness: at a `ClassProblem` for categorical results, at a `Problem` for others.
        tolerance: of the witness; `SAMPLED` where it draws samples.
        variant: which of the result's variants, such as "full"; None for all.
    """

    result: Result[...]
    witness: Witness
    tolerance: float
    variant: str | None = None

    def entries(self) -> tuple[Entry, ...]:
        """The entries of the catalogue that this covers."""
        found = self.result.entries()
        return tuple(e for e in found if self.variant in (None, e.key.variant))


@dataclass(frozen=True)
class Proposition:
    """What is stated in one line, and the checks that make it up.

    Attributes:
        solver: what of `solvers` implements it, as "module:name"; "" where nothing does.
    """

    name: str
    statement: str
    source: str
    checks: tuple[Check, ...]
    solver: str = ""


def claim(item: Proposition) -> Claim:
    """The claim that a proposition holds."""
    name = f"proposition.{item.name}"
    return Claim(name, item.statement, item.source, Verdict.proved, partial(judge, item))


def judge(item: Proposition, seed: int) -> Judgement:
    """Return `proved` if every derivation is verified and every witness agrees, else `failed`."""
    return verdict([(check, entry) for check in item.checks for entry in check.entries()], seed)


def verdict(covered: Sequence[tuple[Check, Entry]], seed: int) -> Judgement:
    """Verify the derivations, then hold their formulas against the witnesses."""
    derivations = [(check, entry.build()) for check, entry in covered]
    if failures := [d.failure for _, d in derivations if d.failure is not None]:
        return Judgement(Verdict.failed, failures[0])
    errors = [
        (check.witness(d, problem), check.tolerance, d.name)
        for check, d in derivations
        for problem in problems(d.key, seed)
    ]
    holds = all(error <= tolerance for error, tolerance, _ in errors)  # NaN is not
    worst, tolerance, where = max(
        errors, key=lambda found: math.inf if math.isnan(found[0]) else found[0] / found[1]
    )
    said = "agree" if holds else "DISAGREE"
    unit = "standard errors" if tolerance == SAMPLED else "relative error"
    return Judgement(
        Verdict.proved if holds else Verdict.failed,
        f"{len(derivations)} derivations proved (residual 0); numbers {said} on {len(errors)} "
        f"random problems: {unit} {worst:.0e}, at most {tolerance:.0e} allowed, in {where}",
        ours=worst,
    )


def problems(key: Key, seed: int) -> list[Any]:
    """Return the random problems at which a derivation is evaluated.

    They are a `ClassProblem` for categorical results, whose size is the number of classes, and for
    those on sequences, of which each is a class; a `Problem` for others.
    """
    sequences = key.family.startswith("sequences.")
    categorical = sequences or key.family.startswith("categorical.")
    n = GENERAL_SIZE if key.n == "any" else key.n or (CLASSES if categorical else 1)
    make = _class_problem if categorical else _problem
    size = 2**n if sequences else n
    return [make(size, state) for state in seeds(seed, "propositions", PROBLEMS.get(n, 1))]


@cache
def _problem(n: int, seed: int) -> Problem:
    """One object for each problem: what is searched for on it is found once."""
    return make_problem(n, seed)


@cache
def _class_problem(n: int, seed: int) -> ClassProblem:
    return make_class_problem(n, seed)
