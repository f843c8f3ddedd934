"""The prompt of ``python -m analysis``: its guide, its names, and its commands.

In Jupyter, or any IPython, ``%load_ext analysis.repl`` brings the same names and commands.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

import sympy as sp
from IPython import start_ipython
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from sympy.interactive.printing import init_printing
from traitlets.config import Config

import analysis

from . import errors
from .calculus.symbols import QUANTITIES, symbol
from .errors import StructureError, UnknownResultError
from .explain import Explanation, Matches, explain, listing
from .show import Shown, read_size, show

GUIDE = """\
Train a model by policy gradient on the reward that makes the data most likely: the mathematics.

  h = gaussian.outer.hypergradient("full", n=2)   a result, derived; n=None: for any n
  h.at(U=..., lam=..., Sigma=...)                 its value at numbers
  h.stated  h.derived  h.residual()  h.verify()  h.steps  h.assumptions  h.latex()
  help(gaussian.mean_field.cost)                  what it says, and the values it takes

  y_hat, y = outcome(1)                           a reward of yours: both levels, solved
  derive(-u * (y_hat - y) ** 2, Gaussian(1), KL())   Bits, Classes, Entropy, ...: help(derive)

  %list [WORDS]                  results; those with the words in name or formula
  %show NAME [--n 2] [--latex]   a result with its steps; --n any: for any n
  %explain NAME                  a result, and the lines where it is derived and stated
  python -m paper_checks explain NAME (in a shell): its solver, check, claim and figure, too

NAME is an address, a part of one, or words of a formula: %explain λ/(2 U_ii)
Tab shows what a package has:
{packages}
Symbols: lam, u, s, sigma, ... are scalars; U, Sigma, P, mu, m, ... matrices and vectors of any
size n, and symbol("U", 2) has entries. sp is SymPy.
"""
T = TypeVar("T")


def guide() -> str:
    """One screen: what there is, and how to ask for it."""
    packages = [name for name in analysis.__all__ if inspect.ismodule(getattr(analysis, name))]
    lines = textwrap.fill(", ".join(packages), 90, initial_indent="  ", subsequent_indent="  ")
    return GUIDE.format(packages=lines)


def names() -> dict[str, Any]:
    """What the prompt knows: the symbols, SymPy as sp, and everything public of `analysis`."""
    sized = ("probabilities", "bits")  # these have no form for any n
    return {
        **{name: symbol(name, None) for name, q in QUANTITIES.items() if q.domain not in sized},
        **{name: getattr(analysis, name) for name in analysis.__all__},
        "symbol": symbol,
        "sp": sp,
    }


@magics_class
class Commands(Magics):
    """%list, %show and %explain, as ``python -m analysis`` has them."""

    @line_magic
    def list(self, line: str) -> Matches:
        """Results: all, or those with the words in name or formula."""
        return _asked(lambda: listing(line))

    @magic_arguments()
    @argument("--n", help="a size; any: the expression for any n")
    @argument("--latex", action="store_true", help="print LaTeX")
    @argument("name", nargs="+", help="address, part of one, or words")  # pyright: ignore[reportUntypedFunctionDecorator]
    @line_magic
    def show(self, line: str) -> Shown | Matches | None:
        """A result with every step to it."""
        try:
            asked = parse_argstring(self.show, line)
        except ValueError as error:  # of shlex: a quote that does not close
            raise UsageError(f"{error} in {line!r}: leave the quote out, or close it") from error
        found = _asked(lambda: show(" ".join(asked.name), read_size(asked.n)))
        if asked.latex and isinstance(found, Shown):
            sys.stdout.write(f"{found.latex()}\n")
            return None
        return found

    @line_magic
    def explain(self, line: str) -> Explanation | Matches:
        """A result, and the lines where it is derived and stated."""
        return _asked(lambda: explain(line))


def _asked(answer: Callable[[], T]) -> T:
    """The answer; what is wrong with the question is said in one line, without a traceback."""
    try:
        return answer()
    except (StructureError, UnknownResultError) as error:
        raise UsageError(str(error)) from error


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Bring names and commands, print expressions as mathematics, and errors of ours in a line."""
    ipython.push(names())
    ipython.register_magics(Commands)
    init_printing(ip=ipython)
    ours = tuple(x for x in vars(errors).values() if isinstance(x, type))
    ipython.set_custom_exc(ours, _without_traceback)


def _without_traceback(
    ipython: InteractiveShell, kind: type, error: BaseException, tb: Any, tb_offset: Any = None
) -> None:
    """Show the message alone, which says what to pass instead; %tb shows the rest."""
    ipython.showtraceback((kind, error, tb), tb_offset=tb_offset, exception_only=True)


def start() -> None:
    """Open the prompt."""
    config = Config()
    config.InteractiveShellApp.extensions = [__name__]
    config.TerminalInteractiveShell.banner1 = guide()
    config.TerminalInteractiveShell.enable_tip = False  # of IPython; the guide has what is wanted
    config.Completer.use_jedi = False  # which would read the sources, private names and all
    start_ipython(argv=[], config=config)
