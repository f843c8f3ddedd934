"""Where somebody else's code raised."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

_SHOWN = 6


def where(error: BaseException) -> str:
    """Return one line `at file:line` per frame, outermost first, without this package's own."""
    machinery = ("<frozen importlib", importlib.__file__, str(Path(__file__).parent))
    frames = [
        f"  at       {frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(machinery)
    ]
    return "\n".join(frames[:_SHOWN])
