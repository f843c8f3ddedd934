"""The experiment on a wrong covariance, in any units of its reward; no picture is imported here."""

import pandas as pd
import pytest

from paper_checks.experiments import wrong_covariance


@pytest.mark.gate
def test_convergence_does_not_depend_on_units_of_the_reward() -> None:
    settings = wrong_covariance.Settings(lams=(1e-6, 1e6))
    task = wrong_covariance.tasks(settings)[-1]
    found = pd.DataFrame(wrong_covariance._run_task(task, settings, 0))
    assert found.converged.all()
    assert (found.inner_distance <= settings.tolerance).all()
    assert (found.measured - found.predicted).abs().max() <= 1e-6
