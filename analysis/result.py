"""A result: the function that derives it, its address, and the structures and sizes it comes in.

A name is an address. What `analysis.gaussian.outer.hypergradient("full", n=2)` derives is called
`gaussian.outer.hypergradient[full, n=2]` in the catalogue, the claims and every message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from inspect import getdoc, signature
from types import ModuleType
from typing import Any, Generic, ParamSpec

from . import kept
from .calculus.arguments import read_scalar
from .calculus.symbols import EXPLICIT, check_choice, check_dimension, check_explicit, warn_if_slow
from .derivation import Derivation, Key
from .errors import StructureError

P = ParamSpec("P")
SIZES = (1, 2, 3)  # of which the catalogue holds the entries
SAME = "The formula is the same for every n"  # instead of what is slow
ANY = (*SIZES, None)  # and the matrix expression for any n
BETWEEN = ((None, 1),)  # of results on what is lost between dimensions: with one, nothing
CLASSES = (2, 3, 4)  # numbers of classes


@dataclass(frozen=True)
class Entry:
    """A derivation's key and the function that builds it (once: results are kept).

    Args:
        key: its address, variant and size.
        build: returns the derivation.
    """

    key: Key
    build: Callable[[], Derivation]

    @property
    def name(self) -> str:
        """The key, for people."""
        return str(self.key)


class Result(Generic[P]):
    """A function that derives; called with the same values again, it returns the same object.

    Args:
        function: returns the derivation for a variant and a size, without key and statement.
        sizes, variants, n, check, only, quick, statements, zero: as of `result`.
    Attributes:
        derive: the function itself; what it returns has no key, no statement, and is not kept.
        family: the module, without the package: "gaussian.outer".
        name: of the function.
        variants: the structures, or whatever else its first argument may be.
        sizes: those in the catalogue; None among them stands for any n.
        made: what has been derived so far, by variant and size.
    """

    def __init__(
        self,
        function: Callable[P, Derivation],
        sizes: tuple[int | None, ...],
        variants: tuple[Any, ...],
        *,
        n: int | None,
        check: Callable[[Any], int],
        only: str,
        quick: tuple[int, str] | None,
        statements: Mapping[Any, str] | None,
        zero: tuple[tuple[Any, int], ...],
    ) -> None:
        update_wrapper(self, function)
        self.derive = function
        self.family, self.name = function.__module__.partition(".")[2], function.__name__
        self.variants, self.sizes = variants, sizes
        self._statements, self._zero = statements, zero
        self._fixed, self._check, self._only, self._quick = n, check, only, quick
        self._signature = signature(function)
        self._varied = next((name for name in self._signature.parameters if name != "n"), None)
        self.made: dict[tuple[Any, int | None], Derivation] = {}
        self.__doc__ = "\n".join([getdoc(function) or "", *self._values()])

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Derivation:
        given = self._signature.bind(*args, **kwargs).arguments
        return self.of(given[self._varied] if self._varied else None, given.get("n"))

    def __dir__(self) -> list[str]:
        """What the prompt is for: calling it, and what it comes in."""
        inside = (
            "derive",
            "entries",
            "made",
            "of",
        )  # for the catalogue, the proofs and their store
        return [name for name in super().__dir__() if name not in inside]

    def __reduce__(self) -> str:
        return self.name  # pickled by address, as functions are

    def __repr__(self) -> str:
        return f"<result {self.address}({', '.join(self._signature.parameters)})>"

    def of(self, variant: Any, n: int | None) -> Derivation:
        """The derivation for this variant, None where there are none, and this size.

        Raises:
            StructureError: if there is no such variant or size.
        """
        if "n" not in self._signature.parameters:
            if n is not None:
                raise StructureError(f"{self.address} has no sizes; leave n = {n!r} out")
            return self._at(self._read_variant(variant) if self._varied else None, None)
        size = self._read_size(n)
        return self._at(self._read_variant(variant) if self._varied else None, size)

    def _values(self) -> Iterator[str]:
        """Lines for the docstring: the values that the arguments may have, and a call."""
        call = [] if self._varied is None else [repr(self.variants[0])]
        if self._varied is not None or "n" in self._signature.parameters:
            yield "Values:"
        if self._varied is not None:
            more = ", ..." if isinstance(self.variants[0], int) else ""
            yield f"    {self._varied}: {', '.join(map(repr, self.variants))}{more}."
        if "n" in self._signature.parameters:
            sizes = [str(n) for n in self.sizes if n] + ([] if self._only else ["..."])
            yield f"    n: {', '.join(sizes)}{'; None for any n' if None in self.sizes else ''}."
            call.append(f"n={next(n for n in self.sizes if n)}")
        yield f"Example: {self.address}({', '.join(call)})"

    def entries(self) -> Iterator[Entry]:
        """The derivations that the catalogue holds, by structure and size."""
        for variant in self.variants or (None,):
            for n in self.sizes or (None,):
                if (variant, n) not in self._zero:
                    yield Entry(self.key(variant, n), partial(self._at, variant, n))

    @property
    def address(self) -> str:
        """Such as "gaussian.outer.hypergradient"."""
        return f"{self.family}.{self.name}"

    def statement(self, variant: Any = None) -> str:
        """What is stated of this variant: the docstring's first sentence, unless they differ."""
        if self._statements is not None and variant in self._statements:
            return self._statements[variant]
        first, _, _ = (getdoc(self.derive) or "").partition("\n\n")
        return " ".join(first.split()).removesuffix(".")

    def key(self, variant: Any, n: int | None) -> Key:
        """The key of one derivation."""
        size = self._fixed if "n" not in self._signature.parameters else "any" if n is None else n
        return Key(self.family, self.name, variant, size)

    def _at(self, variant: Any, n: int | None) -> Derivation:
        if (variant, n) not in self.made:
            build = partial(self._build, variant, n)
            listed = n in (self.sizes or (None,)) and variant in (self.variants or (None,))
            self.made[variant, n] = kept.once(self.key(variant, n), build) if listed else build()
        return self.made[variant, n]

    def _build(self, variant: Any, n: int | None) -> Derivation:
        key = self.key(variant, n)
        if n is not None and n > EXPLICIT and None in self.sizes:
            return self._at(variant, None).of_size(n)
        if self._quick is not None:
            size = variant if isinstance(variant, int) else n
            warn_if_slow(str(key), size or 0, *self._quick, stacklevel=5)
        values: dict[str, Any] = {} if self._varied is None else {self._varied: variant}
        if "n" in self._signature.parameters:
            values["n"] = n
        found = self.derive(**values)  # pyright: ignore[reportCallIssue]
        return replace(found, key=key, statement=self.statement(variant))

    def _read_variant(self, value: Any) -> Any:
        name = str(self._varied)
        if isinstance(self.variants[0], int):
            return int(read_scalar(name, value))
        if name == "structure" and not (isinstance(value, str) and value in self.variants):
            raise StructureError(f"unknown structure {value!r}; pass one of {self.variants}")
        check_choice(name, value, self.variants)
        return value

    def _read_size(self, n: Any) -> int | None:
        if self._only:
            check_explicit(self.address, n, self.sizes, self._only)
        if n is not None:
            return self._check(n)
        if None not in self.sizes:
            raise StructureError(f"{self.address} has no form for any n; pass n={self.sizes[0]}")
        return None


def result(
    sizes: tuple[int | None, ...] = (),
    variants: tuple[Any, ...] = (),
    *,
    n: int | None = None,
    check: Callable[[Any], int] = check_dimension,
    only: str = "",
    quick: tuple[int, str] | None = None,
    statements: Mapping[Any, str] | None = None,
    zero: tuple[tuple[Any, int], ...] = (),
) -> Callable[[Callable[P, Derivation]], Result[P]]:
    """Make a result of a function that returns a derivation.

    It gets its key from its address, and its statement from the first sentence of its docstring.

    Beyond the sizes that are written out, the form for any n stands in, where there is one.

    Args:
        sizes: values of the argument `n` in the catalogue; None stands for any n.
        variants: values of the other argument, if there is one: structures, kinds of data, sizes.
        n: the size, where it is not an argument.
        check: returns n as an int, or raises StructureError.
        only: why it has no other sizes than these.
        quick: the largest size that takes less than five seconds, and what to ask for instead;
            needed where the sizes have no end: without a form for any n, and without `only`.
        statements: what is stated of each variant, where that differs.
        zero: variants and sizes where it is 0 whatever the arguments: not in the catalogue, as a
            proof that 0 = 0 proves nothing.
    """
    return lambda function: Result(
        function,
        sizes,
        variants,
        n=n,
        check=check,
        only=only,
        quick=quick,
        statements=statements,
        zero=zero,
    )


def results_in(*modules: ModuleType) -> tuple[Result[...], ...]:
    """The results that the modules define, in the order in which they are read."""
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Result) and value.__module__ == module.__name__
    )
