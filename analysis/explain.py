"""`explain`: a result by any of its names: its formula, its status, and where it is written.

>>> from analysis import explain
>>> explain("mean field")
2 results match 'mean field':
  gaussian.mean_field.shrinkage: P_ii = 1/(Σ⁻¹)_ii <= Σ_ii for a diagonal policy trained with \
U = (λ/2)Σ⁻¹
  gaussian.mean_field.cost: ½ Σ_i (ρ_i - 1 - log ρ_i), ρ_i = Σ_ii (Σ⁻¹)_ii: nats lost against the \
best diagonal policy
"""

from __future__ import annotations

import ast
import difflib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from . import source
from .catalogue import DERIVATIONS
from .derivation import Derivation
from .errors import UnknownResultError
from .result import Entry, Result
from .source import Place

_RESULTS = {result.address: result for result in DERIVATIONS}
Words = Callable[[Entry], Iterable[str]]
"""More names under which an entry can be found, such as those of solvers and claims."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """A result: what it says and where it is written.

    Attributes:
        result: the result.
        derivations: of each variant asked for, of the smallest size.
        places: as `places` returns them.
    """

    result: Result[...]
    derivations: tuple[Derivation, ...]
    places: dict[str, tuple[Place, ...]]

    def __repr__(self) -> str:
        return "\n".join([*self.formula(), "", *table(self.places)])

    def formula(self) -> list[str]:
        """Lines: statement, assumptions, expression and status of each variant."""
        return "\n\n".join(str(derivation) for derivation in self.derivations).splitlines()

    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "address": self.result.address,
            "variants": [
                {
                    "name": d.name,
                    "statement": d.statement,
                    "symbol": d.symbol,
                    "expression": str(d.stated),
                    "latex": d.latex(),
                    "assumptions": list(d.assumptions),
                    "source": d.source,
                    "status": "verified" if d.failure is None else d.failure,
                }
                for d in self.derivations
            ],
            "places": as_data(self.places),
        }


@dataclass(frozen=True, eq=False)
class Matches:
    """Results that a name may mean, or all of them."""

    asked: str
    entries: tuple[Entry, ...]

    def __repr__(self) -> str:
        found = f"match {self.asked!r}" if self.asked else "in all"
        lines = [f"{len(self.entries)} results {found}:"]
        lines += [f"  {title(e)}: {statement(e)}" for e in self.entries]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        return {"matches": [{"address": title(e), "statement": statement(e)} for e in self.entries]}


def explain(name: str) -> Explanation | Matches:
    """Explain the result of this name, or list those that it may mean.

    Args:
        name: an address, a part of one, words of the statement or formula. Case, spaces, hyphens
            and underscores do not count; Greek letters may be spelled out, "lambda" for λ.
    Returns:
        What is printed: formula, assumptions, status, and the lines of both sides.
    Raises:
        UnknownResultError: if nothing matches; it proposes the nearest names.
    """
    found = find(name)
    if len({entry.key.address for entry in found}) > 1:
        return Matches(name, found)
    return explanation(found)


def listing(words: str = "") -> Matches:
    """List the results, each structure once: all, or those with the words in name or formula.

    Args:
        words: as the name that `explain` takes; none for all.
    Raises:
        UnknownResultError: if nothing matches.
    """
    every = isinstance(words, str) and not words  # pyright: ignore[reportUnnecessaryIsInstance]
    return Matches(words, smallest() if every else find(words))


def explanation(entries: tuple[Entry, ...]) -> Explanation:
    """Explain the one result that all the entries belong to."""
    result = result_of(entries[0])
    where = places(result)
    return Explanation(result, tuple(entry.build() for entry in entries), where)


def places(result: Result[...]) -> dict[str, tuple[Place, ...]]:
    """Where a result is derived and where it is stated.

    Raises:
        UnknownResultError: if its function is not at the top level of its module.
    """
    where = source.place(f"analysis.{result.address}")
    if where is None:
        raise UnknownResultError(f"{result.address} is not at the top level of its module")
    return {"derivation": (where,), "stated": stated_places(result)}


def find(name: str, words: Words = lambda entry: ()) -> tuple[Entry, ...]:
    """The entries that a name means, one per variant, each of the smallest size.

    The first of these that is not empty: the address; the end of an address; another name, as it
    is; all words in the address and variant, or all of the name in a formula; all words anywhere.

    Args:
        name: as in `explain`.
        words: more names of an entry.
    Raises:
        UnknownResultError: if nothing matches.
    """
    _check_text(name)
    entries = smallest()
    asked, parts = plain(name), [plain(part) for part in name.replace(".", " ").split()]
    parts = [part for part in parts if part]
    rules: tuple[Callable[[Entry], bool], ...] = (
        lambda e: asked in (plain(e.key.address), plain(title(e)), plain(e.name)),
        lambda e: plain(e.key.address).endswith(f".{asked}"),
        lambda e: asked in map(plain, words(e)),
        lambda e: (
            all(part in plain(title(e)) for part in parts)
            or any(asked in plain(text) for text in (statement(e), *words(e)))
        ),
        lambda e: all(
            any(part in plain(text) for text in (title(e), statement(e), *words(e)))
            for part in parts
        ),
    )
    for rule in rules:
        found = tuple(entry for entry in entries if asked and rule(entry))
        if found:
            return found
    raise UnknownResultError(_unknown(name, entries, words))


def _check_text(name: object) -> None:
    if not isinstance(name, str):
        raise UnknownResultError(
            f"{name!r} is no name: pass text, such as 'gaussian.mean_field.cost' or 'mean field'"
        )


def smallest() -> tuple[Entry, ...]:
    """One entry for each result and structure (or kind of data), of the smallest size."""
    kept: dict[tuple[str, Any], Entry] = {}
    for result in DERIVATIONS:
        for entry in result.entries():
            sized = isinstance(entry.key.variant, int)  # the size of a group, no structure
            kept.setdefault((entry.key.address, None if sized else entry.key.variant), entry)
    return tuple(kept.values())


def title(entry: Entry) -> str:
    """The address, with the variant where there are some with a name."""
    variant = entry.key.variant
    return f"{entry.key.address}[{variant}]" if isinstance(variant, str) else entry.key.address


def statement(entry: Entry) -> str:
    """What is stated of the entry, without building it."""
    return result_of(entry).statement(entry.key.variant)


def result_of(entry: Entry) -> Result[...]:
    """The result that the entry is a derivation of."""
    return _RESULTS[entry.key.address]


def table(places: dict[str, tuple[Place, ...]]) -> list[str]:
    """Lines: what it is, and where."""
    wide = max(map(len, places)) + 2
    return [
        f"  {kind if i == 0 else '':<{wide}}{place}"
        for kind, found in places.items()
        for i, place in enumerate(found)
    ]


def as_data(places: dict[str, tuple[Place, ...]]) -> dict[str, list[dict[str, Any]]]:
    """The places as plain data."""
    return {kind: [asdict(place) for place in found] for kind, found in places.items()}


def stated_places(result: Result[...]) -> tuple[Place, ...]:
    """The functions of `stated` modules that the stated side of a derivation calls.

    Those that the argument `stated` names; if none, those that the function names; if none, those
    that the private functions it calls name.
    """
    module = source.read(f"analysis.{result.family}")
    node = module.definitions.get(result.name) if module else None
    if module is None or node is None:
        return ()
    sides = [k.value for k in ast.walk(node) if isinstance(k, ast.keyword) and k.arg == "stated"]
    helpers = [
        module.definitions[name.rpartition(".")[2]]
        for name, _ in module.names_in(node)
        if name.startswith(f"{module.name}._") and name.rpartition(".")[2] in module.definitions
    ]
    for nodes in (sides, [node], helpers):
        found = [name for inside in nodes for name, _ in module.names_in(inside)]
        places = [
            source.place(name) for name in found if name.rpartition(".")[0].endswith(".stated")
        ]
        if kept := tuple(dict.fromkeys(place for place in places if place is not None)):
            return kept
    return ()


def plain(text: str) -> str:
    """Text by which names are compared: lower case, Greek spelled out, no space, hyphen, `_`."""
    letters: list[str] = []
    for letter in unicodedata.normalize("NFKD", text):
        if letter.isspace() or letter in "_-−\\" or unicodedata.combining(letter):
            continue
        named = unicodedata.name(letter, "").split()
        if named[:1] == ["GREEK"] and "LETTER" in named:
            letters.append(named[named.index("LETTER") + 1].replace("LAMDA", "LAMBDA"))
        else:
            letters.append(_SPELLED.get(letter, letter))
    return "".join(letters).lower()


_SPELLED = {
    "⁄": "/",
    "∇": "grad",
    "∂": "d",
    "‖": "||",
    "√": "sqrt",
    "∞": "inf",
    "→": ">",
    "≠": "!=",
}


def _unknown(name: str, entries: tuple[Entry, ...], words: Words) -> str:
    known: dict[str, str] = {}
    for entry in entries:
        address = entry.key.address
        parts = address.split(".")
        for text in (address, ".".join(parts[-2:]), parts[-1], *words(entry)):
            known.setdefault(plain(text), text)
    near = difflib.get_close_matches(plain(name), known, n=5, cutoff=0.5)
    proposed = ", ".join(known[text] for text in near)
    hint = f"the nearest names are {proposed}" if proposed else "`catalogue()` lists them all"
    return f"no result is called {name!r}, and no formula has it; {hint}"
