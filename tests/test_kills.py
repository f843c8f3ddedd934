"""What `make kills` does fifty times, once; and that a result that differs is noticed."""

import sys

from tests import kills


def test_a_killed_run_ends_at_the_same_bits() -> None:
    task = kills.checkpointed(steps=20)
    alone, seconds = kills.left_alone(task)
    assert kills.kill_once(task, alone, 0.85 * seconds) == ""


def test_a_result_that_differs_is_noticed() -> None:
    """A run that adds to what it finds, where it ought to start anew."""
    script = "import sys; open(sys.argv[1] + '/solution', 'a').write('x')"
    task = kills.Task(
        "checkpoint",
        lambda out: [sys.executable, "-c", script, str(out)],
        kills.checkpointed().results,
    )
    alone, _ = kills.left_alone(task)
    assert kills.kill_once(task, alone, 60.0) == "solution differs"
