"""The API page of `solvers` shows what the room exports, with its docstrings."""

from __future__ import annotations

import inspect

import pdoc
import pdoc.doc
import pdoc.render

import solvers


def test_every_export_is_on_its_page() -> None:
    pdoc.render.configure(docformat="google", show_source=False)
    module = pdoc.doc.Module(solvers)
    page = pdoc.render.html_module(module, all_modules={"solvers": module})
    assert {member.name for member in module.members.values()} >= set(solvers.__all__)
    missing = [name for name in solvers.__all__ if f'id="{name}"' not in page]
    assert not missing
    docs = {name: inspect.getdoc(getattr(solvers, name)) or "" for name in solvers.__all__}
    # A dataclass without a docstring gets its signature for one.
    assert not [name for name, doc in docs.items() if not doc or doc.startswith(f"{name}(")]
    assert page.count('class="docstring"') > len(solvers.__all__)
