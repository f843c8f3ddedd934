"""What a claim is, what a judgement of it holds, and how one is reached."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..statistics import Interval


class Verdict(StrEnum):
    """How a claim fares. Verdicts are computed from results, never written down."""

    proved = "proved"
    reproduced = "reproduced"
    not_reproduced = "not reproduced"
    corrected = "corrected"
    failed = "failed"


@dataclass(frozen=True)
class Judgement:
    """The outcome of a check.

    Attributes:
        verdict: what follows from the numbers below.
        evidence: in words, what was compared, with the bound it was held against.
        ours: the statistic that decides.
        interval: around `ours`, or where the published value is expected.
        published: the value of the paper or of its code, on the scale of `ours`.
    """

    verdict: Verdict
    evidence: str
    ours: float | None = None
    interval: Interval | None = None
    published: float | None = None


@dataclass(frozen=True)
class Claim:
    """A statement that can turn out wrong.

    Attributes:
        name: dotted, the most general part first: `--only` selects by prefix.
        statement: in one line.
        source: the item of the paper, or "new" for what this project adds.
        expected: the verdict this project stands for; another one is an error.
        judge: from a seed to the judgement.
    """

    name: str
    statement: str
    source: str
    expected: Verdict
    judge: Callable[[int], Judgement]


@dataclass(frozen=True)
class Result:
    """A claim and what became of it."""

    claim: Claim
    judgement: Judgement
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one this project stands for."""
        return self.judgement.verdict is self.claim.expected


def judge(claim: Claim, seed: int) -> Judgement:
    """Return the judgement; a computation that breaks down is a failed check with its message."""
    try:
        return claim.judge(seed)
    # The errors of the project and of numerical libraries: singular matrices, diverged searches.
    except (ValueError, ArithmeticError, RuntimeError) as error:
        return Judgement(Verdict.failed, f"{type(error).__name__}: {error}")


def counts(results: Iterable[Result]) -> dict[Verdict, int]:
    """Return how often each verdict was reached, in the order of `Verdict`."""
    found = Counter(result.judgement.verdict for result in results)
    return {verdict: found[verdict] for verdict in Verdict if found[verdict]}


def seeds(seed: int, purpose: str, count: int) -> tuple[int, ...]:
    """Return `count` seeds that belong to a purpose: other purposes get others."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    return tuple(int(state) for state in sequence.generate_state(count))
