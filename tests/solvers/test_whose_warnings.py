"""Warnings point at the line of the user that called, by function, method object or solver."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .whose_warnings import EVERY


@cache
def missed() -> dict[str, list[str]]:
    script = Path(__file__).with_name("whose_warnings.py")
    root = script.parents[2]
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=root, env={"PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", EVERY)
def test_a_warning_points_at_the_call(name: str) -> None:
    assert missed()[name] == []
