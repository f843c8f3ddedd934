"""``python -m analysis``: a prompt with the packages at hand; with a name, its explanation."""

from __future__ import annotations

import code
import sys
from importlib.util import find_spec
from typing import Any

import analysis
from analysis import UnknownResultError, explain
from analysis.calculus.symbols import symbol

BANNER = """\
Results by address: gaussian.outer.hypergradient("full", n=2); catalogue() lists them all.
Packages: bounded, categorical, dynamics, estimators, gaussian, hypergradients, rules.
explain("mean-field cost") shows a formula and where it is written; symbol("lam") is λ.
A derivation has .derived, .stated, .steps, .assumptions, .at(...), .verify() and .latex().\
"""


def names() -> dict[str, Any]:
    """What the prompt knows: everything public of `analysis`, and `symbol`."""
    return {name: getattr(analysis, name) for name in analysis.__all__} | {"symbol": symbol}


def main(words: list[str]) -> int:
    """Explain the words, or open a prompt; 2 if there is no such result."""
    if words:
        try:
            sys.stdout.write(f"{explain(' '.join(words))}\n")
        except UnknownResultError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        return 0
    if find_spec("IPython") is not None:
        from IPython import start_ipython
        from traitlets.config import Config

        config = Config()
        config.TerminalInteractiveShell.banner1 = BANNER + "\n"
        start_ipython(argv=[], user_ns=names(), config=config)
    else:
        code.interact(banner=BANNER, local=names(), exitmsg="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
