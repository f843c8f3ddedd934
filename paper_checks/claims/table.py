"""Results of the checks as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from .claim import Claim, Result, Verdict, counts

COLOURS = {
    Verdict.proved: "green",
    Verdict.reproduced: "green",
    Verdict.corrected: "yellow",
    Verdict.not_reproduced: "red",
    Verdict.failed: "red",
}


def overview(results: Sequence[Result]) -> Table:
    """Return one row per subject: how many claims of each verdict, and which ones are no success.

    The subject is the first part of a claim's name.
    """
    table = Table(expand=True, box=box.HORIZONTALS)
    table.add_column("about")
    for verdict in counts(results):
        table.add_column(str(verdict), justify="right", style=COLOURS[verdict])
    table.add_column("what does not hold as published", ratio=1, overflow="fold")
    for subject in dict.fromkeys(_subject(result) for result in results):
        some = [result for result in results if _subject(result) == subject]
        found = counts(some)
        numbers = [str(found[v]) if v in found else "" for v in counts(results)]
        table.add_row(subject, *numbers, escape(", ".join(_exceptions(some))))
    return table


def _subject(result: Result) -> str:
    return result.claim.name.partition(".")[0]


def _exceptions(results: Sequence[Result]) -> Iterator[str]:
    """Names of claims that do not hold as published, without the subject; marked if unexpected."""
    for result in results:
        name = result.claim.name.partition(".")[2] or result.claim.name
        if not result.as_expected:
            yield f"{name} (expected: {result.claim.expected})"
        elif result.judgement.verdict not in (Verdict.proved, Verdict.reproduced):
            yield name


def shown(results: Sequence[Result]) -> Table:
    """Return one row per claim: what it says, the verdict, the numbers, the evidence."""
    table = Table(show_lines=True, expand=True, box=box.HORIZONTALS)
    table.add_column("claim (source)", width=38, overflow="fold")  # no name is longer
    table.add_column("verdict", width=10)
    table.add_column("ours, published", width=17, overflow="fold")
    table.add_column("evidence", ratio=1, overflow="fold")
    for result in results:
        claim, judgement = result.claim, result.judgement
        verdict = f"[{COLOURS[judgement.verdict]}]{judgement.verdict}[/]"
        if not result.as_expected:
            verdict += f"\n[bold red]expected: {claim.expected}[/]"
        table.add_row(
            f"[bold]{escape(claim.name)}[/]\n{escape(claim.statement)} "
            f"[dim]({escape(claim.source)})[/]",
            verdict,
            escape(_numbers(result)),
            escape(judgement.evidence),
        )
    return table


def summary(results: Sequence[Result]) -> str:
    """Return one line: how many claims, how many of each verdict, how many as expected."""
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts(results).items())
    surprises = [result.claim.name for result in results if not result.as_expected]
    end = f"; NOT as expected: {', '.join(surprises)}" if surprises else "; all as expected"
    return f"{len(results)} claims: {found}{end}"


def to_json(results: Sequence[Result], seed: int, provenance: Mapping[str, Any]) -> str:
    """Return everything in the table, for machines; numbers that are not finite become null."""
    content = {
        "seed": seed,
        "provenance": provenance,
        "as_expected": all(result.as_expected for result in results),
        "counts": {str(verdict): count for verdict, count in counts(results).items()},
        "claims": [_record(result) for result in results],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def list_json(claims: Sequence[Claim]) -> str:
    """Return the claims without judging them."""
    return json.dumps([_describe(claim) for claim in claims], indent=2, ensure_ascii=False)


def _describe(claim: Claim) -> dict[str, Any]:
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "expected": str(claim.expected),
    }


def _record(result: Result) -> dict[str, Any]:
    judgement, interval = result.judgement, result.judgement.interval
    return {
        **_describe(result.claim),
        "verdict": str(judgement.verdict),
        "as_expected": result.as_expected,
        "ours": _finite(judgement.ours),
        "interval": None
        if interval is None
        else {
            "low": _finite(interval.low),
            "high": _finite(interval.high),
            "level": interval.level,
        },
        "published": _finite(judgement.published),
        "evidence": judgement.evidence,
        "seconds": round(result.seconds, 2),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _numbers(result: Result) -> str:
    judgement, interval = result.judgement, result.judgement.interval
    lines = [] if judgement.ours is None else [f"{judgement.ours:.3g}"]
    if interval is not None:
        lines.append(f"[{interval.low:.3g}, {interval.high:.3g}]")
    if judgement.published is not None:
        lines.append(f"published {judgement.published:.3g}")
    return "\n".join(lines)
