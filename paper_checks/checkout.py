"""Do all rooms come from one checkout? A folder of the user's own may stand before one of them.

Python looks into the current folder first. In one that holds a folder `analysis`, say, that folder
is imported in place of the room of this name, and what follows is no result of this project.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("analysis", "solvers", "paper_checks", "figures")


class ForeignRoom(ImportError):
    """A room would be imported from somewhere else; the message names both places."""


def check(rooms: tuple[str, ...] = ROOMS, root: Path = ROOT) -> None:
    """Raise unless every room that can be imported lies in the folder `root`.

    Raises:
        ForeignRoom: one does not; nothing is imported to find out.
    """
    for room in rooms:
        spec = find_spec(room)
        if spec is None:
            continue
        # A package lies in a folder, with or without an __init__.py; a module is a file.
        places = spec.submodule_search_locations
        found = Path(next(iter(places)) if places else str(spec.origin)).resolve()
        if found != root / room:
            raise ForeignRoom(
                f"{room} is imported from {found}, the rest from {root}: start from another "
                f"folder, e.g. cd {root}, or rename {found.name}"
            )
