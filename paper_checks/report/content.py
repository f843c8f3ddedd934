"""What the page says: derivations, claims with their verdicts, figures, and where all come from."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from analysis.calculus.printing import latex
from analysis.derivation import Derivation
from analysis.explain import places, result_of, smallest, title
from analysis.result import Entry
from analysis.source import Place

from .. import explain, store
from ..claims.catalogue import all_claims
from ..claims.theory import PROPOSITIONS
from . import mutants

VERDICTS = "claims.json"
KINDS = {"fingerprint": str, "files": list}


@dataclass(frozen=True)
class Formula:
    """A result, derived and verified.

    Attributes:
        name: its address, with the variant.
        derivation: for any n where there is such a form, else of the smallest size.
        claims: names of the claims about it.
        places: lines of derivation, stated side, solver, check, and so on, by kind.
    """

    name: str
    derivation: Derivation
    claims: tuple[str, ...]
    places: Mapping[str, tuple[Place, ...]]

    @property
    def status(self) -> str:
        """Verified, or what fails."""
        return self.derivation.failure or "verified"

    @property
    def steps(self) -> Iterator[tuple[str, str]]:
        """What was done, and the LaTeX of what it gave."""
        for step in self.derivation.steps:
            yield step.text, latex(step.expression)


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict, None where it was not judged yet.

    Attributes:
        record: of claims.json; without "verdict" where there is none.
        formulas: names of the results that it is about.
        figure: name of the figure that it is about, "" if there is none.
    """

    record: Mapping[str, Any]
    formulas: tuple[str, ...]
    figure: str

    @property
    def name(self) -> str:
        """Dotted, the most general part first."""
        return self.record["name"]

    @property
    def verdict(self) -> str:
        """One word or two."""
        return self.record.get("verdict", "not judged")


@dataclass(frozen=True)
class Drawn:
    """A picture that was drawn.

    Attributes:
        name: of its files.
        picture: the PNG, as a data URI.
        caption: what the picture shows, in paragraphs.
        summary: its numbers, a Markdown table; "" if there is none.
        record: the commit, versions and verdict of the gate that it was drawn with.
        claims: names of the claims about it.
    """

    name: str
    picture: str
    caption: tuple[str, ...]
    summary: str
    record: Mapping[str, Any]
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """All of the page."""

    formulas: tuple[Formula, ...]
    claims: tuple[Judged, ...]
    figures: tuple[Drawn, ...]
    mutants: mutants.Matrix | None
    provenance: Mapping[str, Any]
    seed: int | None

    def counts(self) -> dict[str, int]:
        """How often each verdict was reached."""
        verdicts = [claim.verdict for claim in self.claims]
        return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}


def gather(kept: store.Store) -> Content:
    """Read verdicts and pictures from a store, and derive the results.

    Raises:
        StoreError: a file of the store is damaged, or not of this project.
    """
    verdicts = store.read_record(kept.root / VERDICTS, {"seed": int, "claims": list}) or {}
    names = _pictures(kept)
    judged = _claims(verdicts.get("claims", ()), tuple(names))
    formulas = tuple(_formula(entry, judged) for entry in smallest())
    return Content(
        formulas=formulas,
        claims=judged,
        figures=tuple(_drawn(kept, name, record, judged) for name, record in names.items()),
        mutants=mutants.matrix(mutants.kept(kept.root), _subjects(judged, formulas)),
        provenance=store.provenance(),
        seed=verdicts.get("seed"),
    )


def _claims(records: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> tuple[Judged, ...]:
    """Every claim there is, with its record where it was judged."""
    known = {record["name"]: record for record in records}
    formulas = {
        f"proposition.{item.name}": tuple(
            dict.fromkeys(title(entry) for check in item.checks for entry in check.entries())
        )
        for item in PROPOSITIONS
    }
    found: list[Judged] = []
    for claim in all_claims():
        plain = {"name": claim.name, "statement": claim.statement, "source": claim.source}
        subject = claim.name.partition(".")[0]
        figure = subject if subject in figures else ""
        record = known.get(claim.name, plain)
        found.append(Judged(record, formulas.get(claim.name, ()), figure))
    return tuple(found)


def _formula(entry: Entry, claims: Sequence[Judged]) -> Formula:
    name = title(entry)
    result = result_of(entry)
    derivation = result.of(entry.key.variant, None) if None in result.sizes else entry.build()
    where = {**places(result), **explain.places((entry,))}
    about = tuple(claim.name for claim in claims if name in claim.formulas)
    return Formula(name, derivation, about, where)


def _subjects(claims: Sequence[Judged], formulas: Sequence[Formula]) -> Iterator[mutants.Subject]:
    """The claims about formulas, and the modules that these are in."""
    for claim in claims:
        about = [formula for formula in formulas if claim.name in formula.claims]
        modules = {
            at.path
            for formula in about
            for kind in ("derivation", "stated", "solver")
            for at in formula.places.get(kind, ())
        }
        names = (claim.name.removeprefix("proposition."), *(formula.name for formula in about))
        if modules:
            yield mutants.Subject(claim.name, frozenset(modules), names)


def _pictures(kept: store.Store) -> dict[str, Mapping[str, Any]]:
    """The records of the pictures that are complete, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(kept.figures.glob("*.json")):
        record = store.read_record(path, KINDS)
        files = [kept.root / name for name in (record or {}).get("files", ())]
        png = kept.figures / f"{path.stem}.png"
        if record and png in files and all(file.exists() for file in files):
            found[path.stem] = record
    return found


def _drawn(
    kept: store.Store, name: str, record: Mapping[str, Any], claims: Sequence[Judged]
) -> Drawn:
    caption = (kept.figures / f"{name}.txt").read_text(encoding="utf-8")
    summary = kept.tables / f"{name}.md"
    return Drawn(
        name=name,
        picture=_embedded(kept.figures / f"{name}.png"),
        caption=tuple(line for line in caption.splitlines() if line.strip()),
        summary=summary.read_text(encoding="utf-8") if summary.exists() else "",
        record=record,
        claims=tuple(claim.name for claim in claims if claim.figure == name),
    )


def _embedded(png: Path) -> str:
    """The picture as a data URI, with 256 colours: a third of the size, the same to the eye."""
    buffer = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
