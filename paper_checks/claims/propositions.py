"""One claim per result: SymPy's proof for every size, and a numerical witness of the formula.

A claim covers entries of the catalogue; every entry belongs to exactly one claim and has a witness
that shares no closed form with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from analysis import catalogue
from analysis.catalogue import Entry
from analysis.derivation import Derivation

from ..conformance.class_problems import ClassProblem, make_class_problem
from ..conformance.strategies import Problem, make_problem
from .categorical_statements import CATEGORICAL
from .claim import Claim, Judgement, Verdict, seeds
from .statements import CONTINUOUS, Proposition
from .witness_table import WITNESSES

PROPOSITIONS = (*CONTINUOUS, *CATEGORICAL)
PROBLEMS = {1: 2, 2: 2}  # random problems by size, else one: searches grow with the size
GENERAL_SIZE = 4  # the size at which formulas for any n are evaluated: beyond the explicit ones
CLASSES = 3  # of categorical results that hold for any number of classes, where one is needed


def claims() -> tuple[Claim, ...]:
    """Return the claim of every proposition."""
    return tuple(
        Claim(
            f"proposition.{item.name}",
            item.statement,
            item.source,
            Verdict.proved,
            partial(judge, item),
        )
        for item in PROPOSITIONS
    )


def key(name: str) -> str:
    """Return the name of a catalogue entry without its size: `outer.objective/full`."""
    family, _, inside = name.partition("[")
    words = re.findall(r"[^,\]]+", inside)
    kept = [word.strip() for word in words if not re.fullmatch(r"\s*(n=\d+|any n)", word)]
    return "/".join([family, *kept])


def size(name: str) -> int:
    """Return the size at which a catalogue entry is evaluated; 1 where it has none."""
    found = re.search(r"n=(\d+)", name)
    return int(found[1]) if found else GENERAL_SIZE if "any n" in name else 1


def judge(proposition: Proposition, seed: int) -> Judgement:
    """Verify the derivations of a proposition, then hold their formulas against the witnesses."""
    entries = [entry for entry in catalogue() if key(entry.name) in proposition.covers]
    if missing := set(proposition.covers) - {key(entry.name) for entry in entries}:
        return Judgement(Verdict.failed, f"the catalogue does not hold {sorted(missing)}")
    return verdict(entries, seed)


def verdict(entries: Sequence[Entry], seed: int) -> Judgement:
    """Return `proved` if every derivation is verified and every witness agrees, else `failed`."""
    derivations = [(entry.name, entry.build()) for entry in entries]
    if failures := [d.failure for _, d in derivations if d.failure is not None]:
        return Judgement(Verdict.failed, failures[0])
    errors = [
        (error(d, name, problem), WITNESSES[key(name)].tolerance, name)
        for name, d in derivations
        for problem in problems(name, seed)
    ]
    worst, tolerance, where = max(errors, key=lambda found: found[0] / found[1])
    holds = worst <= tolerance
    said = "agree" if holds else "DISAGREE"
    return Judgement(
        Verdict.proved if holds else Verdict.failed,
        f"{len(derivations)} derivations proved (residual 0); numbers {said} on {len(errors)} "
        f"random problems: relative error {worst:.0e}, at most {tolerance:.0e} allowed, in {where}",
        ours=worst,
    )


def error(d: Derivation, name: str, problem: Problem | ClassProblem) -> float:
    """Return the relative error of a derivation's formula at a problem."""
    return WITNESSES[key(name)].check(d, problem)


def problems(name: str, seed: int) -> list[Any]:
    """Return the random problems at which a catalogue entry is evaluated.

    They are a `ClassProblem` for categorical entries, whose size is the number of classes, and a
    `Problem` for others.
    """
    n, categorical = size(name), name.startswith("categorical.")
    if categorical and n < 2:
        n = CLASSES
    make = _class_problem if categorical else _problem
    return [make(n, state) for state in seeds(seed, "propositions", PROBLEMS.get(n, 1))]


@cache
def _problem(n: int, seed: int) -> Problem:
    """One object for each problem: what is searched for on it is found once."""
    return make_problem(n, seed)


@cache
def _class_problem(n: int, seed: int) -> ClassProblem:
    return make_class_problem(n, seed)
