"""Whatever is typed behind `python -m figures`: a message and an exit code, never a traceback."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fakes

OPTIONS = (
    "--seed",
    "--format",
    "--venue",
    "--data",
    "--targets",
    "--target",
    "--sep",
    "--encoding",
    "--decimal",
    "--na-values",
    "--engine",
    "--address",
    "--quick",
    "--full",
    "--list",
    "--nonsense",
)
WORDS = st.sampled_from(
    ["", "-1", "0", "1e3", "nan", "9" * 40, "T", "nonsense", ".", "/", "é∂", ",", "\\t", "png"]
)
ATTEMPTS = 40 if settings().derandomize else settings().max_examples


@settings(max_examples=ATTEMPTS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(OPTIONS), WORDS), min_size=1, max_size=5))
def test_arguments_of_the_figures(monkeypatch: Any, tmp_path: Any, words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fakes.install(patch)
        fakes.pass_gate(patch)
        result = fakes.command_line(tmp_path / "out")(*words)
    ended = result.exception
    assert ended is None or isinstance(ended, SystemExit), (words, ended)
    assert result.exit_code in (0, 1, 2), (words, result.output)
    assert result.exit_code == 0 or result.output.strip(), words
