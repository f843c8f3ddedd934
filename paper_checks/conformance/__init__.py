"""Random problems, independent witnesses and tolerances: what every solver is held against.

The gate runs them on this project's solvers; `conform(function)` and
`python -m paper_checks conform package.module:function` run them on anybody's.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness import conform
    from .report import Report, Row
    from .signatures import UnknownSignature

__all__ = ["EXAMPLES", "Report", "Row", "UnknownSignature", "conform"]

EXAMPLES = 25  # random problems per identity, as many as the gate has


def __getattr__(name: str) -> Any:
    """Import on first use: torch and SymPy take seconds, which `--help` need not wait for."""
    homes = {"conform": "harness", "Report": "report", "Row": "report"}
    homes["UnknownSignature"] = "signatures"
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
