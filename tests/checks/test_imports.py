"""What a test file of the gate stands on is read from it, and is what it imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from paper_checks import gate, store
from paper_checks.imports import closure

LOADED = """
import sys
from importlib import import_module
from pathlib import Path
import_module(sys.argv[1])
root = Path.cwd()
for module in list(sys.modules.values()):
    path = Path(getattr(module, "__file__", None) or "/")
    if path.is_relative_to(root) and ".venv" not in path.parts:
        print(path.relative_to(root).as_posix())
"""


def of(name: str) -> set[str]:
    files = closure(store.ROOT, [store.ROOT / name])
    return {path.relative_to(store.ROOT).as_posix() for path in files}


@pytest.mark.parametrize("name", ["tests/gate/test_bilevel.py", "tests/gate/test_categorical.py"])
def test_all_that_is_loaded_is_found(name: str) -> None:
    module = name.removesuffix(".py").replace("/", ".")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, module],
        cwd=store.ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert {"analysis/catalogue.py", "solvers/errors.py", name} <= loaded
    assert loaded <= of(name)


def test_proofs_stand_on_the_analysis_alone() -> None:
    found = of("tests/analysis/test_derivations.py")
    assert "analysis/calculus/normal_form.py" in found
    assert {path.split("/")[0] for path in found} == {"analysis", "tests"}


def test_every_file_with_a_test_of_the_gate_is_known() -> None:
    known = gate.digests()
    assert len(known) > 20
    assert len(set(known.values())) == len(known)
    assert {"tests/gate/test_gaussian.py", "tests/analysis/test_derivations.py"} <= known.keys()


def test_every_way_to_import_counts(tmp_path: Path) -> None:
    files = {
        "a/__init__.py": "",
        "a/one.py": "def f():\n    from .two import x\n",
        "a/two.py": "import b.deep.three, os",
        "a/not_imported.py": "",
        "b/__init__.py": "",
        "b/deep/__init__.py": "from .. import four",
        "b/deep/three.py": "from . import five, name",
        "b/deep/five.py": "from ...nowhere import x",
        "b/four.py": "import b.four\n",
        "start.py": "from a import one\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = closure(tmp_path, [tmp_path / "start.py"])
    assert {path.relative_to(tmp_path).as_posix() for path in found} == files.keys() - {
        "a/not_imported.py"
    }
