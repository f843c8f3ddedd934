"""The notebook of closed forms runs, and its numbers follow the sliders."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "closed_forms.py"


@dataclass(frozen=True)
class Slider:
    """A slider that was moved."""

    value: float


@pytest.fixture(scope="module")
def notebook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("closed_forms", NOTEBOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_from_top_to_bottom_and_shows_formulas(notebook):
    outputs, values = notebook.app.run()
    shown = "".join(output.text for output in outputs if hasattr(output, "text"))
    assert shown.count("status: verified") == 5
    assert "FAILED" not in shown
    assert values["p_exact"] == pytest.approx(values["share"].value)
    assert values["price"] > 0


@pytest.mark.parametrize(("lam", "variance", "weight"), [(0.5, 1.0, 2.0), (1.5, 0.3, 0.2)])
def test_the_numbers_follow_the_sliders(notebook, lam, variance, weight):
    moved = {"lam": Slider(lam), "variance": Slider(variance), "weight": Slider(weight)}
    _, values = notebook.app.run(defs=moved)
    assert values["best_weight"] == pytest.approx(lam / (2 * variance))
    assert values["trained"] == pytest.approx(lam / (2 * weight))
    assert values["slope"] == pytest.approx(1 / (2 * weight) - variance / lam)
    ratio = weight / (lam / (2 * variance))
    assert values["lost"] == pytest.approx((ratio - 1 - np.log(ratio)) / 2)
