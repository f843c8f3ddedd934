"""``python -m paper_checks explain NAME``: a result, its formula, and every place that has it.

Everything is read from the sources: propositions, solvers, identities, experiments and figures are
not imported, so that no torch is.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import BAD_USAGE, stop

# SymPy is imported where it is used: listing the commands needs none.
if TYPE_CHECKING:
    from analysis.explain import Explanation, Matches
    from analysis.result import Entry
    from analysis.source import Module, Place

THEORY = "paper_checks.claims.theory"
IDENTITIES = "tests.gate.identities"
EXPERIMENTS = "paper_checks.experiments"
FIGURES = "figures"


@dataclass(frozen=True)
class Checked:
    """A result of `analysis` in a proposition, as it is written there.

    Attributes:
        address: of the result.
        variant: the one that is checked; None for all.
        witness: dotted name of the function that witnesses it.
    """

    address: str
    variant: str | None
    witness: str


@dataclass(frozen=True)
class Written:
    """A proposition, as it is written.

    Attributes:
        name: of the claim, without "proposition.".
        statement: in one line.
        solver: as "module:name"; "" where there is none.
        checks: the results in it.
        place: the line where it begins.
    """

    name: str
    statement: str
    solver: str
    checks: tuple[Checked, ...]
    place: Place

    def covers(self, entry: Entry) -> bool:
        """Whether it says something of this entry."""
        return any(
            check.address == entry.key.address and check.variant in (None, entry.key.variant)
            for check in self.checks
        )


def explain(name: str) -> tuple[Explanation | Matches, dict[str, tuple[Place, ...]]]:
    """Explain the result of this name, or list those that it may mean.

    Args:
        name: as `analysis.explain` takes it, or the name of a solver or of a claim.
    Returns:
        What `analysis.explain` returns, and the places where the one result is implemented,
        witnessed, claimed, tested and used, by kind; no places for several results.
    Raises:
        UnknownResultError: if nothing matches; it proposes the nearest names.
    """
    from analysis.explain import Matches, explanation, find

    found = find(name, words)
    if len({entry.key.address for entry in found}) > 1:
        return Matches(name, found), {}
    explained = explanation(found)
    return explained, {**explained.places, **places(found)}


def words(entry: Entry) -> Iterator[str]:
    """The names of the solvers and claims of an entry, and what the claims state."""
    for item in propositions():
        if item.covers(entry):
            module, _, name = item.solver.partition(":")
            yield from (item.name, f"proposition.{item.name}", item.statement)
            if name:
                yield from (name, item.solver, f"{module}.{name}")


def places(entries: tuple[Entry, ...]) -> dict[str, tuple[Place, ...]]:
    """Where else the result of these entries occurs, by kind."""
    from analysis.source import place

    address = entries[0].key.address
    covering = [item for item in propositions() if any(item.covers(e) for e in entries)]
    solvers = [place(item.solver.replace(":", ".")) for item in covering if item.solver]
    witnesses = [
        place(check.witness)
        for item in covering
        for check in item.checks
        if check.address == address
        and any(check.variant in (None, entry.key.variant) for entry in entries)
    ]
    found = {
        "solver": solvers,
        "check": witnesses,
        "claim": [item.place for item in covering],
        "identity": list(_identities(f"analysis.{address}")),
        "experiment": list(_experiments(f"analysis.{address}")),
        "figure": list(_figures(f"analysis.{address}")),
    }
    return {
        kind: tuple(dict.fromkeys(where for where in some if where is not None))
        for kind, some in found.items()
        if some
    }


@cache
def propositions() -> tuple[Written, ...]:
    """Every proposition, as the modules of `claims.theory` write it."""
    from analysis.source import modules

    return tuple(
        _proposition(module, node)
        for module in modules(THEORY)
        if module.name != THEORY
        for node in _entries(module, "PROPOSITIONS")
    )


def _entries(module: Module, name: str) -> Iterator[ast.Call]:
    """The calls in a tuple that a module defines."""
    node = module.definitions.get(name)
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        yield from (entry for entry in node.value.elts if isinstance(entry, ast.Call))


def _proposition(module: Module, node: ast.Call) -> Written:
    from analysis.source import ROOT, Place

    name, statement, _, checks = node.args
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    text = ast.literal_eval(name)
    return Written(
        name=text,
        statement=ast.literal_eval(statement),
        solver=ast.literal_eval(named["solver"]) if "solver" in named else "",
        checks=tuple(_check(module, check) for check in ast.walk(checks) if _is_check(check)),
        place=Place(module.path.relative_to(ROOT).as_posix(), node.lineno, f"proposition.{text}"),
    )


def _is_check(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check"
    )


def _check(module: Module, node: Any) -> Checked:
    result, witness, _, *variant = node.args
    if isinstance(witness, ast.Call):  # partial(witness, ...)
        witness = witness.args[0]
    return Checked(
        address=_full_name(module, result).removeprefix("analysis."),
        variant=ast.literal_eval(variant[0]) if variant else None,
        witness=_full_name(module, witness),
    )


def _full_name(module: Module, node: ast.expr) -> str:
    return max((name for name, _ in module.names_in(node)), key=len)


def _identities(result: str) -> Iterator[Place | None]:
    """The identities of the gate that use a result, directly or through `conformance`."""
    from analysis.source import modules, uses

    for module in modules(IDENTITIES):
        for name in module.definitions:
            used = uses(f"{module.name}.{name}", IDENTITIES, "paper_checks.conformance")
            if not name.startswith("_") and result in used:
                yield module.place(name)


def _experiments(result: str) -> Iterator[Place | None]:
    """The definitions in experiments that name a result."""
    from analysis.source import mentions, modules

    for module in modules(EXPERIMENTS):
        for name in module.definitions:
            if result in mentions(f"{module.name}.{name}"):
                yield module.place(name)


def _figures(result: str) -> Iterator[Place | None]:
    """What draws the figures whose experiment, or drawing, uses a result."""
    from analysis.source import modules, uses

    inside = (EXPERIMENTS, FIGURES)
    for module in modules(FIGURES):
        subject = module.name.rpartition(".")[2]
        for name in module.definitions:
            if name == "draw" or name.startswith("draw_"):
                run, drawing = f"{EXPERIMENTS}.{subject}.run", f"{module.name}.{name}"
                if result in uses(run, *inside) | uses(drawing, *inside):
                    yield module.place(name)


def explain_command(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="An address or a part of one, words of a formula, a solver, a claim.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only JSON.")] = False,
) -> None:
    """Show a result: its formula, its status, and the line of each place that has it."""
    from analysis.errors import UnknownResultError
    from analysis.explain import Explanation, as_data, table

    try:
        found, where = explain(" ".join(name))
    except UnknownResultError as error:
        stop(str(error), BAD_USAGE)
    if as_json:
        data = found.data() | ({"places": as_data(where)} if where else {})
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    elif isinstance(found, Explanation):
        typer.echo("\n".join([*found.formula(), "", *table(where)]))
    else:
        typer.echo(repr(found))
