"""What `conform` found: one row per identity."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.calculus.symbols import Structure


@dataclass(frozen=True)
class Row:
    """One identity, for one covariance structure of the policy.

    Attributes:
        identity: what should hold.
        structure: of the policy's covariance.
        examples: random problems tried, up to the first that failed.
        message: None if it held; else what was compared with what at the smallest failing inputs.
    """

    identity: str
    structure: Structure
    examples: int
    message: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it held at every example."""
        return self.message is None


@dataclass(frozen=True)
class Report:
    """All identities of one function.

    Attributes:
        function: name of the function.
        kind: "inner solution", "hypergradient" or "policy-gradient estimator", or one of bits.
        because: the signature it was taken for, and the names of parameters that chose it.
        rows: one per identity and structure. Where a result cannot be compared (the first row of
            a structure), the other identities of that structure are left out.
    """

    function: str
    kind: str
    because: str
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if not row.passed)

    @property
    def passed(self) -> bool:
        """Whether every identity held."""
        return not self.failures

    def __str__(self) -> str:
        head = f"{self.function}, {self.kind}: {len(self.failures)} of {len(self.rows)} checks fail"
        lines = [
            f"  {'holds' if row.passed else 'FAILS'}  {row.identity}, {row.structure}"
            for row in self.rows
        ]
        if self.failures:
            lines.append(f"\n{self.because}")
        return "\n".join([head, *lines, *(f"\n{row.message}" for row in self.failures)])
