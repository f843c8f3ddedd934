"""Paths in time as stated: this module imports no definition and no derivation."""

from __future__ import annotations

from typing import Any

import sympy as sp


def flow(P0: Any, Sigma: Any, t: Any) -> Any:
    """P(t) = Σ + e^{-t/2} (P₀ - Σ)."""
    return Sigma + sp.exp(-t / 2) * (P0 - Sigma)
